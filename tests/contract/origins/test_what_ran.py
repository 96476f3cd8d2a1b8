"""The log says which programs ran a flow, with which versions, on every store."""

from importlib.metadata import version
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from chem_persistence import (
    Flow,
    FlowEngine,
    InMemoryFlowRepository,
    InvalidDefinition,
    StepSignal,
    flow,
    flow_page,
)
from chem_persistence.store.program import what_ran
from chem_persistence.views.flow_fold import FlowFold
from chem_persistence.views.flow_view import PageLimits
from chem_persistence.views.origin.programs import RanView, version_differences
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import Desk
from tests.support.leases.families import Add
from tests.support.leases.staff import Act, Acts, Number, chain, client_of, submit, working


def other_process(monkeypatch: pytest.MonkeyPatch, *, host: str = "node7", **more: Any) -> None:
    """Have the next record describe another process than this one."""
    program = {"python": "3.9.1", "chem_persistence": "0.0.1", "host": host, "process": 7, **more}
    monkeypatch.setattr(what_ran, "_program", lambda _pid, _records: program)


def adding(*amounts: int) -> Flow[Any, Any]:
    return chain(*(Add(amount, f"step {index}") for index, amount in enumerate(amounts)))


async def programs(desk: Desk, flow_id: UUID) -> list[RanView]:
    fold = FlowFold(PageLimits())
    for event in await desk.store.list(flow_id):
        fold.take(event)
    return fold.programs.first


async def recorded(desk: Desk, flow_id: UUID) -> list[int]:
    """Return the versions of the events that say what ran the flow."""
    return [event.version for event in await desk.store.list(flow_id) if "ran" in event.metadata]


def engine(desk: Desk, of: Flow[Any, Any]) -> FlowEngine[Any]:
    return FlowEngine(desk.store, InMemoryFlowRepository(desk.store), of)


async def test_the_first_append_says_what_runs_the_flow_and_the_others_do_not(desk: Desk) -> None:
    flow_id = await engine(desk, adding(1, 2)).run_to_end(input=Number(0))
    assert await recorded(desk, flow_id) == [0, 1]  # I and S are one append
    (ran,) = await programs(desk, flow_id)
    assert (ran.first, ran.last, ran.only_began) == (0, 5, False)
    assert ran.versions["chem_persistence"]
    assert ran.process


async def test_versions_of_the_packages_that_a_flow_names_are_recorded(desk: Desk) -> None:
    named = flow("named", Add(1, "one"), records=["msgspec", "no-such-package"]).then(Add(1, "two"))
    assert named.records == ("msgspec", "no-such-package")
    assert named.definition_hash == adding_hash(named)
    flow_id = await engine(desk, named).run_to_end(input=Number(0))
    (ran,) = await programs(desk, flow_id)
    assert ran.versions["msgspec"] == version("msgspec")
    assert ran.versions["no-such-package"] is None
    assert "no-such-package missing" in ran.in_words


def adding_hash(named: Flow[Any, Any]) -> str:
    """Return the hash of a flow's steps without a name and without records."""
    return Flow[Any, Any]("", named.steps).definition_hash


def test_packages_are_named_by_a_sequence_of_names() -> None:
    for wrong in ("rdkit", [""], ["ase", None]):
        with pytest.raises(InvalidDefinition, match="records must be the names of packages"):
            flow("wrong", Add(1, "one"), records=wrong)  # type: ignore[arg-type]


async def test_a_builder_takes_records_too(desk: Desk) -> None:
    builder = FlowEngine.builder(desk.store, InMemoryFlowRepository(desk.store))
    built = builder.first_step(Add(1, "one")).build(records=["msgspec"])
    (ran,) = await programs(desk, await built.run_to_end(input=Number(0)))
    assert "msgspec" in ran.versions


async def test_a_process_that_takes_over_is_recorded_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = adding(1, 2, 3)
    flow_id = (await engine(desk, of).run_step(input=Number(0))).id
    other_process(monkeypatch)
    second = engine(desk, of)
    await second.run_step(flow_id)
    await second.run_step(flow_id)
    first, later = await programs(desk, flow_id)
    assert (first.host, first.events) != (later.host, later.events)
    assert (later.where, later.versions["python"]) == ("node7:7", "3.9.1")
    assert await recorded(desk, flow_id) == [0, 1, later.first]


async def test_a_worker_says_what_runs_the_flow_that_another_program_submitted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = adding(1, 2)
    flow_id = await submit(desk, of)
    other_process(monkeypatch)
    async with working(desk, [of]):
        await client_of(desk).wait(flow_id)
    client, worker = await programs(desk, flow_id)
    assert client.only_began
    assert (worker.host, worker.events) == ("node7", "1 to 5")
    assert await recorded(desk, flow_id) == [0, 1]


async def test_a_flow_that_the_same_worker_claims_again_is_not_recorded_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = Acts()
    acts.failures.append(ValueError("once"))
    of = chain(Act(acts))
    flow_id = await submit(desk, of)
    other_process(monkeypatch)
    async with working(desk, [of]):
        await client_of(desk).wait(flow_id)
        await desk.store.append_kind(flow_id, StepSignal(0, "act", "looked at"))
        await client_of(desk).retry(flow_id, reason="again")
        await client_of(desk).result(of, flow_id)
    assert await recorded(desk, flow_id) == [0, 1]


async def test_a_branch_says_what_began_it_once(desk: Desk) -> None:
    old, new = adding(1, 2, 3), adding(1, 2, 4)
    parent = await engine(desk, old).run_to_end(input=Number(0))
    branch = await client_of(desk).branch(parent, new, reason="r")
    assert await recorded(desk, branch) == [0]
    assert [event.variant for event in await desk.store.list(branch)] == ["I", "F", "F"]


async def test_fingerprints_do_not_depend_on_what_ran(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = engine(desk, adding(1))
    await here.run_to_end(input=Number(0))
    expected = await here.flow_fingerprint()
    other_process(monkeypatch)
    there = engine(desk, adding(1))
    await there.run_to_end(new_flow_id(), Number(0))
    assert await there.flow_fingerprint() == expected


async def test_two_flows_are_compared_by_the_versions_that_ran_their_steps(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = adding(1)
    other_process(monkeypatch, packages={"ase": "3.1"})
    left = await engine(desk, of).run_to_end(input=Number(0))
    other_process(monkeypatch, packages={"ase": "3.2"}, commit="ab" * 20)
    right = await engine(desk, of).run_to_end(input=Number(0))
    logs = [await desk.store.list(flow_id) for flow_id in (left, right)]
    assert [each.in_words for each in version_differences(*logs)] == [
        "ase 3.1 and 3.2",
        f"commit not recorded and {'ab' * 20}",
    ]
    assert version_differences(logs[0], logs[0]) == []


async def test_the_page_and_what_others_wrote_under_the_key(desk: Desk) -> None:
    flow_id = await engine(desk, adding(1)).run_to_end(input=Number(0))
    page = await flow_page(desk.store, flow_id)
    assert "What ran" in page
    (event,) = await desk.store.list(flow_id, limit=1)
    fold = FlowFold(PageLimits())
    for odd in ({"ran": "x"}, {"ran": {"host": 1, "process": "?", "packages": [], "python": 3}}):
        fold.take(replace(event, metadata=odd))
    (ran,) = fold.programs.first
    assert ran.in_words == "python 3, chem_persistence missing"

"""A completed flow is run again, and what comes out is compared with the record."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import (
    Agreement,
    Artifact,
    DefinitionMismatch,
    Flow,
    FlowAwaitsUser,
    FlowClient,
    FlowEngine,
    FlowIsWaiting,
    FlowNotCompleted,
    FlowNotFound,
    RetryPolicy,
    Step,
    StepContext,
    StepSignal,
    Tolerance,
    audit_flow,
    flow,
    record_audit,
)
from chem_persistence.store.leasing.children import child_id
from tests.contract.people.test_questions_to_people import Review, Verdict, reviewed
from tests.support.flows.flows import new_flow_id
from tests.support.leases.families import Add, mapped
from tests.support.leases.staff import Number
from tests.support.servers.backends import Backend


class Drifting(Step[Number, Number]):
    """Gives the next of some numbers each time it runs; an exception is raised."""

    id = "drifting"

    def __init__(self, *given: int | Exception, retry: RetryPolicy | None = None) -> None:
        self.given: Iterator[int | Exception] = iter(given)
        self.retry = retry or RetryPolicy()

    async def run(self, _: Number, _context: StepContext) -> Number:
        given = next(self.given)
        if isinstance(given, Exception):
            raise given
        return Number(given)


class Reader(Step[Number, Number]):
    """Stores an artifact beside its output, and reads the one that an earlier step stored."""

    id = "reader"

    async def run(self, number: Number, context: StepContext) -> Number:
        named = context.add_artifact(Artifact.from_payload(kind="grid", payload=[number.n]))
        assert named
        return Number(number.n + 1)


async def ran(backend: Backend, audited: Flow[Number, Any], n: int = 1) -> UUID:
    engine = FlowEngine(backend.store, backend.repository, audited)
    return await engine.run_to_end(input=Number(n))


async def test_a_deterministic_flow_agrees_bit_for_bit(backend: Backend) -> None:
    audited = flow("sure", Add(1, "one")).then(Reader()).then(Add(2, "two"))
    flow_id = await ran(backend, audited)
    before = await backend.store.list(flow_id)
    audit = await audit_flow(backend.store, audited, flow_id)
    assert audit.agreement is Agreement.EQUAL
    assert [(each.step_id, each.differing) for each in audit.steps] == [
        ("one", 0),
        ("reader", 0),
        ("two", 0),
    ]
    assert await backend.store.list(flow_id) == before  # nothing is stored

    await record_audit(backend.store, audit, actor="Ada")
    last = (await backend.store.list(flow_id))[-1]
    assert isinstance(last.kind, StepSignal)
    assert (last.kind.signal, last.metadata["actor"]) == ("chem_persistence.audited", "Ada")
    assert last.kind.data["steps"] == dict.fromkeys(("one", "reader", "two"), "bit-equal")
    assert (await audit_flow(backend.store, audited, flow_id)).agreement is Agreement.EQUAL


async def test_a_difference_is_named_with_its_step_and_path(backend: Backend) -> None:
    audited = flow("drifts", Add(1)).then(Drifting(1_000, 1_001, 1_001)).then(Add(1, "after"))
    flow_id = await ran(backend, audited)
    audit = await audit_flow(backend.store, audited, flow_id)
    assert [each.agreement for each in audit.steps] == [
        Agreement.EQUAL,
        Agreement.DIFFERENT,
        Agreement.DIFFERENT,
    ]
    (difference,) = audit.steps[1].differences
    assert (difference.path, difference.left, difference.right) == ("$.n", 1_000, 1_001)
    assert [each.on_other_input for each in audit.steps] == [False, False, True]
    close = await audit_flow(backend.store, audited, flow_id, Tolerance(relative=1e-2))
    assert close.agreement is Agreement.CLOSE


async def test_a_step_that_fails_now_is_different(backend: Backend) -> None:
    audited = flow("fails", Drifting(1, ValueError("no licence"))).then(Add(1))
    audit = await audit_flow(backend.store, audited, await ran(backend, audited))
    assert [each.reason for each in audit.steps] == ["no licence", "the flow did not come so far"]
    assert audit.agreement is Agreement.DIFFERENT


async def test_a_retry_is_part_of_the_run(backend: Backend) -> None:
    retry = RetryPolicy(attempts=2, first=RetryPolicy().first * 0)
    audited = flow("tries", Drifting(1, ValueError("once"), 1, retry=retry))
    audit = await audit_flow(backend.store, audited, await ran(backend, audited))
    assert audit.agreement is Agreement.EQUAL


async def test_only_a_completed_flow_of_the_definition_is_audited(backend: Backend) -> None:
    audited, other = flow("one", Add(1)), flow("two", Add(2))
    with pytest.raises(FlowNotFound):
        await audit_flow(backend.store, audited, new_flow_id())
    begun = flow("begun", Add(1)).then(Add(2, "two"))
    engine = FlowEngine(backend.store, backend.repository, begun)
    half = await engine.run_step(input=Number(1))
    with pytest.raises(FlowNotCompleted):
        await audit_flow(backend.store, begun, half.id)
    with pytest.raises(DefinitionMismatch):
        await audit_flow(backend.store, other, await ran(backend, audited))


async def test_the_flows_that_a_step_runs_run_again(backend: Backend) -> None:
    audited = mapped(Add(1), at_once=2)
    audit = await audit_flow(backend.store, audited, await ran(backend, audited, 4))
    assert audit.agreement is Agreement.EQUAL


async def test_an_answer_is_given_again_as_it_was(backend: Backend) -> None:
    audited = reviewed()
    engine = FlowEngine(backend.store, backend.repository, audited)
    flow_id = new_flow_id()
    with pytest.raises(FlowAwaitsUser):
        await engine.run_to_end(flow_id, input=Number(1))
    client = FlowClient(backend.store, backend.repository)
    await client.answer(flow_id, "review", Verdict(accept=True, more=3), actor="Ada")
    await engine.run_to_end(flow_id)
    assert (await audit_flow(backend.store, audited, flow_id)).agreement is Agreement.EQUAL


async def test_a_branch_is_audited_with_the_answer_that_its_parent_got(backend: Backend) -> None:
    client, old = FlowClient(backend.store, backend.repository), reviewed().then(Add(1))
    new, parent = reviewed().then(Add(5)), new_flow_id()
    with pytest.raises(FlowAwaitsUser):
        await FlowEngine(backend.store, backend.repository, old).run_to_end(parent, Number(1))
    await client.answer(parent, "review", Verdict(accept=True, more=3), actor="Ada")
    await FlowEngine(backend.store, backend.repository, old).run_to_end(parent)
    branch = await client.branch(parent, new, Number(1), reason="more")
    await FlowEngine(backend.store, backend.repository, new).run_to_end(branch)
    assert "V" not in {event.variant for event in await backend.store.list(branch)}
    assert (await audit_flow(backend.store, new, branch)).agreement is Agreement.EQUAL


async def test_the_answers_that_children_got_are_given_again(backend: Backend) -> None:
    audited = mapped(Review(), at_once=2)
    engine = FlowEngine(backend.store, backend.repository, audited)
    flow_id, client = new_flow_id(), FlowClient(backend.store, backend.repository)
    with pytest.raises(FlowIsWaiting):
        await engine.run_to_end(flow_id, input=Number(3))
    children = [child_id(flow_id, 1, item) for item in range(2)]
    for number, child in enumerate(children):
        await client.answer(child, "review", Verdict(accept=True, more=number), actor="Ada")
    with pytest.raises(FlowIsWaiting):  # the third one, which comes when others have ended
        await engine.run_to_end(flow_id)
    await client.answer(child_id(flow_id, 1, 2), "review", Verdict(accept=True), actor="Ada")
    await engine.run_to_end(flow_id)
    audit = await audit_flow(backend.store, audited, flow_id)
    assert audit.agreement is Agreement.EQUAL

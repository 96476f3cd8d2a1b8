"""The commands about flows that are given to workers."""

import importlib
import json
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from chem_persistence import (
    FlowInitialized,
    ResultOrigin,
    RetryScheduled,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.store.leasing.slots import slots_of
from tests.documentation.test_command_line_reference import documented
from tests.support.commands import command
from tests.support.faults.fleet import fleet_flow
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import HOUR, Desk, failed, postgres_desk
from tests.support.leases.staff import client_of, submit, trace, until, working

if TYPE_CHECKING:
    import asyncpg

MODULE = """
from tests.support.faults.fleet import fleet_flow

one = fleet_flow()
several = [one, one]
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """Return the directory of a module with flows."""
    (tmp_path / "my_flows.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


class Commands:
    """Runs commands on the database of a test, in the directory of its module."""

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = directory

    async def run(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        """Return what a command prints: the error, if it is to end with another exit code."""
        done = await command(
            *arguments, "--database-url", self._url, cwd=self._directory, stdin=stdin
        )
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    async def json(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(await self.run(*arguments, "--json", stdin=stdin))

    async def found(self, *arguments: str) -> Any:
        """Return what a command prints as JSON that ends with exit code 1."""
        line = (*arguments, "--json", "--database-url", self._url)
        done = await command(*line, cwd=self._directory)
        assert (done.returncode, done.stderr) == (1, "")
        return json.loads(done.stdout)


@pytest.fixture
def commands(database_url: str, module: Path) -> Commands:
    return Commands(database_url, module)


async def failed_flow(desk: Desk) -> UUID:
    """Return a flow whose first step has failed."""
    flow_id = await submit(desk, fleet_flow())
    failure = failed()
    await desk.store.append_kinds(
        flow_id,
        [StepStarted(0, "one"), type(failure)(0, "one", failure.error, failure.fingerprint)],
    )
    return flow_id


# ---- answer


async def test_a_question_is_listed_and_answered(desk: Desk, commands: Commands) -> None:
    flow_id = await submit(desk, fleet_flow())
    schema = {"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}
    until = datetime.now(UTC) + 2 * HOUR
    asked = UserInteractionRequested(0, "one", schema, "Is it\ngood?", until)
    await desk.store.append_kinds(flow_id, [StepStarted(0, "one"), asked], expected_version=1)

    printed = await commands.run("waiting")
    assert f"{flow_id} one has waited for an answer for " in printed
    assert " left; asks: Is it good?" in " ".join(printed.split())
    (listed,) = (await commands.json("waiting"))["flows"]
    assert listed["question"]["step_id"] == "one"

    answer = ("answer", str(flow_id), "one", "--actor", "Ada", "--json")
    assert "'good' is a required property" in await commands.run(*answer, "{}", code=2)
    assert "is not JSON" in await commands.run(*answer, "{", code=2)
    assert "STEP" in await commands.run("answer", str(flow_id), "two", *answer[3:], "{}", code=2)
    printed = await commands.run(*answer, "-", stdin='{"good": true}')
    assert printed == f"flow {flow_id} is running\n"
    assert "waits for no answer" in await commands.run(*answer, '{"good": false}', code=2)
    event = (await desk.store.list(flow_id))[-1]
    assert isinstance(event.kind, UserInteractionProvided)
    assert (event.kind.provided, event.metadata["actor"]) == ({"good": True}, "Ada")


# ---- audit

DRIFTING = """
from pathlib import Path

import msgspec

from chem_persistence import flow, step

DRIFT = Path(__file__).with_name("drift")


class Score(msgspec.Struct):
    value: float


@step("double")
def double(score: Score) -> Score:
    return Score(2 * score.value)


@step("drift")
def drift(score: Score) -> Score:
    return Score(score.value + float(DRIFT.read_text()))


drifting = flow("drifting", double).then(drift)
"""


async def test_a_flow_is_audited(
    desk: Desk, commands: Commands, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (module / "drifting.py").write_text(DRIFTING, encoding="utf-8")
    (module / "drift").write_text("0")
    monkeypatch.syspath_prepend(module)
    code = "drifting:drifting"
    (flow_id,) = (await commands.json("submit", code, '{"value": 2}'))["flow_ids"]
    audit = ("audit", flow_id, code, "--actor", "Ada")
    assert "is not completed" in await commands.run(*audit, code=2)
    drifting = importlib.import_module("drifting").drifting
    async with working(desk, [drifting]):
        await client_of(desk).result(drifting, UUID(flow_id))

    printed = await commands.run(*audit)
    assert printed.splitlines()[-1] == f"flow {flow_id} is bit-equal"
    (module / "drift").write_text("0.25")
    found = await commands.found(*audit)
    (example,) = documented("audit")["steps"]
    assert found.keys() == documented("audit").keys()
    assert found["steps"][1].keys() == example.keys()
    assert found["steps"][1]["differences"] == [
        {"path": "$.value", "left": 4.0, "right": 4.25, "is_close": False}
    ]
    printed = await commands.run(*audit, "--rtol", "0.1")
    assert "1 value; $.value 4 now 4.25" in printed
    audits = [
        event.kind.data["agreement"]
        for event in await desk.store.list(UUID(flow_id))
        if isinstance(event.kind, StepSignal)
    ]
    assert audits == ["bit-equal", "different", "within tolerance"]


async def test_two_flows_are_compared_value_by_value(
    desk: Desk, commands: Commands, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (module / "drifting.py").write_text(DRIFTING, encoding="utf-8")
    monkeypatch.syspath_prepend(module)
    monkeypatch.delitem(sys.modules, "drifting", raising=False)
    drifting = importlib.import_module("drifting").drifting
    flow_ids = []
    for drift in ("0", "0.25"):
        (module / "drift").write_text(drift)
        (flow_id,) = (await commands.json("submit", "drifting:drifting", '{"value": 2}'))[
            "flow_ids"
        ]
        async with working(desk, [drifting]):
            await client_of(desk).result(drifting, UUID(flow_id))
        flow_ids.append(flow_id)

    found = await commands.found("diff", *flow_ids)
    assert found.keys() == documented("diff").keys()
    assert found["first"].keys() == documented("diff")["first"].keys()
    assert found["first"] == {
        "step": 1,
        "step_id": "drift",
        "because": ["nothing that is recorded"],
    }
    (value,) = found["values"]
    assert value.keys() == documented("diff")["values"][0].keys()
    assert (value["path"], value["left"], value["right"]) == ("$.value", 4.0, 4.25)
    printed = await commands.run("diff", *flow_ids, "--rtol", "0.1")
    assert "first: step 1 (drift), because of nothing that is recorded" in printed
    assert printed.endswith("the same within the tolerance\n")


async def test_a_flow_is_branched(
    desk: Desk, commands: Commands, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (module / "drifting.py").write_text(DRIFTING, encoding="utf-8")
    (module / "drift").write_text("0")
    monkeypatch.syspath_prepend(module)
    monkeypatch.delitem(sys.modules, "drifting", raising=False)
    drifting = importlib.import_module("drifting").drifting
    parent = (await commands.json("submit", "drifting:drifting", '{"value": 2}'))["flow_ids"][0]
    async with working(desk, [drifting]):
        await client_of(desk).result(drifting, UUID(parent))
    branch = ("branch", parent, "drifting:drifting", "--reason", "again")
    assert "nothing would be run" in await commands.run(*branch, code=2)
    printed = await commands.json(*branch, "--from", "drift", "--actor", "Ada")
    assert printed.keys() == documented("branch").keys()
    assert printed["parent"] == parent
    assert await trace(desk, UUID(printed["flow_id"])) == "IF"
    assert await commands.run(*branch, "--from", "double", "--label", "whole")


# ---- parameters

WITH_PARAMS = """
import msgspec

from chem_persistence import Step, flow


class Score(msgspec.Struct):
    value: float


class Factor(msgspec.Struct, frozen=True):
    factor: float = 2.0


class Scale(Step[Score, Score]):
    params: Factor = Factor()

    def __init__(self, id):
        self.id = id

    async def run(self, score, context):
        return Score(score.value * self.params.factor)


scaled = flow("scaled", Scale("one")).then(Scale("two"))
"""


async def test_a_person_sets_parameters_of_a_submission_and_of_a_branch(
    desk: Desk, commands: Commands, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (module / "scaling.py").write_text(WITH_PARAMS, encoding="utf-8")
    monkeypatch.syspath_prepend(module)
    scaled = importlib.import_module("scaling").scaled
    submission = ("submit", "scaling:scaled", '{"value": 1}')
    for wrong, reason in (
        ("factor=3", "several steps have it: one, two"),
        ("one.factr=3", "step 'one' has no parameter factr; it has factor"),
        ("one.factor=x", "Expected `float`, got `str`"),
    ):
        assert reason in await commands.run(*submission, "--set", wrong, code=2)
    (parent,) = (await commands.json(*submission, "--set", "one.factor=3"))["flow_ids"]
    branch = ("branch", parent, "scaling:scaled", "--reason", "r", "--set", "factor=5")
    async with working(desk, [scaled]):
        assert (await client_of(desk).result(scaled, UUID(parent))).value == 6
        branched = (await commands.json(*branch, "--from", "two"))["flow_id"]
        assert (await client_of(desk).result(scaled, UUID(branched))).value == 15
        recorded = (await commands.json("branch", parent, "--set", "two.factor=7"))["flow_id"]
        assert (await client_of(desk).result(scaled, UUID(recorded))).value == 21
    (first, *_) = await desk.store.list(UUID(recorded))
    assert first.metadata["reason"] == "two.factor=7"
    assert (await trace(desk, UUID(branched))).startswith("IF")
    assert "set          one.factor = 3 by the person\n" in await commands.run("show", parent)
    shown = (await commands.json("show", branched))["parameters"]
    assert shown == [
        {"step": step, "name": "factor", "value": value, "set_by": "person"}
        for step, value in (("one", 3), ("two", 5))
    ]
    tree = await commands.run("show", branched)
    assert re.search(f"\n{parent} +completed *\n├─ {branched} +completed +this flow", tree)
    assert "two.factor 2 -> 5" in tree
    (root, *_) = (await commands.json("show", parent))["branches"]
    assert root.keys() == documented("show")["branches"][0].keys()
    await commands.run("audit", branched, "scaling:scaled", "--actor", "Ada")


# ---- submit


async def test_a_flow_that_is_submitted_is_run(desk: Desk, commands: Commands) -> None:
    printed = await commands.run("submit", "my_flows:one", '{"n": 1}')
    flow_id = UUID(printed.strip())
    async with working(desk, [fleet_flow()]):
        await until(desk, flow_id, lambda events: events[-1].variant == "C")
    assert (await client_of(desk).result(fleet_flow(), flow_id)).n == 4


async def test_the_lines_of_standard_input_are_submitted(desk: Desk, commands: Commands) -> None:
    printed = await commands.json(
        "submit", "my_flows:one", "-", "--label", "batch", stdin='{"n": 1}\n\n{"n": 2}\n'
    )
    assert printed.keys() == documented("submit").keys()
    assert len(printed["flow_ids"]) == 2
    for flow_id in map(UUID, printed["flow_ids"]):
        (event,) = await desk.store.list(flow_id)
        assert isinstance(event.kind, FlowInitialized)
        assert event.kind.label == "batch"


async def test_a_submission_can_be_repeated_and_be_for_later(
    desk: Desk, commands: Commands
) -> None:
    flow_id = new_flow_id()
    arguments = ["submit", "my_flows:one", '{"n": 1}', "--flow-id", str(flow_id)]
    for _ in range(2):
        await commands.run(*arguments, "--due", "2199-01-01T00:00:00Z")
    assert await trace(desk, flow_id) == "I"
    assert (await desk.seen(flow_id)).due != "now"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my_flows:one", "{"], "is not JSON"),
        (["my_flows:one", '{"n": "x"}'], "is no input of the flow: $.n: Expected `int`"),
        (["my_flows:one"], "does not take NoneType"),
        (["my_flows:one", '{"n": 1}', "--due", "now"], "is not a time of ISO 8601"),
        (["my_flows:one", '{"n": 1}', "--due", "2026-01-01"], "must have a time zone"),
        (["my_flows:one", '{"n": 1}', "--flow-id", "1"], "'1' is not a UUID"),
        (["my_flows:one", '{"n": 1}', '{"n": 2}', "--flow-id", f"{new_flow_id()}"], "for one"),
        (["my_flows:several", '{"n": 1}'], "holds 2 flows"),
        (["my_flows:none", '{"n": 1}'], "has no flow"),
    ],
)
async def test_what_cannot_be_submitted_is_wrong_use(
    commands: Commands, arguments: list[str], message: str
) -> None:
    assert message in await commands.run("submit", *arguments, code=2)
    assert (await commands.json("waiting"))["flows"] == []


# ---- retry and cancel


async def test_a_failed_flow_is_tried_again(desk: Desk, commands: Commands) -> None:
    flow_id = await failed_flow(desk)
    printed = await commands.json("retry", str(flow_id), "--reason", "mended", "--actor", "ann")
    assert printed.keys() == documented("retry").keys()
    event = (await desk.store.list(flow_id))[-1]
    assert (event.variant, event.metadata["actor"]) == ("R", "ann")
    assert (await desk.seen(flow_id)).due == "now"
    assert "has failed" in await commands.run("retry", str(flow_id), "--reason", "no", code=2)


async def test_a_flow_is_cancelled(desk: Desk, commands: Commands) -> None:
    flow_id = await submit(desk, fleet_flow())
    await commands.run("cancel", str(flow_id), "--reason", "not needed")
    printed = await commands.json("cancel", str(flow_id), "--reason", "again")
    assert printed.keys() == documented("cancel").keys()
    assert printed["state"] == "cancelled"
    assert await trace(desk, flow_id) == "IK"
    assert "was cancelled" in await commands.run("retry", str(flow_id), "--reason", "x", code=2)


async def test_the_worker_of_a_flow_that_waits_is_asked_to_cancel_it(
    desk: Desk, commands: Commands
) -> None:
    flow_id = await submit(desk, fleet_flow())
    await desk.store.append_kinds(flow_id, [StepStarted(0, "one"), StepWaits(0, "one", None)])
    printed = await commands.run("cancel", str(flow_id), "--reason", "not needed")
    assert printed == f"flow {flow_id} is waiting; its worker is asked to cancel it\n"
    await commands.run("cancel", str(flow_id), "--reason", "not needed", "--force")
    assert await trace(desk, flow_id) == "ISWGK"


async def test_a_completed_flow_is_not_cancelled(desk: Desk, commands: Commands) -> None:
    flow_id = await submit(desk, fleet_flow())
    async with working(desk, [fleet_flow()]):
        await until(desk, flow_id, lambda events: events[-1].variant == "C")
    assert "is completed" in await commands.run("cancel", str(flow_id), "--reason", "x", code=2)


# ---- invalidate, and what was taken over


async def test_a_result_is_invalidated_and_who_took_it_over_is_listed(
    desk: Desk, commands: Commands
) -> None:
    origin, copy = await submit(desk, fleet_flow()), await submit(desk, fleet_flow())
    result = StepFinished(0, "one", ("a" * 64,), "f" * 64)
    await desk.store.append_kinds(origin, [StepStarted(0, "one"), result])
    await desk.store.append_kind(copy, replace(result, reused_from=ResultOrigin(origin, 2)))
    figures = await commands.json("stats", "--reuse")
    assert figures["seconds_saved"] == 0
    assert [(each["step_id"], each["times"]) for each in figures["steps"]] == [("one", 1)]
    assert "1 step did not run" in await commands.run("stats", "--reuse")

    words = ("--reason", "wrong", "--actor", "Ada")
    refused = await commands.run("invalidate", str(copy), "one", *words, code=2)
    assert f"from flow {origin}: invalidate it there" in refused
    assert "has no result" in await commands.run("invalidate", str(copy), "two", *words, code=2)
    printed = await commands.run("invalidate", str(origin), "one", *words)
    assert printed.startswith(f"the result of one of flow {origin} is invalid\n1 flow took it over")
    assert str(copy) in printed
    again = await commands.json("invalidate", str(origin), "one", *words)
    assert again.keys() == documented("invalidate").keys()
    assert again["new"] is False
    printed = await commands.run("show", str(origin))
    assert "taken over by" in printed
    assert "; Ada: wrong" in printed
    (step, *_) = (await commands.json("show", str(copy)))["steps"]
    assert (step["attempt_count"], step["attempts"][0]["outcome"]) == (0, "reused")
    assert step["reused_from"] == {"flow_id": str(origin), "version": 2}
    assert await trace(desk, origin) == "ISFG"


async def test_a_submission_that_takes_nothing_over(desk: Desk, commands: Commands) -> None:
    printed = await commands.json("submit", "my_flows:one", '{"n": 1}', "--no-reuse")
    (first,) = await desk.store.list(UUID(printed["flow_ids"][0]))
    assert first.metadata["reuse"] == "never"


# ---- waiting and workers


async def test_the_flows_that_no_worker_runs_are_listed(desk: Desk, commands: Commands) -> None:
    due, later = await submit(desk, fleet_flow()), await submit(desk, fleet_flow(), due_in=2 * HOUR)
    ended, running = await failed_flow(desk), await submit(desk, fleet_flow())
    await desk.take(running)
    printed = await commands.json("waiting")
    assert printed.keys() == documented("waiting").keys()
    (example,) = documented("waiting")["flows"]
    assert printed["flows"][0].keys() == example.keys()
    assert printed["flows"][0]["flow"].keys() == example["flow"].keys()
    assert [(UUID(each["flow_id"]), each["is_due"]) for each in printed["flows"]] == [
        (due, True),
        (later, False),
        (ended, False),
    ]
    assert [each["workers"] for each in printed["flows"]] == [0, 0, 0]
    lines = (await commands.run("waiting")).splitlines()
    assert lines[0].split() == ["flow", "name", "state", "due", "workers"]
    assert [" ".join(line.split()[-4:-1]) for line in lines[2:4]][1] == "not by itself"
    assert lines[4].startswith("no worker serves definition ")
    assert (await commands.run("waiting", "-n", "1")).endswith("there are more: --limit 2\n")


async def test_a_flow_whose_step_is_tried_again_later_is_not_called_running(
    desk: Desk, commands: Commands
) -> None:
    flow_id = await failed_flow(desk)
    later = RetryScheduled("one", 1, "again", not_before=datetime.now(UTC) + 2 * HOUR)
    await desk.store.append_kind(flow_id, later)
    assert "to retry one" in " ".join((await commands.run("waiting")).split())


async def test_a_flow_whose_lease_has_ended_is_listed(desk: Desk, commands: Commands) -> None:
    flow_id = await submit(desk, fleet_flow())
    await desk.take(flow_id)
    await desk.make_due(flow_id)
    (listed,) = (await commands.json("waiting"))["flows"]
    assert (UUID(listed["flow_id"]), listed["is_due"]) == (flow_id, True)


async def test_limits_are_set_and_listed_with_who_uses_them(desk: Desk, commands: Commands) -> None:
    assert await commands.run("limits") == "no resource is limited over all workers\n"
    await commands.run("limits", "gpu=2", "license=1")
    flow_ids = [await submit(desk, fleet_flow()) for _ in range(3)]
    slots = slots_of(desk.leases)
    assert slots is not None
    for flow_id, amount in zip(flow_ids, (2, 1, 3), strict=True):
        await slots.take(flow_id, 0, {"gpu": amount})
    printed = await commands.json("limits", "license=none")
    (limit,) = printed["limits"]
    assert limit.keys() == documented("limits")["limits"][0].keys()
    assert (limit["resource"], limit["most"], limit["used"]) == ("gpu", 2, 2)
    assert limit["users"] == [{"flow_id": str(flow_ids[0]), "step_index": 0, "slots": 2}]
    assert (limit["waiting"], limit["impossible"]) == (2, 1)
    lines = (await commands.run("limits")).splitlines()
    assert lines[1].split() == ["gpu", "2", "2", "2", str(flow_ids[0]), "(2)"]
    assert lines[2].startswith("1 flow uses more than a limit")


@pytest.mark.parametrize("change", ["gpu", "=2", "gpu=0", "gpu=some", "gpu=10001"])
async def test_what_sets_no_limit_is_wrong_use(commands: Commands, change: str) -> None:
    assert "must be" in await commands.run("limits", change, code=2)


async def test_the_workers_are_listed_until_they_stop(desk: Desk, commands: Commands) -> None:
    assert await commands.run("workers") == "no workers\n"
    assert (await commands.run("waiting")).startswith("no flow waits")
    later = await submit(desk, fleet_flow(), due_in=HOUR)
    async with working(desk, [fleet_flow()], name="node7:1") as worker:
        await until(desk, await submit(desk, fleet_flow()), lambda found: found[-1].variant == "C")
        printed = await commands.json("workers")
        (listed,) = printed["workers"]
        assert listed.keys() == documented("workers")["workers"][0].keys()
        assert (UUID(listed["worker_id"]), listed["name"]) == (worker.id, "node7:1")
        assert listed["definitions"] == [fleet_flow().definition_hash]
        assert "node7:1" in await commands.run("workers")
        (waiting,) = (await commands.json("waiting"))["flows"]
        assert (UUID(waiting["flow_id"]), waiting["workers"]) == (later, 1)
    assert (await commands.json("workers"))["workers"] == []

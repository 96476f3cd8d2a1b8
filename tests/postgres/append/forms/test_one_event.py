"""An append of one event by its columns stores, refuses and recognises what one by rows does.

Two schemas get the same appends, one after another: one by the form that the library chooses, the
other by rows. What they store and answer is compared, the rows of steps and of flows as well.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from chem_persistence import (
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    PropertyPreferenceAssigned,
    ResultOrigin,
    StepFinished,
    StepSignal,
    StepStarted,
    build_pool,
)
from chem_persistence.domain.events import SEALED, LibrarySignal
from chem_persistence.postgres.append import place_events
from chem_persistence.postgres.append.forms.one_event import is_one_event
from chem_persistence.postgres.append.forms.rows import Write
from chem_persistence.postgres.append.place_events import Append, FlowHeads, append_batch
from chem_persistence.postgres.append.settle import Refused, Stored, TryAgain
from chem_persistence.store.append_request import AppendCall, append_request
from tests.support.examples import examples
from tests.support.flows.flows import new_flow_id
from tests.support.flows.histories import ANY_KIND, BEGIN

TABLES = {
    "event_log": "flow_id, version",
    "workflow_step_executions": "flow_id, step_index",
    "flow_runs": "flow_id",
}
LEASES = [uuid4(), uuid4()]
HOLD = "UPDATE flow_runs SET lease = $2, holder = $2 WHERE flow_id = $1"
FREE = "UPDATE flow_runs SET lease = NULL, holder = NULL, called = false WHERE flow_id = $1"

USUAL: st.SearchStrategy[FlowEventKind] = st.one_of(
    st.builds(StepStarted, st.integers(0, 2), st.sampled_from(["a", "b"])),
    st.builds(
        StepFinished, st.integers(0, 2), st.just("a"), st.just(("a" * 64,)), st.just("f" * 64)
    ),
    st.builds(StepSignal, st.just(0), st.just("a"), st.just("next")),
    st.just(PropertyPreferenceAssigned("logP", "crippen", "0" * 64, {"é": 1e16})),
    st.just(BranchCreated(UUID(int=5), UUID(int=6), UUID(int=6), "a", "d" * 64)),
    st.just(FlowCompleted("f" * 64)),
    st.just(FlowCancelled("no")),
    st.just(LibrarySignal(0, "a", SEALED)),
    st.just(StepFinished(0, "a", ("b" * 64,), "f" * 64, ResultOrigin(UUID(int=7), 3))),
    ANY_KIND,
)


class Call(msgspec.Struct, frozen=True):
    """One append: its flow, its fact, how far it is off, its lease, and who holds the flow then."""

    flow: int
    fact: FlowEventKind
    offset: int | None
    lease: int | None
    held_by: int | None
    repeats: bool


CALLS = st.lists(
    st.builds(
        Call,
        flow=st.integers(0, 1),
        fact=USUAL,
        offset=st.sampled_from([None, None, 0, 0, 0, 0, -1, 1]),
        lease=st.sampled_from([None, None, 0, 1]),
        held_by=st.sampled_from([None, 0, 0, 1]),
        repeats=st.sampled_from([False, False, False, True]),
    ),
    min_size=4,
    max_size=14,
)


class Log:
    """One of the two logs, and how often the form of one event was sent to it."""

    def __init__(self, connection: Any, *, by_rows: bool) -> None:
        self.connection = connection
        self.heads = FlowHeads()
        self.by_rows = by_rows
        self.sent = 0

    async def append(self, call: AppendCall, at: datetime) -> Any:
        """Append as a program does, and return the events, or the error as text."""
        append = Append(append_request(call, ts=at, max_artifact_bytes=2**20))
        while True:
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(place_events, "is_one_event", self._is_one_event)
                    outcomes = await append_batch(self.connection, [append], self.heads)
            except Exception as raised:  # noqa: BLE001  # both logs have to raise it
                return type(raised)
            match outcomes[append]:
                case Stored(events):
                    return [msgspec.structs.replace(event, seq=0) for event in events]
                case Refused(error):
                    return type(error), str(error)
                case TryAgain():
                    pass

    def _is_one_event(self, write: Write) -> bool:
        chosen = not self.by_rows and is_one_event(write)
        self.sent += chosen
        return chosen

    async def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Return all rows but for what no two logs share: seqs, and times of the server."""
        found = {}
        for table, order in TABLES.items():
            rows = await self.connection.fetch(f"SELECT * FROM {table} ORDER BY {order}")
            found[table] = [
                {
                    name: value is None if name == "due_at" else value
                    for name, value in row.items()
                    if name != "seq"
                }
                for row in rows
            ]
        return found


@pytest.fixture
async def logs(admin_url: str) -> AsyncIterator[tuple[Log, Log]]:
    pools = [await build_pool(admin_url, max_size=1, schema=name) for name in ("one", "rows")]
    async with pools[0].acquire() as one, pools[1].acquire() as rows:
        yield Log(one, by_rows=False), Log(rows, by_rows=True)
    for pool in pools:
        await pool.close()


async def play(logs: tuple[Log, Log], calls: Sequence[Call]) -> list[Any]:
    """Make the calls to both logs, check that the answers are the same, and return them."""
    due = datetime(2026, 1, 2, tzinfo=UTC)
    flow_ids = [new_flow_id(), new_flow_id()]
    begins = FlowInitialized("d" * 64, 3, due=due), FlowInitialized("d" * 64, 3)
    at, versions, given_ids = BEGIN, [1, 1], [uuid7()]
    for flow_id, fact in zip(flow_ids, begins, strict=True):
        first = AppendCall(flow_id, [fact], event_ids=[uuid7()])
        assert len({repr(await log.append(first, at)) for log in logs}) == 1
    answers = []
    for call in calls:
        at += timedelta(microseconds=1_234_567)
        flow_id = flow_ids[call.flow]
        expected = None if call.offset is None else max(0, versions[call.flow] + call.offset)
        own = given_ids if call.repeats else [uuid7()]
        lease = None if call.lease is None else LEASES[call.lease]
        given = AppendCall(
            flow_id, [call.fact], expected_version=expected, event_ids=own, lease=lease
        )
        outcomes = []
        for log in logs:
            if call.held_by is None:
                await log.connection.execute(FREE, flow_id)
            else:
                await log.connection.execute(HOLD, flow_id, LEASES[call.held_by])
            outcomes.append(await log.append(given, at))
        assert outcomes[0] == outcomes[1]
        answers.append(outcomes[0])
        if isinstance(outcomes[0], list):
            versions[call.flow] = max(versions[call.flow], outcomes[0][0].version + 1)
            given_ids = own
    assert await logs[0].stored() == await logs[1].stored()
    return answers


@settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(40),
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(calls=CALLS)
async def test_any_history_of_single_events_is_stored_the_same(
    logs: tuple[Log, Log], calls: Sequence[Call]
) -> None:
    await play(logs, calls)


async def test_each_kind_of_outcome_is_the_same(logs: tuple[Log, Log]) -> None:
    """What the form of one event is sent for, and each reason to leave it out."""
    started, signal = StepStarted(0, "a"), StepSignal(0, "a", "next")
    finished = StepFinished(0, "a", ("a" * 64,), "f" * 64)
    failing = StepFinished(0, "a", ("b" * 64,), "f" * 64, ResultOrigin(UUID(int=7), 3))
    calls = [
        Call(0, started, 0, 0, 0, repeats=False),
        Call(0, started, None, 0, 0, repeats=True),
        Call(0, finished, None, 1, 0, repeats=False),
        Call(0, finished, 0, 0, 0, repeats=False),
        Call(0, signal, None, None, 0, repeats=False),
        Call(0, signal, None, None, None, repeats=False),
        Call(0, failing, 0, None, None, repeats=False),
        Call(0, started, -1, None, None, repeats=False),
        Call(0, started, 1, None, None, repeats=False),
        Call(0, FlowCompleted("f" * 64), None, None, None, repeats=False),
        Call(1, signal, 0, None, None, repeats=False),
        Call(1, started, None, None, None, repeats=False),
        Call(1, LibrarySignal(0, "a", SEALED), None, None, None, repeats=False),
        Call(1, signal, None, None, None, repeats=False),
    ]
    answers = await play(logs, calls)
    assert [type(answer).__name__ for answer in answers] == [
        *["list"] * 2, "tuple", *["list"] * 4, *["tuple"] * 2, *["list"] * 4, "tuple",
    ]  # fmt: skip
    assert (logs[0].sent > 10, logs[1].sent) == (True, 0)
    steps = (await logs[0].stored())["workflow_step_executions"]
    assert {(row["status"], row["attempts"]) for row in steps} == {("finished", 1), ("running", 1)}


@pytest.mark.parametrize("temporary", ["event_log", "unrelated"])
async def test_a_temporary_table_hides_no_table_of_the_log(
    logs: tuple[Log, Log], temporary: str
) -> None:
    """As on a session of a pooler, whose search path does not end with pg_temp."""
    flow_id = new_flow_id()
    call = AppendCall(flow_id, [StepSignal(0, "a", "next")])
    for log in logs:
        await log.append(call, BEGIN)
        await log.connection.execute(f"CREATE TEMPORARY TABLE {temporary} (n integer)")
        schema = await log.connection.fetchval("SELECT current_schema()")
        await log.connection.execute(f"SET search_path = {schema}")
    found = [await log.append(call, BEGIN) for log in logs]
    assert isinstance(found[0], list) is isinstance(found[1], list) is (temporary == "unrelated")
    for log in logs:
        await log.connection.execute("DROP TABLE pg_temp." + temporary)

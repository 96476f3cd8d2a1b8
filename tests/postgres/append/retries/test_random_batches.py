"""Random batches, of which statements fail at random: each append is stored once or not at all.

The test works as a writer does: an attempt on its own connection, `store_batch` after an error, and
what has to be tried again stays the same `Append`. Between the statements others append to the
flows, and the server executes statements late whose connection was lost.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chem_persistence import (
    ConcurrencyConflict,
    EventIdReused,
    FlowEvent,
    PgEventStore,
    PoolProvider,
    StepSignal,
    StoreUnavailable,
)
from chem_persistence.postgres.append.batch import FailedAttempt, store_batch
from chem_persistence.postgres.append.place_events import Append, FlowHeads, append_batch
from chem_persistence.postgres.append.settle import Outcome, Refused, Stored, TryAgain
from chem_persistence.store.append_request import AppendCall, AppendRequest, append_request
from chem_persistence.store.clock import SystemClock
from tests.support.examples import examples
from tests.support.faults.between import ConnectionBetween, Rows, is_an_append
from tests.support.flows.flows import new_flow_id
from tests.support.leases.lender import Lender

BOUNDED = settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(12),
    suppress_health_check=list(HealthCheck),
    database=None,
)
AT_LENGTH = settings(BOUNDED, derandomize=False, max_examples=1_000, print_blob=True)

PATIENCE = 0.0
"""A batch that meets a lock is tried again later, and not by the same call."""

LOST = asyncpg.ConnectionDoesNotExistError, "the connection was lost"
REFUSED = asyncpg.QueryCanceledError, "statement timeout"
LOCKED = asyncpg.LockNotAvailableError, "lock timeout"

Fault: TypeAlias = tuple[type[Exception], str]


class Meddling(msgspec.Struct, frozen=True):
    """What happens at one statement: first what others do, then how it fails, if at all.

    `late` is whether the server executes what was sent before on lost connections; `races` is
    whether another writer appends to each of the flows. A statement that is `stored` fails after it
    was executed; one that is lost otherwise is executed late, or never.
    """

    late: bool = False
    races: bool = False
    fault: Fault | None = None
    stored: bool = False


class New(msgspec.Struct, frozen=True):
    """A new append: to which flow, what the caller gives of its event ids, what it expects."""

    flow: int
    count: int
    ids: str
    expects: int | None


class Round(msgspec.Struct, frozen=True):
    """A batch: new appends and repeats of earlier ones, after others were abandoned.

    `at_insert` is what happens at its first attempts to store, `at_read` at its first other
    statements.
    """

    asked: Sequence[New | int]
    abandoned: Sequence[int]
    at_insert: Sequence[Meddling]
    at_read: Sequence[Meddling]


FAULTS = st.sampled_from([None, None, None, LOST, LOST, REFUSED, LOCKED])
MEDDLING = st.builds(
    Meddling,
    late=st.booleans(),
    races=st.sampled_from([False, False, False, True]),
    fault=FAULTS,
    stored=st.booleans(),
)
NEW = st.builds(
    New,
    flow=st.integers(0, 2),
    count=st.integers(1, 2),
    ids=st.sampled_from(["made", "given", "like own", "mixed"]),
    expects=st.sampled_from([None, None, None, 0, 1, 2]),
)
ROUNDS = st.lists(
    st.builds(
        Round,
        asked=st.lists(st.one_of(st.integers(0, 9), NEW), min_size=2, max_size=4),
        abandoned=st.lists(st.integers(0, 3), max_size=1),
        at_insert=st.lists(MEDDLING, min_size=1, max_size=2),
        at_read=st.lists(MEDDLING, max_size=2),
    ),
    min_size=5,
    max_size=8,
)


class Server:
    """The server as the writer meets it: through connections that may be lost."""

    def __init__(self, store: PgEventStore, connection: ConnectionBetween) -> None:
        self.connection = connection
        self.at_insert: list[Meddling] = []
        self.at_read: list[Meddling] = []
        self._store = store
        self._late: list[Callable[[], Awaitable[Rows]]] = []
        self.flow_ids = [new_flow_id() for _ in range(3)]
        connection.between = self._between

    async def _between(self, query: str, run: Callable[[], Awaitable[Rows]]) -> Rows:
        is_insert = is_an_append(query)
        planned = self.at_insert if is_insert else self.at_read
        now = planned.pop(0) if planned else Meddling()
        if now.late:
            await self.execute_late()
        if now.races:
            for flow_id in self.flow_ids:
                await self._store.append_kind(flow_id, StepSignal(0, "acquire", "other"))
        if now.fault is None:
            return await run()
        error, text = now.fault
        if now.fault is LOST:
            if now.stored:
                await run()
            elif is_insert:
                self._late.append(run)
        raise error(text)

    async def execute_late(self) -> None:
        """Have the server execute the statements that it has received and not executed yet."""
        late, self._late = self._late, []
        for run in late:
            with suppress(asyncpg.UniqueViolationError):
                await run()


class Caller:
    """The callers of the appends: what they have asked for, and what they were answered."""

    def __init__(self) -> None:
        self.requests: list[AppendRequest] = []
        self.answers: dict[UUID, list[Stored | Refused]] = defaultdict(list)
        self.waiting: list[Append] = []

    def ask(self, request: AppendRequest) -> None:
        self.requests.append(request)
        self.waiting.append(Append(request))

    def repeat(self, index: int) -> None:
        """Repeat one of the latest appends whose event ids were given."""
        if repeatable := [request for request in self.requests if request.ids_given]:
            self.waiting.append(Append(repeatable[-1 - index % len(repeatable)]))

    def abandon(self, index: int) -> None:
        """Cancel the caller of an append, which does not learn what becomes of it."""
        for append in self.waiting[index : index + 1]:
            cancelled = Refused(StoreUnavailable("its caller was cancelled"))
            self.answers[append.request.event_ids[0]].append(cancelled)
            self.waiting.remove(append)

    def take(self, outcomes: dict[Append, Outcome]) -> None:
        """Note the answers, and keep what has to be tried again in its order."""
        again = []
        for append in self.waiting:
            match outcomes.get(append):
                case Stored() | Refused() as answer:
                    self.answers[append.request.event_ids[0]].append(answer)
                case TryAgain() | None:
                    again.append(append)
        self.waiting = again


def event_ids(new: New) -> list[UUID] | None:
    if new.ids == "made":
        return None
    ids = [uuid4() for _ in range(new.count)]
    like_own = append_request(
        AppendCall(new_flow_id(), [StepSignal(0, "acquire", "")] * new.count),
        ts=SystemClock().now(),
        max_artifact_bytes=1,
    ).event_ids
    return {"given": ids, "like own": [*like_own], "mixed": [*ids[:1], *like_own[1:]]}[new.ids]


def asked(new: New, flow_id: UUID) -> AppendRequest:
    kinds = [StepSignal(0, "acquire", "own") for _ in range(new.count)]
    call = AppendCall(flow_id, kinds, expected_version=new.expects, event_ids=event_ids(new))
    return append_request(call, ts=SystemClock().now(), max_artifact_bytes=1)


async def attempt(
    server: Server, batch: Sequence[Append], heads: FlowHeads
) -> dict[Append, Outcome]:
    """Store a batch as a writer does, with one patient attempt."""
    try:
        return await append_batch(server.connection, batch, heads, PATIENCE)
    except Exception as error:  # noqa: BLE001  # as the writer
        first = FailedAttempt(server.connection, error, PATIENCE)
        return await store_batch(Lender(server.connection), batch, heads, PATIENCE, first)


async def settle(server: Server, caller: Caller, heads: FlowHeads) -> None:
    flow = {flow_id: index for index, flow_id in enumerate(server.flow_ids)}
    caller.waiting.sort(key=lambda append: flow[append.request.flow_id])
    if caller.waiting:
        caller.take(await attempt(server, caller.waiting, heads))


async def play(server: Server, caller: Caller, rounds: Sequence[Round]) -> None:
    heads = FlowHeads()
    for each in rounds:
        for index in each.abandoned:
            caller.abandon(index)
        for ask in each.asked:
            if isinstance(ask, New):
                caller.ask(asked(ask, server.flow_ids[ask.flow]))
            else:
                caller.repeat(ask)
        server.at_insert, server.at_read = [*each.at_insert], [*each.at_read]
        await settle(server, caller, heads)
    server.at_insert, server.at_read = [], []
    while caller.waiting:
        await settle(server, caller, heads)
    await server.execute_late()


def check(request: AppendRequest, events: Sequence[FlowEvent], answers: Sequence[Outcome]) -> None:
    """Check that an append is stored as a whole, at most once, and as it was answered."""
    stored = [event for event in events if event.event_id in request.event_ids]
    assert [event.event_id for event in stored] in ([], [*request.event_ids])
    assert all(event.version == stored[0].version + i for i, event in enumerate(stored))
    assert all(answer.events == stored for answer in answers if isinstance(answer, Stored))
    errors = [answer.error for answer in answers if isinstance(answer, Refused)]
    assert not any(isinstance(error, EventIdReused) for error in errors)
    if any(isinstance(error, ConcurrencyConflict) and was_overtaken(error) for error in errors):
        assert not stored
    if errors and len(errors) == len(answers) and not any(map(is_unknown, errors)):
        assert not stored


def was_overtaken(error: ConcurrencyConflict) -> bool:
    """Return whether the flow has more events than were expected, so that no repeat succeeds."""
    return error.expected < error.actual


def is_unknown(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable)


async def check_exactly_once(store: PgEventStore, url: str, rounds: Sequence[Round]) -> None:
    connection = await ConnectionBetween.to(url)
    server, caller = Server(store, connection), Caller()
    try:
        await play(server, caller, rounds)
    finally:
        await connection.close()
    log = await store.list_many(server.flow_ids)
    for events in log.values():
        assert [event.version for event in events] == list(range(len(events)))
    for request in caller.requests:
        answers = caller.answers[request.event_ids[0]]
        check(request, log.get(request.flow_id, []), answers)


@pytest.fixture
def store(provider: PoolProvider) -> PgEventStore:
    return PgEventStore(provider)


OWN, MADE = New(0, 1, "given", None), New(0, 1, "made", None)
MIXED = New(0, 2, "mixed", None)
NOTHING, LATE = Meddling(), Meddling(late=True)
THE_STATEMENT_FAILS_AFTER_THE_ORIGINAL_WAS_FOUND = [
    Round([OWN], [], [], []),
    Round([0, MADE], [], [Meddling(fault=REFUSED)], []),
]
AN_APPEND_IS_ABANDONED_WHILE_THE_SERVER_IS_AT_WORK_ON_IT = [
    Round([MADE, MADE], [], [Meddling(fault=LOST), Meddling(fault=LOCKED)], []),
    Round([], [0], [], []),
    Round([], [], [LATE], []),
]
THE_ORIGINAL_IS_STORED_BETWEEN_THE_TWO_SEARCHES_FOR_IT = [
    Round([MIXED], [], [Meddling(fault=LOST), Meddling(fault=REFUSED)], []),
    Round([0], [], [], [NOTHING, NOTHING, LATE]),
]


@BOUNDED
@given(rounds=ROUNDS)
@example(rounds=THE_STATEMENT_FAILS_AFTER_THE_ORIGINAL_WAS_FOUND)
@example(rounds=AN_APPEND_IS_ABANDONED_WHILE_THE_SERVER_IS_AT_WORK_ON_IT)
@example(rounds=THE_ORIGINAL_IS_STORED_BETWEEN_THE_TWO_SEARCHES_FOR_IT)
async def test_each_append_is_stored_once_if_it_is_answered_and_never_if_it_is_refused(
    store: PgEventStore, database_url: str, rounds: list[Round]
) -> None:
    await check_exactly_once(store, database_url, rounds)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@AT_LENGTH
@given(rounds=ROUNDS)
async def test_at_length_each_append_is_stored_once_or_not_at_all(
    store: PgEventStore, database_url: str, rounds: list[Round]
) -> None:
    await check_exactly_once(store, database_url, rounds)

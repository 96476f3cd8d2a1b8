"""What is answered while the server may still be at work on an earlier attempt of an append."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ConcurrencyConflict,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    StoreUnavailable,
)
from chem_persistence.postgres.append.batch import FailedAttempt, store_batch
from chem_persistence.postgres.append.place_events import Append, FlowHeads, append_batch
from chem_persistence.postgres.append.settle import Outcome, Reason, Refused, Stored, TryAgain
from chem_persistence.store.append_request import AppendCall, append_request
from chem_persistence.store.clock import SystemClock
from tests.support.faults.between import ConnectionBetween, Rows, fails_after, is_an_append
from tests.support.faults.gate import gate
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.waiting import until_blocked

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ARTIFACT = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
HOLD = """
    INSERT INTO flow_runs (flow_id, definition_hash, due_at, lease, holder)
    VALUES ($1, repeat('0', 64), now(), $2, $2)
"""


def to_append(call: AppendCall) -> Append:
    return Append(append_request(call, ts=SystemClock().now(), max_artifact_bytes=1_000))


def signal(text: str) -> StepSignal:
    return StepSignal(0, "acquire", text)


async def texts(store: PgEventStore, flow_id: UUID) -> list[str]:
    kinds = [event.kind for event in await store.list(flow_id)]
    return [kind.signal for kind in kinds if isinstance(kind, StepSignal)]


def refusal(outcome: Outcome) -> type[Exception]:
    assert isinstance(outcome, Refused)
    return type(outcome.error)


@pytest.fixture
def store(provider: PoolProvider) -> PgEventStore:
    return PgEventStore(provider)


@asynccontextmanager
async def lost_in_flight(
    database_url: str, owner: Connection, batch: Sequence[Append], heads: FlowHeads
) -> AsyncIterator[FailedAttempt]:
    """Make an attempt that fails as if its connection were lost; it commits after the block."""
    connection = await ConnectionBetween.to(database_url)
    at_work: list[asyncio.Future[Rows]] = []

    async def between(query: str, run: Callable[[], Awaitable[Rows]]) -> Rows:
        if not is_an_append(query):
            return await run()
        at_work.append(asyncio.ensure_future(run()))
        await until_blocked(owner)
        raise asyncpg.ConnectionDoesNotExistError("lost while the server is at work")

    connection.between = between
    async with gate(owner, "workflow_step_artifacts", "true"):
        with pytest.raises(asyncpg.ConnectionDoesNotExistError) as lost:
            await append_batch(connection, batch, heads)
        yield FailedAttempt(connection, lost.value, 0.0)
    await asyncio.gather(*at_work)
    await connection.close()


async def test_the_lease_is_lost_while_an_attempt_is_at_work(
    database_url: str, owner: Connection, provider: PoolProvider, store: PgEventStore
) -> None:
    flow_id, lease = new_flow_id(), uuid4()
    await store.append_kind(flow_id, initialized())
    await owner.execute(HOLD, flow_id, lease)
    finished = StepFinished(0, "acquire", (ARTIFACT.hash,), "f")
    call = AppendCall(flow_id, [finished], artifacts=[ARTIFACT], expected_version=1, lease=lease)
    batch, heads = [to_append(call)], FlowHeads()
    async with lost_in_flight(database_url, owner, batch, heads) as first:
        await owner.execute("UPDATE flow_runs SET lease = $1, holder = $1", uuid4())
        outcomes = await store_batch(provider, batch, heads, None, first)
    assert [event.kind for event in await store.list(flow_id)][1:] == [finished]
    assert refusal(outcomes[batch[0]]) is StoreUnavailable


@pytest.mark.parametrize("expected", [None, 1])
async def test_the_append_before_it_is_abandoned_while_an_attempt_is_at_work(
    expected: int | None,
    database_url: str,
    owner: Connection,
    provider: PoolProvider,
    store: PgEventStore,
) -> None:
    """Its caller was cancelled while the batch waited for the lock of that attempt."""
    flow_id, heads = new_flow_id(), FlowHeads()
    abandoned = to_append(AppendCall(flow_id, [signal("abandoned")], artifacts=[ARTIFACT]))
    behind = to_append(AppendCall(flow_id, [signal("behind")], expected_version=expected))
    async with lost_in_flight(database_url, owner, [abandoned, behind], heads) as first:
        outcomes = await store_batch(provider, [abandoned, behind], heads, 0.01, first)
        assert outcomes == dict.fromkeys([abandoned, behind], TryAgain(Reason.LOCKED))
        outcomes = await store_batch(provider, [behind], heads, 0.01)
    while isinstance(outcomes[behind], TryAgain):
        outcomes = await store_batch(provider, [behind], heads, None)
    assert await texts(store, flow_id) == ["abandoned", "behind"]
    assert refusal(outcomes[behind]) is StoreUnavailable


async def test_a_conflict_is_certain_after_a_lost_attempt_that_could_not_store_it(
    database_url: str, provider: PoolProvider
) -> None:
    """The flow never had so many events, so that no attempt finds the one before."""
    batch = [to_append(AppendCall(new_flow_id(), [signal("early")], expected_version=7))]
    connection = await ConnectionBetween.to(database_url)
    lost = asyncpg.ConnectionDoesNotExistError("lost before the reply")
    connection.between = fails_after(is_an_append, lost)
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await append_batch(connection, batch, FlowHeads())
    await connection.close()
    first = FailedAttempt(connection, lost, 0.0)
    outcomes = await store_batch(provider, batch, FlowHeads(), None, first)
    assert refusal(outcomes[batch[0]]) is ConcurrencyConflict


@pytest.mark.parametrize(
    "unread", [asyncpg.ProtocolError("garbled"), asyncpg.InternalClientError("garbled")]
)
async def test_a_reply_that_the_driver_does_not_understand_says_nothing(
    unread: Exception, database_url: str, provider: PoolProvider, store: PgEventStore
) -> None:
    flow_id = new_flow_id()
    batch = [to_append(AppendCall(flow_id, [signal("stored")]))]
    connection = await ConnectionBetween.to(database_url)
    connection.between = fails_after(is_an_append, unread)
    with pytest.raises(asyncpg.InternalClientError):
        await append_batch(connection, batch, FlowHeads())
    assert batch[0].lost
    await connection.close()
    first = FailedAttempt(connection, unread, 0.0)
    outcomes = await store_batch(provider, batch, FlowHeads(), None, first)
    assert await texts(store, flow_id) == ["stored"]
    match outcomes[batch[0]]:
        case Refused(error):
            assert isinstance(error, StoreUnavailable)
        case outcome:
            assert isinstance(outcome, Stored)


async def test_the_original_is_stored_while_its_ids_are_looked_for(
    database_url: str, store: PgEventStore
) -> None:
    """Ids of the two kinds are looked for by two statements."""
    flow_id = new_flow_id()
    first = await store.append_kind(flow_id, initialized())
    like_own = UUID(int=first.event_id.int + 2**10)
    call = AppendCall(flow_id, [signal("a"), signal("b")], event_ids=[uuid4(), like_own])

    async def store_original(query: str, run: Callable[[], Awaitable[Rows]]) -> Rows:
        rows = await run()
        if "event_id = ANY" in query:
            await store.append_kinds(flow_id, call.kinds, event_ids=call.event_ids)
        return rows

    repeated = to_append(call)
    connection = await ConnectionBetween.to(database_url)
    connection.between = store_original
    outcomes = await append_batch(connection, [repeated], FlowHeads())
    await connection.close()
    assert isinstance(outcomes[repeated], Stored)
    assert await texts(store, flow_id) == ["a", "b"]

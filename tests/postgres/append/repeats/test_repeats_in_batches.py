"""An append whose event ids are stored is recognised, whatever becomes of others in its batch."""

from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from chem_persistence import FlowEvent, PgEventStore, PoolProvider, StepSignal
from chem_persistence.postgres.append.batch import store_batch
from chem_persistence.postgres.append.place_events import Append, FlowHeads, append_batch
from chem_persistence.postgres.append.settle import Reason, Stored, TryAgain
from chem_persistence.store.append_request import AppendCall, append_request
from chem_persistence.store.clock import SystemClock
from tests.support.flows.flows import new_flow_id

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

PATIENCE = 0.02


def said(flow_id: UUID, text: str, event_id: UUID | None = None) -> Append:
    ids = None if event_id is None else [event_id]
    call = AppendCall(flow_id, [StepSignal(0, "acquire", text)], event_ids=ids)
    return Append(append_request(call, ts=SystemClock().now(), max_artifact_bytes=1))


async def texts(store: PgEventStore, flow_id: UUID) -> list[str]:
    kinds = [event.kind for event in await store.list(flow_id)]
    return [kind.signal for kind in kinds if isinstance(kind, StepSignal)]


@pytest.fixture
def store(provider: PoolProvider) -> PgEventStore:
    return PgEventStore(provider)


@pytest.fixture
async def original(store: PgEventStore) -> FlowEvent:
    """The last of three events of a flow; its id was given."""
    flow_id = new_flow_id()
    await store.append_kinds(flow_id, [StepSignal(0, "acquire", text) for text in "ab"])
    return await store.append_kind(flow_id, StepSignal(0, "acquire", "c"), event_id=uuid4())


@pytest.fixture(params=["the same flow", "another flow"])
def batch(request: pytest.FixtureRequest, original: FlowEvent) -> list[Append]:
    """A repeat of the original, and a new append behind it."""
    is_same = request.param == "the same flow"
    flow_id = original.flow_id if is_same else new_flow_id()
    return [said(original.flow_id, "c", original.event_id), said(flow_id, "new")]


async def test_the_statement_is_refused_after_the_original_was_found(
    batch: list[Append],
    original: FlowEvent,
    store: PgEventStore,
    provider: PoolProvider,
    owner: Connection,
) -> None:
    heads = FlowHeads()
    async with provider.acquire() as connection:
        async with owner.transaction():
            await owner.execute("LOCK TABLE event_log IN SHARE MODE")
            await connection.execute("SET statement_timeout = 20")
            with pytest.raises(asyncpg.QueryCanceledError):
                await append_batch(connection, batch, heads)
            await connection.execute("RESET statement_timeout")
        outcomes = await append_batch(connection, batch, heads)
    assert outcomes[batch[0]] == Stored([original])
    assert isinstance(outcomes[batch[1]], Stored)
    assert (await texts(store, original.flow_id)).count("c") == 1


async def test_a_lock_holds_up_the_batch_after_the_original_was_found(
    batch: list[Append],
    original: FlowEvent,
    store: PgEventStore,
    provider: PoolProvider,
    owner: Connection,
) -> None:
    heads = FlowHeads()
    async with owner.transaction():
        await owner.execute("LOCK TABLE event_log IN SHARE MODE")
        held = await store_batch(provider, batch, heads, PATIENCE)
        assert held[batch[1]] == TryAgain(Reason.LOCKED)
    outcomes = await store_batch(provider, batch, heads, None)
    assert outcomes[batch[0]] == Stored([original])
    assert isinstance(outcomes[batch[1]], Stored)
    assert (await texts(store, original.flow_id)).count("c") == 1


async def test_what_is_stored_while_an_append_waits_behind_others_is_looked_up_again(
    store: PgEventStore, provider: PoolProvider
) -> None:
    """After a lost race an append may be left for the next batch, with its head not known."""
    flow_id, event_id = new_flow_id(), uuid4()
    first, behind = said(flow_id, "first"), said(flow_id, "repeated", event_id)
    first.races = 1
    heads = FlowHeads()
    async with provider.acquire() as connection:
        outcomes = await append_batch(connection, [first, behind], heads)
        assert isinstance(outcomes[first], Stored)
        assert outcomes[behind] == TryAgain(Reason.BEHIND)
        earlier = await append_batch(  # the earlier attempt, by another process
            connection, [said(flow_id, "repeated", event_id)], FlowHeads()
        )
        (stored,) = earlier.values()
        outcomes = await append_batch(connection, [behind], FlowHeads())
    assert outcomes[behind] == stored
    assert await texts(store, flow_id) == ["first", "repeated"]

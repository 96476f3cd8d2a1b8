"""Large artifacts whose connection breaks, or whose caller is cancelled: once, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest
import uvloop
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    FlowEvent,
    PgEventStore,
    PoolProvider,
    StoreUnavailable,
    build_pool,
)
from chem_persistence.postgres.append.copied_artifacts import PIECE_BYTES
from tests.support.faults.gate import gate
from tests.support.faults.proxy import Fault, Message, Proxy, Strike, proxied
from tests.support.flows.flows import new_flow_id
from tests.support.flows.large_artifacts import SAID, blob, is_a_piece
from tests.support.flows.messages import sends_an_append

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[PgEventStore]:
    """Yield a store whose only connection goes through the proxy."""
    async with await build_pool(proxy.url, min_size=0, max_size=1) as pool:
        yield PgEventStore(PoolProvider(pool))


@pytest.fixture
def witness(provider: PoolProvider) -> PgEventStore:
    """Return a store on the same database without any fault."""
    return PgEventStore(provider)


def is_no_full_piece(message: Message) -> bool:
    return message.type != "d" or len(message.data) < PIECE_BYTES


async def see_it_once(
    witness: PgEventStore, artifact: Artifact, event_id: UUID, returned: FlowEvent | None
) -> None:
    """Check that the log has the append once (or not at all if unacknowledged), and repeat it."""
    flow_id = event_id
    stored = await witness.list(flow_id)
    assert returned is None or stored == [returned]
    if stored:
        assert await witness.get_artifact(artifact.hash) == artifact
    else:
        with pytest.raises(ArtifactNotFound):
            await witness.get_artifact(artifact.hash)
    again = await witness.append_kind(flow_id, SAID, artifacts=[artifact], event_id=event_id)
    assert await witness.list(flow_id) == [again]
    assert await witness.get_artifact(artifact.hash) == artifact


async def appended(store: PgEventStore, artifact: Artifact, event_id: UUID) -> FlowEvent | None:
    """Append to a flow whose id is that of the event."""
    try:
        return await store.append_kind(
            event_id, SAID, artifacts=[artifact], event_id=event_id, expected_version=0
        )
    except StoreUnavailable:
        return None


@pytest.mark.parametrize(
    ("strike", "every"),
    [
        (Strike.CUT_BEFORE, 9),
        pytest.param(Strike.CUT_BEFORE, 3, marks=pytest.mark.slow),
        pytest.param(Strike.CUT_BEFORE, 1, marks=pytest.mark.slow),
        pytest.param(Strike.CUT_AFTER, 1, marks=pytest.mark.slow),
    ],
)
async def test_a_connection_cut_at_any_message_leaves_the_append_once(
    *, proxy: Proxy, store: PgEventStore, witness: PgEventStore, strike: Strike, every: int
) -> None:
    """Cut at every ninth message; in the long runs at every third, and at each."""
    await store.append_kind(new_flow_id(), SAID, artifacts=[blob(seed=99)])
    for n in count(1, every):
        artifact, event_id = blob(seed=n), uuid7()
        fault = proxy.arm(Fault(strike, is_no_full_piece, nth=n))
        async with asyncio.timeout(60):
            returned = await appended(store, artifact, event_id)
        if not fault.struck.is_set():
            assert returned is not None
            break
        await see_it_once(witness, artifact, event_id, returned)
    assert n > 20


@pytest.mark.parametrize("strike", [Strike.CUT_BEFORE, Strike.CUT_AFTER])
@pytest.mark.parametrize("nth", [2, 9, 17])
async def test_a_connection_cut_between_two_pieces_leaves_the_append_once(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore, strike: Strike, nth: int
) -> None:
    artifact, event_id = blob(seed=nth), uuid7()
    fault = proxy.arm(Fault(strike, is_a_piece, nth=nth))
    async with asyncio.timeout(60):
        returned = await appended(store, artifact, event_id)
    assert fault.struck.is_set()
    assert returned is not None
    await see_it_once(witness, artifact, event_id, returned)


async def test_an_append_that_loses_every_connection_is_unavailable_and_not_stored(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore
) -> None:
    artifact, event_id = blob(), uuid7()
    proxy.arm(Fault(Strike.CUT_BEFORE, lambda found: found.type == "d", nth=5, always=True))
    async with asyncio.timeout(60):
        assert await appended(store, artifact, event_id) is None
    await see_it_once(witness, artifact, event_id, None)


async def test_a_session_that_the_server_ends_between_two_pieces_is_replaced(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore, admin_url: str
) -> None:
    """The driver waits until it may send more, and the server ends the session."""
    artifact, event_id = blob(30 * 2**20), uuid7()
    fault = proxy.arm(Fault(Strike.STALL, is_a_piece, nth=4))
    appending = asyncio.create_task(appended(store, artifact, event_id))
    await fault.struck.wait()
    owner = await asyncpg.connect(admin_url)
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY %'"
        " AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    await owner.close()
    fault.release()
    async with asyncio.timeout(60):
        returned = await appending
    assert returned is not None
    await see_it_once(witness, artifact, event_id, returned)


def test_a_connection_that_is_cut_on_uvloop_is_replaced_as_well(database_url: str) -> None:
    async def main() -> None:
        async with (
            proxied(database_url) as proxy,
            await build_pool(proxy.url, max_size=1) as pool,
        ):
            store = PgEventStore(PoolProvider(pool))
            for nth in (2, 9):
                artifact, event_id = blob(12 * 2**20, seed=nth), uuid7()
                fault = proxy.arm(Fault(Strike.CUT_AFTER, is_a_piece, nth=nth))
                async with asyncio.timeout(60):
                    returned = await appended(store, artifact, event_id)
                assert fault.struck.is_set()
                assert returned is not None
                await see_it_once(store, artifact, event_id, returned)

    uvloop.run(main())


@pytest.mark.parametrize("nth", [1, 2, 8, 18])
@pytest.mark.parametrize("in_transaction", [False, True])
async def test_an_append_that_is_cancelled_between_two_pieces_stores_nothing(
    *, proxy: Proxy, store: PgEventStore, witness: PgEventStore, nth: int, in_transaction: bool
) -> None:
    artifact, flow_id = blob(), new_flow_id()
    fault = proxy.arm(Fault(Strike.STALL, is_a_piece, nth=nth))

    async def append() -> None:
        if not in_transaction:
            await store.append_kind(flow_id, SAID, artifacts=[artifact])
            return
        async with store.transaction() as tx:
            await tx.append_kind(flow_id, SAID, artifacts=[artifact])

    appending = asyncio.create_task(append())
    await fault.struck.wait()
    appending.cancel()
    await asyncio.sleep(0)
    fault.release()
    async with asyncio.timeout(60):
        await asyncio.wait([appending])
    assert appending.cancelled()
    event = await store.append_kind(flow_id, SAID, artifacts=[artifact])
    assert await witness.list(flow_id) == [event]
    assert await witness.get_artifact(artifact.hash) == artifact


@pytest.mark.one_row
async def test_the_caller_of_a_stalled_append_may_be_cancelled_while_it_waits_for_a_lock(
    witness: PgEventStore, pool: Pool, admin_url: str
) -> None:
    owner = await asyncpg.connect(admin_url)
    flow_id = new_flow_id()
    async with gate(owner, "workflow_step_artifacts", "NEW.kind = 'Bløb'"):
        appending = asyncio.create_task(witness.append_kind(flow_id, SAID, artifacts=[blob()]))
        await until_waiting_for_a_lock(pool)
        appending.cancel()
        await asyncio.wait([appending])
    await owner.close()
    assert appending.cancelled()
    event = await witness.append_kind(flow_id, SAID, artifacts=[blob()])
    assert await witness.list(flow_id) == [event]


async def until_waiting_for_a_lock(pool: Pool) -> None:
    """Poll the server until a session of the database waits for a lock."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    async with asyncio.timeout(60):
        while not await pool.fetchval(query):
            pass


async def test_an_append_is_sent_again_after_a_version_is_lost(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore
) -> None:
    artifact, flow_id = blob(), new_flow_id()
    await store.append_kind(flow_id, SAID)
    fault = proxy.arm(Fault(Strike.STALL, sends_an_append))
    appending = asyncio.create_task(store.append_kind(flow_id, SAID, artifacts=[artifact]))
    await fault.struck.wait()
    await witness.append_kind(flow_id, SAID)
    fault.release()
    async with asyncio.timeout(60):
        assert (await appending).version == 2
    assert await witness.get_artifact(artifact.hash) == artifact

"""Reads within a transaction: of what it has written so far, without another connection."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    InvalidArgument,
    PgEventStore,
    PgFlowRepository,
    PgReadModels,
    PoolProvider,
    StepFinished,
    StepSignal,
    StoreUnavailable,
    build_pool,
    verify_log,
)
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.servers.backends import Backend

MOLECULE = Artifact.from_payload(kind="Molecule", payload={"name": "benzene"})
FINISHED = StepFinished(0, "acquire", (MOLECULE.hash,), "f" * 64)


async def test_a_transaction_lists_what_was_there_and_what_it_appended(backend: Backend) -> None:
    flow_id = new_flow_id()
    first = await backend.store.append_kind(flow_id, initialized())
    async with backend.store.transaction() as tx:
        second = await tx.append_kind(flow_id, StepSignal(0, "acquire", "more"))
        assert await tx.list(flow_id) == [first, second]
        assert await tx.list(flow_id, after_version=0) == [second]
        assert await tx.list(flow_id, limit=1) == [first]
        assert await tx.list(new_flow_id()) == []
    assert await backend.store.list(flow_id) == [first, second]


async def test_a_transaction_reads_artifacts_old_and_new(backend: Backend) -> None:
    other = Artifact.from_content(kind="Blob", content=b"x", media_type="y")
    last = StepFinished(0, "acquire", (other.hash,), "f" * 64)
    await backend.store.append_kind(new_flow_id(), last, artifacts=[other])
    async with backend.store.transaction() as tx:
        with pytest.raises(ArtifactNotFound):
            await tx.get_artifact(MOLECULE.hash)
        await tx.append_kind(new_flow_id(), FINISHED, artifacts=[MOLECULE])
        assert await tx.get_artifact(MOLECULE.hash) == MOLECULE
        assert await tx.get_artifact(other.hash) == other


async def test_a_transaction_checks_what_it_is_asked(backend: Backend) -> None:
    async with backend.store.transaction() as tx:
        with pytest.raises(InvalidArgument):
            await tx.list(new_flow_id(), limit=-1)


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_transactions_that_all_wait_for_another_connection_say_so_at_once(
    database_url: str, size: int
) -> None:
    async with await build_pool(database_url, max_size=size) as pool:
        store, ready = PgEventStore(PoolProvider(pool)), asyncio.Barrier(size)

        async def read() -> object:
            async with store.transaction():
                await ready.wait()
                return await store.list(new_flow_id())

        async with asyncio.timeout(20):  # of 30 s that a connection is waited for
            answers = await asyncio.gather(*(read() for _ in range(size)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
    assert len(refused) == 1
    assert "tx.list" in str(refused[0])


READS: dict[str, Callable[[PgEventStore, PoolProvider], Awaitable[object]]] = {
    "list": lambda store, _: store.list(new_flow_id()),
    "list_many": lambda store, _: store.list_many([new_flow_id()]),
    "get_artifact": lambda store, _: store.get_artifact(MOLECULE.hash),
    "read_feed": lambda store, _: store.read_feed(),
    "iterate": lambda store, _: anext(aiter(store.iterate(new_flow_id())), None),
    "position": lambda store, _: store.position(),
    "load": lambda _, provider: PgFlowRepository(provider).load(new_flow_id(), None, DEFINITION),
    "flows": lambda _, provider: PgReadModels(provider).flows(),
    "verify_log": lambda _, provider: verify_log(provider),
}


@pytest.mark.parametrize("name", READS)
async def test_17_any_read_beside_all_transactions_fails_at_once(
    database_url: str, name: str
) -> None:
    async with await build_pool(database_url, max_size=2) as pool, asyncio.timeout(20):
        provider, ready = PoolProvider(pool), asyncio.Barrier(2)
        store = PgEventStore(provider)

        async def read() -> object:
            async with store.transaction() as tx:
                await tx.append_kind(new_flow_id(), initialized())
                await ready.wait()
                return await READS[name](store, provider)

        answers = await asyncio.gather(read(), read(), return_exceptions=True)
    assert any(
        isinstance(answer, StoreUnavailable) and "are held by transactions" in str(answer)
        for answer in answers
    )
    assert not any(isinstance(answer, TimeoutError) for answer in answers)


async def test_an_append_beside_its_own_transaction_says_why_it_cannot_be_stored(
    database_url: str,
) -> None:
    async with await build_pool(database_url, max_size=1) as pool, asyncio.timeout(20):
        store = PgEventStore(PoolProvider(pool))
        async with store.transaction() as tx:
            with pytest.raises(StoreUnavailable, match=r"tx\.append_kind"):
                await store.append_kind(new_flow_id(), initialized())
            await tx.append_kind(new_flow_id(), initialized())
        await store.append_kind(new_flow_id(), initialized())


async def test_10f_another_provider_of_the_pool_knows_of_the_transaction(
    database_url: str,
) -> None:
    async with await build_pool(database_url, max_size=1) as pool, asyncio.timeout(20):
        others = PgEventStore(PoolProvider(pool)), PgReadModels(PoolProvider(pool))
        async with PgEventStore(PoolProvider(pool)).transaction() as tx:
            with pytest.raises(StoreUnavailable, match=r"tx\.append_kind"):
                await others[0].append_kind(new_flow_id(), initialized())
            with pytest.raises(StoreUnavailable, match=r"tx\.list"):
                await others[1].flows()
            await tx.append_kind(new_flow_id(), initialized())
        assert len(await others[1].flows()) == 1


async def test_a_task_that_holds_nothing_waits_for_the_transaction(database_url: str) -> None:
    flow_id = new_flow_id()
    async with await build_pool(database_url, max_size=1) as pool, asyncio.timeout(20):
        store = PgEventStore(PoolProvider(pool))
        async with store.transaction() as tx:
            waiting = asyncio.create_task(store.list(flow_id))
            event = await tx.append_kind(flow_id, initialized())
        assert await waiting == [event]


def test_a_store_of_another_event_loop_is_a_library_error(database_url: str) -> None:
    made: list[tuple[asyncpg.Pool[asyncpg.Record], PgEventStore]] = []

    async def make() -> None:
        pool = await build_pool(database_url)
        store = PgEventStore(PoolProvider(pool))
        await store.append_kind(new_flow_id(), initialized())
        await store.aclose()
        made.append((pool, PgEventStore(PoolProvider(pool))))

    async def use() -> None:
        pool, store = made[0]
        with pytest.raises(InvalidArgument, match="another event loop"):
            await store.list(new_flow_id())
        with pytest.raises(InvalidArgument, match="another event loop"):
            await store.append_kind(new_flow_id(), initialized())
        with pytest.raises(InvalidArgument, match="another event loop"):
            async with store.transaction():
                pass
        pool.terminate()

    with asyncio.Runner() as runner, asyncio.Runner() as other:
        runner.run(make())
        other.run(use())

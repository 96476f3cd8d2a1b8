"""Streamed contents on PostgreSQL: stored once or not at all, verified, never whole in memory."""

import asyncio
import hashlib
import random
import tracemalloc
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ArtifactCorrupt,
    InvalidArgument,
    PgEventStore,
    PgTransaction,
    PoolProvider,
    StepFinished,
    StoreError,
    StoreUnavailable,
    StreamedArtifact,
    build_pool,
)
from chem_persistence.domain.tampering import Tampering
from chem_persistence.postgres.audit.verification import verify_log
from tests.support.faults.proxy import Fault, Message, Strike, proxied
from tests.support.flows.flows import new_flow_id

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CHUNK = 2**20
MEGABYTE = 10**6
CHUNKS = "SELECT count(*) FROM workflow_step_artifact_chunks"
EVERYTHING = (
    "SELECT (SELECT count(*) FROM event_log) + (SELECT count(*) FROM workflow_step_artifacts) + "
    f"({CHUNKS})"
)

TAMPERINGS = {
    "a byte is changed": (
        "UPDATE {chunks} SET content = set_byte(content, 5, get_byte(content, 5) # 1) "
        "WHERE chunk_no = 1"
    ),
    "the last chunk is cut": (
        "UPDATE {chunks} SET content = substr(content, 1, 10) WHERE chunk_no = 2"
    ),
    "the last chunk is removed": "DELETE FROM {chunks} WHERE chunk_no = 2",
    "a chunk in the midst is removed": "DELETE FROM {chunks} WHERE chunk_no = 1",
    "all chunks are removed": "DELETE FROM {chunks}",
    "a chunk is added": (
        "INSERT INTO {chunks} SELECT upload_id, 3, content FROM {chunks} WHERE chunk_no = 2"
    ),
    "two chunks are exchanged": "UPDATE {chunks} SET chunk_no = 1 - chunk_no WHERE chunk_no < 2",
    "the size is changed": "UPDATE workflow_step_artifacts SET content_size = content_size - 1",
    "the size is removed": "UPDATE workflow_step_artifacts SET content_size = NULL",
    "other chunks are named": "UPDATE workflow_step_artifacts SET upload_id = gen_random_uuid()",
    "a body is put beside the chunks": "UPDATE workflow_step_artifacts SET content = ''",
    "the metadata is no object": "UPDATE workflow_step_artifacts SET metadata = '[]'",
}


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def long_noise(chunks: int) -> AsyncIterator[bytes]:
    """Yield a content in chunks that all differ, never whole in memory."""
    chunk = bytearray(noise(CHUNK))
    for number in range(chunks):
        chunk[:8] = number.to_bytes(8)
        yield bytes(chunk)


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def put(tx: PgTransaction, content: bytes) -> StreamedArtifact:
    return await tx.put_stream(
        kind="Trajectory", chunks=pieces(content), media_type="chemical/x-trajectory"
    )


async def append(tx: PgTransaction, artifact: StreamedArtifact) -> None:
    finished = StepFinished(0, "acquire", (artifact.hash,), "f" * 64)
    await tx.append_kind(new_flow_id(), finished, artifacts=[artifact])


async def store_stream(store: PgEventStore, content: bytes) -> StreamedArtifact:
    async with store.transaction() as tx:
        artifact = await put(tx, content)
        await append(tx, artifact)
    return artifact


async def read(store: PgEventStore, artifact_hash: str) -> bytes:
    return b"".join([chunk async for chunk in store.read_artifact(artifact_hash)])


def carries_a_chunk(message: Message) -> bool:
    return message.from_client and message.type == "B" and len(message.data) > CHUNK


@pytest.fixture
async def store(provider: PoolProvider, pool: Pool) -> AsyncIterator[PgEventStore]:
    yield PgEventStore(provider)
    assert pool.get_idle_size() == pool.get_size()


@pytest.fixture
async def intruder(admin_url: str) -> AsyncIterator[Connection]:
    """Connect as a superuser without triggers and checks."""
    connection = await asyncpg.connect(admin_url)
    await connection.execute("SET session_replication_role = replica")
    for check in ("body", "content_size", "metadata"):
        await connection.execute(
            "ALTER TABLE workflow_step_artifacts DROP CONSTRAINT "
            f"workflow_step_artifacts_{check}_check"
        )
    await connection.execute(
        "ALTER TABLE workflow_step_artifact_chunks "
        "DROP CONSTRAINT workflow_step_artifact_chunks_pkey"
    )
    yield connection
    await connection.close()


@pytest.mark.parametrize("kind", ["chunks", "whole"])
async def test_a_content_that_is_there_leaves_no_second_copy(
    store: PgEventStore, pool: Pool, kind: str
) -> None:
    content = noise(3 * MEGABYTE)
    if kind == "whole":
        whole = Artifact.from_content(
            kind="Trajectory", content=content, media_type="chemical/x-trajectory"
        )
        finished = StepFinished(0, "acquire", (whole.hash,), "f" * 64)
        await store.append_kind(new_flow_id(), finished, artifacts=[whole])
    await asyncio.gather(*(store_stream(store, content) for _ in range(5)))
    assert await pool.fetchval(CHUNKS) == (0 if kind == "whole" else 3)
    assert await pool.fetchval("SELECT count(*) FROM workflow_step_artifacts") == 1


async def test_a_content_that_another_stores_whole_meanwhile_is_not_kept_beside_it(
    store: PgEventStore, pool: Pool
) -> None:
    whole = Artifact.from_content(
        kind="Spectrum", content=b"content", media_type="chemical/x-trajectory"
    )

    async def block() -> None:
        async with store.transaction() as tx:
            artifact = await put(tx, b"content")
            finished = StepFinished(0, "acquire", (whole.hash,), "f" * 64)
            await store.append_kind(new_flow_id(), finished, artifacts=[whole])
            await append(tx, artifact)

    with pytest.raises(StoreUnavailable, match="by another writer meanwhile"):
        await block()
    assert await pool.fetchval(CHUNKS) == 0
    assert await store.get_artifact(whole.hash) == whole


async def test_chunks_that_the_caller_keeps_without_their_artifact_fail_the_block(
    store: PgEventStore, pool: Pool
) -> None:
    async def block() -> None:
        async with store.transaction() as tx:
            artifact = await put(tx, b"content")
            savepoint = tx.connection.transaction()
            await savepoint.__aenter__()
            await append(tx, artifact)
            await savepoint.__aexit__(RuntimeError, RuntimeError(), None)

    with pytest.raises(InvalidArgument, match="no append of the transaction names the upload"):
        await block()
    assert await pool.fetchval(EVERYTHING) == 0


async def test_an_artifact_whose_chunks_the_caller_rolled_back_fails_the_block(
    store: PgEventStore, pool: Pool
) -> None:
    async def block() -> None:
        async with store.transaction() as tx:
            savepoint = tx.connection.transaction()
            await savepoint.__aenter__()
            artifact = await put(tx, b"content")
            await savepoint.__aexit__(RuntimeError, RuntimeError(), None)
            await append(tx, artifact)

    with pytest.raises(InvalidArgument, match="was rolled back"):
        await block()
    assert await pool.fetchval(EVERYTHING) == 0


@pytest.mark.parametrize("strike", [Strike.CUT_BEFORE, Strike.CUT_AFTER])
@pytest.mark.parametrize("nth", [1, 4])
async def test_a_connection_that_is_cut_in_the_midst_leaves_nothing(
    database_url: str, pool: Pool, strike: Strike, nth: int
) -> None:
    async with proxied(database_url) as proxy, await build_pool(proxy.url, max_size=1) as own:
        store = PgEventStore(PoolProvider(own))
        fault = proxy.arm(Fault(strike, carries_a_chunk, nth=nth))

        async def block() -> None:
            async with store.transaction() as tx:
                await append(tx, await put(tx, noise(8 * MEGABYTE)))

        with pytest.raises(StoreUnavailable):
            await block()
        assert fault.struck.is_set()
        assert await pool.fetchval(EVERYTHING) == 0
        artifact = await store_stream(store, noise(8 * MEGABYTE))
        assert await pool.fetchval(CHUNKS) == 8
        assert len(await read(store, artifact.hash)) == 8 * MEGABYTE


async def test_a_reader_whose_connection_is_cut_goes_on(
    database_url: str, store: PgEventStore
) -> None:
    content = noise(12 * MEGABYTE)
    artifact = await store_stream(store, content)
    async with proxied(database_url) as proxy, await build_pool(proxy.url, max_size=1) as own:
        fault = proxy.arm(
            Fault(
                Strike.CUT_BEFORE,
                lambda message: message.type == "D" and len(message.data) > CHUNK,
                nth=6,
            )
        )
        assert await read(PgEventStore(PoolProvider(own)), artifact.hash) == content
        assert fault.struck.is_set()


async def test_cancelled_in_the_midst_it_leaves_nothing_and_a_healthy_pool(
    store: PgEventStore, pool: Pool
) -> None:
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        async for chunk in long_noise(3):
            yield chunk
        reached.set()
        await asyncio.Event().wait()

    async def block() -> None:
        async with store.transaction() as tx:
            await tx.put_stream(
                kind="Trajectory", chunks=endless(), media_type="chemical/x-trajectory"
            )

    task = asyncio.create_task(block())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await pool.fetchval(EVERYTHING) == 0
    await store_stream(store, b"content")


async def test_a_server_that_refuses_a_chunk_is_named_and_leaves_the_transaction_usable(
    store: PgEventStore, pool: Pool, admin_url: str
) -> None:
    administrator = await asyncpg.connect(admin_url)
    await administrator.execute(
        "ALTER TABLE workflow_step_artifact_chunks ADD CONSTRAINT only_two CHECK (chunk_no < 2)"
    )
    await administrator.close()
    async with store.transaction() as tx:
        with pytest.raises(StoreError) as caught:
            await put(tx, noise(4 * MEGABYTE))
        assert caught.value.sqlstate == "23514"
        await append(tx, await put(tx, b"content"))
    assert await pool.fetchval(CHUNKS) == 1


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_it_is_found_by_reading_and_by_verifying_when(
    store: PgEventStore, provider: PoolProvider, intruder: Connection, tampering: str
) -> None:
    artifact = await store_stream(store, noise(3 * MEGABYTE))
    assert (await verify_log(provider)).findings == []
    await intruder.execute(TAMPERINGS[tampering].format(chunks="workflow_step_artifact_chunks"))
    with pytest.raises(ArtifactCorrupt) as caught:
        await read(store, artifact.hash)
    assert caught.value.artifact_hash == artifact.hash
    with pytest.raises(ArtifactCorrupt):
        await store.get_artifact(artifact.hash)
    (finding,) = (await verify_log(provider)).findings
    assert (finding.tampering, finding.version) == (Tampering.ARTIFACT_ALTERED, 0)


async def peak_of_streaming(store: PgEventStore, chunks: int) -> int:
    """Return the peak memory in bytes while a content is written, verified and read."""
    tracemalloc.start()
    async with store.transaction() as tx:
        artifact = await tx.put_stream(
            kind="Trajectory", chunks=long_noise(chunks), media_type="chemical/x-trajectory"
        )
        await append(tx, artifact)
    digest, size = hashlib.sha256(), 0
    async for chunk in store.read_artifact(artifact.hash):
        digest.update(chunk)
        size += len(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (digest.hexdigest(), size, artifact.size) == (
        artifact.hash,
        chunks * CHUNK,
        chunks * CHUNK,
    )
    return peak


async def test_32_megabytes_take_the_memory_of_a_few_chunks(store: PgEventStore) -> None:
    assert await peak_of_streaming(store, 32) < 16 * CHUNK


@pytest.mark.slow
async def test_100_megabytes_take_no_more_memory_than_16_and_are_verified_so_too(
    store: PgEventStore, provider: PoolProvider
) -> None:
    short = await peak_of_streaming(store, 16)
    assert await peak_of_streaming(store, 100) < short + 2 * CHUNK
    tracemalloc.start()
    assert (await verify_log(provider)).findings == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * CHUNK

"""What every store must do with a streamed content."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    ArtifactTooLarge,
    ConcurrencyConflict,
    EventTransaction,
    InvalidArgument,
    InvalidPayload,
    StepFinished,
    StepSignal,
    StepStarted,
    StreamedArtifact,
)
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.backends import SMALL_ARTIFACT_LIMIT, Backend

MEGABYTE = 10**6
TYPE = "chemical/x-trajectory"


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


async def pieces(content: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    for first in range(0, len(content), size):
        yield content[first : first + size]


def finished(artifact: StreamedArtifact | Artifact) -> StepFinished:
    return StepFinished(0, "acquire", (artifact.hash,), "f" * 64)


async def put(tx: EventTransaction, content: bytes) -> StreamedArtifact:
    return await tx.put_stream(kind="Trajectory", chunks=pieces(content), media_type=TYPE)


async def store_stream(
    backend: Backend, content: bytes, flow_id: UUID | None = None
) -> StreamedArtifact:
    async with backend.store.transaction() as tx:
        artifact = await put(tx, content)
        await tx.append_kind(flow_id or new_flow_id(), finished(artifact), artifacts=[artifact])
    return artifact


async def read(backend: Backend, artifact_hash: str) -> bytes:
    return b"".join([chunk async for chunk in backend.store.read_artifact(artifact_hash)])


async def test_a_content_of_8_megabytes_comes_back_as_it_was(backend: Backend) -> None:
    content, flow_id = noise(8 * MEGABYTE), new_flow_id()
    artifact = await store_stream(backend, content, flow_id)
    assert artifact.hash == hashlib.sha256(content).hexdigest()
    assert (artifact.size, artifact.kind, artifact.media_type) == (len(content), "Trajectory", TYPE)
    async with backend.reconnected() as again:
        assert await read(again, artifact.hash) == content
        (event,) = await again.store.list(flow_id)
    assert event.kind == finished(artifact)


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 4 * 2**20, 4 * 2**20 + 1])
@pytest.mark.parametrize("piece", [2**20, 700_001, 2**23])
async def test_chunks_do_not_show_however_a_content_comes(
    backend: Backend, size: int, piece: int
) -> None:
    content = noise(size)
    async with backend.store.transaction() as tx:
        artifact = await tx.put_stream(
            kind="Trajectory", chunks=pieces(content, piece), media_type=TYPE
        )
        await tx.append_kind(new_flow_id(), finished(artifact), artifacts=[artifact])
    assert artifact.hash == Artifact.from_content(kind="", content=content, media_type="").hash
    assert await read(backend, artifact.hash) == content


async def test_a_streamed_content_within_the_limit_is_read_whole_too(backend: Backend) -> None:
    content = noise(SMALL_ARTIFACT_LIMIT)
    artifact = await store_stream(backend, content)
    expected = Artifact.from_content(kind="Trajectory", content=content, media_type=TYPE)
    assert await backend.store.get_artifact(artifact.hash) == expected


async def test_a_larger_one_is_refused_with_the_name_of_the_reader(backend: Backend) -> None:
    artifact = await store_stream(backend, noise(SMALL_ARTIFACT_LIMIT + 1))
    with pytest.raises(ArtifactTooLarge, match="read_artifact"):
        await backend.store.get_artifact(artifact.hash)


async def test_what_was_not_streamed_is_read_in_chunks_too(backend: Backend) -> None:
    binary = Artifact.from_content(
        kind="Spectrum", content=noise(SMALL_ARTIFACT_LIMIT), media_type=TYPE
    )
    json = Artifact.from_payload(
        kind="Molecule", payload={"smiles": "CCO", "energy": 6.02214076e23}
    )
    await backend.store.append_kind(new_flow_id(), finished(json), artifacts=[binary, json])
    assert await read(backend, binary.hash) == binary.content
    assert await read(backend, json.hash) == b'{"energy":6.02214076e+23,"smiles":"CCO"}'


@pytest.mark.parametrize("unknown", ["0" * 64, "no hash", ""])
async def test_an_unknown_artifact_is_not_read(backend: Backend, unknown: str) -> None:
    with pytest.raises(ArtifactNotFound):
        await read(backend, unknown)


async def test_the_metadata_is_kept_as_that_of_any_artifact(backend: Backend) -> None:
    async with backend.store.transaction() as tx:
        artifact = await tx.put_stream(
            kind="Trajectory",
            chunks=pieces(b"x"),
            media_type=TYPE,
            metadata={"frames": 1e16, "by": "Ada"},
        )
        await tx.append_kind(new_flow_id(), finished(artifact), artifacts=[artifact])
    assert artifact.metadata == {"frames": 1e16, "by": "Ada"}
    assert (await backend.store.get_artifact(artifact.hash)).metadata == artifact.metadata


async def test_nothing_is_there_before_the_end_of_the_block(backend: Backend) -> None:
    flow_id = new_flow_id()
    async with backend.store.transaction() as tx:
        artifact = await put(tx, b"content")
        await tx.append_kind(flow_id, finished(artifact), artifacts=[artifact])
        assert await backend.store.list(flow_id) == []
        with pytest.raises(ArtifactNotFound):
            await read(backend, artifact.hash)
    assert await read(backend, artifact.hash) == b"content"


async def test_what_the_block_raises_keeps_nothing(backend: Backend) -> None:
    flow_id, hashes = new_flow_id(), list[str]()

    async def block() -> None:
        async with backend.store.transaction() as tx:
            artifact = await put(tx, noise(3 * MEGABYTE))
            hashes.append(artifact.hash)
            await tx.append_kind(flow_id, finished(artifact), artifacts=[artifact])
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await block()
    assert await backend.store.list(flow_id) == []
    with pytest.raises(ArtifactNotFound):
        await read(backend, hashes[0])


@pytest.mark.parametrize("content", [b"", b"content"])
async def test_an_upload_that_no_append_brings_fails_the_block(
    backend: Backend, content: bytes
) -> None:
    flow_id = new_flow_id()

    async def block() -> None:
        async with backend.store.transaction() as tx:
            artifact = await put(tx, content)
            await tx.append_kind(flow_id, finished(artifact))

    with pytest.raises(InvalidArgument, match="no append of the transaction names the upload"):
        await block()
    assert await backend.store.list(flow_id) == []


async def test_a_source_that_raises_leaves_the_transaction_usable(backend: Backend) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield noise(2 * MEGABYTE)
        raise OSError("the disk is gone")

    flow_id = new_flow_id()
    async with backend.store.transaction() as tx:
        with pytest.raises(OSError, match="the disk is gone"):
            await tx.put_stream(kind="Trajectory", chunks=broken(), media_type=TYPE)
        artifact = await put(tx, b"content")
        await tx.append_kind(flow_id, finished(artifact), artifacts=[artifact])
    assert await read(backend, artifact.hash) == b"content"


async def test_a_stream_ends_at_the_callers_limit(backend: Backend) -> None:
    async with backend.store.transaction() as tx:
        for limit, size in ((10, 11), (MEGABYTE, 3 * MEGABYTE)):
            with pytest.raises(InvalidPayload, match=f"more than {limit} bytes"):
                await tx.put_stream(
                    kind="Trajectory",
                    chunks=pieces(noise(size)),
                    media_type=TYPE,
                    max_stream_bytes=limit,
                )
        artifact = await tx.put_stream(
            kind="Trajectory", chunks=pieces(noise(10)), media_type=TYPE, max_stream_bytes=10
        )
        await tx.append_kind(new_flow_id(), finished(artifact), artifacts=[artifact])


async def test_what_is_no_bytes_is_refused(backend: Backend) -> None:
    async def texts() -> AsyncIterator[bytes]:
        yield "text"  # type: ignore[misc]

    async with backend.store.transaction() as tx:
        with pytest.raises(InvalidPayload, match="must be bytes, not str"):
            await tx.put_stream(kind="Trajectory", chunks=texts(), media_type=TYPE)
        with pytest.raises(InvalidPayload, match=r"\$\.kind"):
            await tx.put_stream(kind="\0", chunks=pieces(b"x"), media_type=TYPE)


@pytest.mark.parametrize("apart", [False, True], ids=["in one transaction", "one after the other"])
async def test_a_content_that_comes_again_is_the_same_artifact(
    backend: Backend, *, apart: bool
) -> None:
    content, flow_id = noise(3 * MEGABYTE), new_flow_id()
    if apart:
        first, second = [await store_stream(backend, content, flow_id) for _ in range(2)]
    else:
        async with backend.store.transaction() as tx:
            first, second = await put(tx, content), await put(tx, content)
            for artifact in (first, second):
                await tx.append_kind(flow_id, finished(artifact), artifacts=[artifact])
    assert first == second
    assert await read(backend, first.hash) == content
    assert len(await backend.store.list(flow_id)) == 2


async def test_a_content_that_is_stored_already_may_be_put_without_an_append(
    backend: Backend,
) -> None:
    whole = Artifact.from_content(kind="Spectrum", content=b"content", media_type=TYPE)
    await backend.store.append_kind(new_flow_id(), finished(whole), artifacts=[whole])
    async with backend.store.transaction() as tx:
        assert (await put(tx, b"content")).hash == whole.hash
    assert await backend.store.get_artifact(whole.hash) == whole


async def test_the_block_done_again_gives_the_same_events(backend: Backend) -> None:
    flow_id, event_id = new_flow_id(), uuid7()
    events = []
    for _ in range(2):
        async with backend.store.transaction() as tx:
            artifact = await put(tx, noise(2 * MEGABYTE))
            events.append(
                await tx.append_kind(
                    flow_id, finished(artifact), artifacts=[artifact], event_id=event_id
                )
            )
    assert events[0] == events[1]
    assert await backend.store.list(flow_id) == events[:1]


async def test_a_streamed_artifact_is_appended_where_it_was_uploaded(backend: Backend) -> None:
    artifact = await store_stream(backend, b"content")
    elsewhere: Sequence[StreamedArtifact] = [artifact]
    with pytest.raises(InvalidArgument, match="in the transaction of its upload"):
        await backend.store.append_kind(new_flow_id(), finished(artifact), artifacts=elsewhere)  # type: ignore[arg-type]
    async with backend.store.transaction() as tx:
        with pytest.raises(InvalidArgument, match="was not uploaded in this transaction"):
            await tx.append_kind(new_flow_id(), finished(artifact), artifacts=elsewhere)


async def test_nothing_else_goes_on_in_the_transaction_during_an_upload(backend: Backend) -> None:
    flow_id = new_flow_id()
    async with backend.store.transaction() as tx:

        async def meddling() -> AsyncIterator[bytes]:
            yield b"con"
            with pytest.raises(InvalidArgument, match="is under way"):
                await tx.append_kind(flow_id, StepStarted(0, "acquire"))
            with pytest.raises(InvalidArgument, match="is under way"):
                await put(tx, b"other")
            yield b"tent"

        artifact = await tx.put_stream(kind="Trajectory", chunks=meddling(), media_type=TYPE)
        await tx.append_kind(flow_id, finished(artifact), artifacts=[artifact])
    assert await read(backend, artifact.hash) == b"content"
    assert len(await backend.store.list(flow_id)) == 1


async def test_a_conflict_leaves_the_upload_to_the_next_append(backend: Backend) -> None:
    flow_id = new_flow_id()
    await backend.store.append_kind(flow_id, initialized())
    async with backend.store.transaction() as tx:
        artifact = await put(tx, b"content")
        with pytest.raises(ConcurrencyConflict):
            await tx.append_kind(
                flow_id, finished(artifact), artifacts=[artifact], expected_version=0
            )
        await tx.append_kind(flow_id, finished(artifact), artifacts=[artifact], expected_version=1)
    assert await read(backend, artifact.hash) == b"content"


async def test_appends_of_one_transaction_follow_each_other(backend: Backend) -> None:
    flow_id = new_flow_id()
    async with backend.store.transaction() as tx:
        first = await tx.append_kind(flow_id, initialized(), expected_version=0)
        rest = await tx.append_kinds(
            flow_id, [StepSignal(0, "acquire", "said", n) for n in range(3)]
        )
    assert await backend.store.list(flow_id) == [first, *rest]


async def test_8_writers_of_one_content_store_one_artifact(backend: Backend) -> None:
    content, flow_ids = noise(2 * MEGABYTE), [new_flow_id() for _ in range(8)]
    artifacts = await asyncio.gather(
        *(store_stream(backend, content, flow_id) for flow_id in flow_ids)
    )
    assert len({artifact.hash for artifact in artifacts}) == 1
    assert await read(backend, artifacts[0].hash) == content
    assert [len(await backend.store.list(flow_id)) for flow_id in flow_ids] == [1] * 8


async def test_a_reader_may_stop_in_the_midst(backend: Backend) -> None:
    artifact = await store_stream(backend, noise(6 * MEGABYTE))
    async for chunk in backend.store.read_artifact(artifact.hash):
        assert len(chunk) == 2**20
        break
    assert len(await read(backend, artifact.hash)) == 6 * MEGABYTE


async def test_appends_that_are_gathered_in_a_transaction_take_turns(backend: Backend) -> None:
    flow_ids = [new_flow_id() for _ in range(5)]
    async with backend.store.transaction() as tx:
        events = await asyncio.gather(
            *(tx.append_kind(flow_id, initialized()) for flow_id in flow_ids * 2)
        )
    assert [event.version for event in events] == [0] * 5 + [1] * 5
    assert [len(await backend.store.list(flow_id)) for flow_id in flow_ids] == [2] * 5

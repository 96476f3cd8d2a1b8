"""Reading many artifacts is like reading each: the same artifacts, in order, the same errors."""

from collections.abc import AsyncIterator

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    ArtifactTooLarge,
    FlowEventKind,
    StepFinished,
)
from chem_persistence.store.artifact_reads import read_artifacts
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.backends import Backend


async def stored(backend: Backend, artifacts: list[Artifact]) -> list[str]:
    hashes = [artifact.hash for artifact in artifacts]
    kinds: list[FlowEventKind] = [
        initialized(),
        StepFinished(0, "acquire", tuple(hashes), "f" * 64),
    ]
    await backend.store.append_kinds(new_flow_id(), kinds, artifacts=artifacts)
    return hashes


async def test_artifacts_come_in_the_order_asked_for(backend: Backend) -> None:
    artifacts = [
        Artifact.from_payload(kind="Number", payload={"n": number}, metadata={"unit": "g"})
        for number in range(20)
    ]
    artifacts.append(Artifact.from_content(kind="B", content=b"\0\1", media_type="a/b"))
    hashes = await stored(backend, artifacts)
    reversed_hashes = [*reversed(hashes), hashes[0]]
    read = [artifact async for artifact in read_artifacts(backend.store, reversed_hashes)]
    assert read == [*reversed(artifacts), artifacts[0]]


async def test_large_artifacts_come_whole_and_in_order(backend: Backend) -> None:
    artifacts = [
        Artifact.from_content(kind="Image", content=bytes([number]) * size, media_type="image/png")
        for number, size in enumerate([2_000_000, 10, *[1_900_000] * 9, 20, 1_500_000])
    ]
    hashes = await stored(backend, artifacts)
    hashes.append(hashes[0])
    read = [artifact async for artifact in read_artifacts(backend.store, hashes)]
    assert read == [*artifacts, artifacts[0]]


async def test_an_artifact_that_is_not_stored_is_an_error_in_its_place(backend: Backend) -> None:
    artifact = Artifact.from_payload(kind="Number", payload=1)
    (artifact_hash,) = await stored(backend, [artifact])
    asked = ["a" * 64, artifact_hash, "no hash\0"]
    missing, found, unknown = [read async for read in read_artifacts(backend.store, asked)]
    assert found == artifact
    assert isinstance(missing, ArtifactNotFound)
    assert missing.artifact_hash == "a" * 64
    assert isinstance(unknown, ArtifactNotFound)


async def test_streamed_artifacts_are_read_up_to_the_limit(backend: Backend) -> None:
    async def chunks(size: int) -> AsyncIterator[bytes]:
        yield bytes(size)

    async with backend.store.transaction() as tx:
        artifacts = [
            await tx.put_stream(kind="trajectory", chunks=chunks(size), media_type="a/b")
            for size in (1_000, 3 * 2**20)
        ]
        outputs = tuple(artifact.hash for artifact in artifacts)
        await tx.append_kind(
            new_flow_id(), StepFinished(0, "acquire", outputs, "f" * 64), artifacts=artifacts
        )
    small, large = [read async for read in read_artifacts(backend.store, outputs)]
    assert small == await backend.store.get_artifact(outputs[0])
    assert isinstance(large, ArtifactTooLarge)
    assert large.size == 3 * 2**20


async def test_nothing_asked_for_is_nothing_read(backend: Backend) -> None:
    assert [read async for read in read_artifacts(backend.store, [])] == []

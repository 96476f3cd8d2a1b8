"""Appends of artifacts that are large together: PostgreSQL gets them in pieces."""

from random import Random
from uuid import uuid4

import pytest

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    ArtifactTooLarge,
    ConcurrencyConflict,
    EventIdReused,
    FlowEventKind,
    StepFinished,
    StepSignal,
)
from chem_persistence.store.artifact_reads import list_artifacts, read_artifacts
from tests.support.flows.large_artifacts import LARGE, SAID
from tests.support.servers.backends import SMALL_ARTIFACT_LIMIT, Backend


def artifacts_of(size: int, seed: int = 0) -> list[Artifact]:
    """Return four artifacts whose bodies have this many bytes together."""
    random, each = Random(seed), size // 3
    text = random.randbytes(each // 2 - 2).hex()
    contents = [random.randbytes(each), b"", random.randbytes(size - each - len(text) - 4)]
    return [
        Artifact.from_payload(kind="Text", payload=[text], metadata={"n": seed, "a": 1e-300}),
        *(
            Artifact.from_content(kind="Blob", content=content, media_type="x/y")
            for content in contents
        ),
    ]


@pytest.mark.parametrize("size", [LARGE - 2, LARGE - 1, LARGE, LARGE + 1, LARGE + 2**18])
async def test_what_is_appended_is_read_back_on_both_sides_of_the_bound(
    backend: Backend, size: int
) -> None:
    artifacts, flow_id = artifacts_of(size), uuid4()
    assert sum(len(artifact.verified()) for artifact in artifacts) == size
    kinds: list[FlowEventKind] = [
        StepFinished(0, "acquire", (artifact.hash,), "f" * 64) for artifact in artifacts
    ]
    events = await backend.store.append_kinds(flow_id, kinds, artifacts=artifacts)
    async with backend.reconnected() as again:
        assert await again.store.list(flow_id) == events
        for artifact in artifacts:
            assert await again.store.get_artifact(artifact.hash) == artifact
            chunks = [chunk async for chunk in again.store.read_artifact(artifact.hash)]
            assert b"".join(chunks) == artifact.verified()
        hashes = [artifact.hash for artifact in artifacts]
        assert [read async for read in read_artifacts(again.store, hashes)] == artifacts
        listed = await list_artifacts(again.store, flow_id)
    assert [(found.artifact_hash, found.version) for found in listed] == [
        (artifact_hash, version) for version, artifact_hash in enumerate(hashes)
    ]


async def test_a_conflict_keeps_none_of_them(backend: Backend) -> None:
    artifacts, flow_id = artifacts_of(LARGE), uuid4()
    first = await backend.store.append_kind(flow_id, SAID)
    with pytest.raises(ConcurrencyConflict) as caught:
        await backend.store.append_kind(flow_id, SAID, artifacts=artifacts, expected_version=0)
    assert (caught.value.expected, caught.value.actual) == (0, 1)
    async with backend.store.transaction() as tx:
        with pytest.raises(ConcurrencyConflict):
            await tx.append_kind(flow_id, SAID, artifacts=artifacts, expected_version=2)
    assert await backend.store.list(flow_id) == [first]
    for artifact in artifacts:
        with pytest.raises(ArtifactNotFound):
            await backend.store.get_artifact(artifact.hash)


async def test_a_repeated_append_returns_the_original_event(backend: Backend) -> None:
    artifacts, flow_id, event_id = artifacts_of(LARGE), uuid4(), uuid4()
    first = await backend.store.append_kind(flow_id, SAID, artifacts=artifacts, event_id=event_id)
    again = await backend.store.append_kind(flow_id, SAID, artifacts=artifacts, event_id=event_id)
    assert again == first
    with pytest.raises(EventIdReused):
        await backend.store.append_kind(
            flow_id, StepSignal(0, "acquire", "else"), artifacts=artifacts, event_id=event_id
        )
    assert await backend.store.list(flow_id) == [first]


async def test_those_that_are_stored_already_stay_as_they_are(backend: Backend) -> None:
    artifacts, flow_id = artifacts_of(LARGE), uuid4()
    await backend.store.append_kind(flow_id, SAID, artifacts=artifacts[:2])
    renamed = [
        Artifact.from_content(kind="Other", content=artifact.content, media_type="a/b")
        for artifact in artifacts
        if artifact.content is not None
    ]
    await backend.store.append_kind(flow_id, SAID, artifacts=[artifacts[0], *renamed])
    assert await backend.store.get_artifact(artifacts[1].hash) == artifacts[1]
    assert await backend.store.get_artifact(artifacts[2].hash) == renamed[1]
    assert await backend.store.get_artifact(artifacts[3].hash) == renamed[2]


async def test_a_transaction_stores_all_or_nothing(backend: Backend) -> None:
    artifacts, flow_id = artifacts_of(LARGE), uuid4()

    async def undone() -> None:
        async with backend.store.transaction() as tx:
            await tx.append_kind(flow_id, SAID, artifacts=artifacts)
            assert await tx.get_artifact(artifacts[0].hash) == artifacts[0]
            raise KeyError

    with pytest.raises(KeyError):
        await undone()
    assert await backend.store.list(flow_id) == []
    with pytest.raises(ArtifactNotFound):
        await backend.store.get_artifact(artifacts[0].hash)


async def test_one_that_is_too_large_keeps_the_others_out(backend: Backend) -> None:
    artifacts, flow_id = artifacts_of(LARGE), uuid4()
    larger = Artifact.from_content(
        kind="Blob", content=bytes(SMALL_ARTIFACT_LIMIT + 1), media_type="x/y"
    )
    with pytest.raises(ArtifactTooLarge):
        await backend.store.append_kind(flow_id, SAID, artifacts=[*artifacts, larger])
    with pytest.raises(ArtifactNotFound):
        await backend.store.get_artifact(artifacts[0].hash)
    assert await backend.store.list(flow_id) == []

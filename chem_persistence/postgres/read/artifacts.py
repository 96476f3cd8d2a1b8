"""Artifacts: read whole, or chunk by chunk in bounded memory, and always verified."""

from collections.abc import AsyncIterator
from uuid import UUID

from msgspec.structs import replace

from chem_persistence.domain.answers import ArtifactProducer
from chem_persistence.domain.artifacts import Artifact, is_content_hash
from chem_persistence.domain.streams import ContentCheck, cut
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import artifact_producer, stored_artifact
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import (
    StoredArtifact,
    check_readable_whole,
    decode_aside,
    decode_description,
    verify_aside,
)

__all__ = [
    "check_artifact",
    "list_flow_artifacts",
    "read_artifact_in_chunks",
    "read_whole_artifact",
]

LIST_FLOW_ARTIFACTS = statement("artifacts/list_flow_artifacts")
READ_ARTIFACT = statement("artifacts/read_artifact")
READ_CHUNKS = statement("artifacts/read_chunks")

CHUNKS_PER_PAGE = 4


async def list_flow_artifacts(
    provider: ConnectionProvider, flow_id: UUID
) -> list[ArtifactProducer]:
    """List the artifacts stored with a flow's events; see `ArtifactLister.list_artifacts`."""
    rows = await Session(provider).fetch(LIST_FLOW_ARTIFACTS, flow_id)
    return [artifact_producer(row, row["artifact_hash"]) for row in rows]


async def read_whole_artifact(
    provider: ConnectionProvider, artifact_hash: str, limit: int
) -> Artifact:
    """Read an artifact; see `EventStore.get_artifact`.

    `limit` is the largest size, in bytes, that is assembled from chunks.
    """
    stored = await _read_stored(provider, artifact_hash)
    if stored.upload_id is None:
        return await decode_aside(stored)
    check_readable_whole(stored, limit)
    content = b"".join([chunk async for chunk in _read_chunks(provider, stored)])
    return await decode_aside(replace(stored, content=content, upload_id=None))


async def read_artifact_in_chunks(
    provider: ConnectionProvider, artifact_hash: str
) -> AsyncIterator[bytes]:
    """Yield an artifact's bytes in chunks; see `StreamingEventStore.read_artifact`."""
    stored = await _read_stored(provider, artifact_hash)
    if stored.upload_id is None:
        decode_description(stored.hash, stored.metadata)
        for chunk in cut(await verify_aside(stored)):
            yield chunk
        return
    async for chunk in _read_chunks(provider, stored):
        yield chunk


async def check_artifact(provider: ConnectionProvider, stored: StoredArtifact) -> None:
    """Check that an artifact's body, in its row or in chunks, has the artifact's hash.

    Raises:
        ArtifactCorrupt: it has another hash, or cannot be read.
        StoreUnavailable, StoreError: the chunks could not be read.
    """
    if stored.upload_id is None:
        decode_description(stored.hash, stored.metadata)
        await verify_aside(stored)
        return
    async for _ in _read_chunks(provider, stored):
        pass


async def _read_stored(provider: ConnectionProvider, artifact_hash: str) -> StoredArtifact:
    if not is_content_hash(artifact_hash):
        raise ArtifactNotFound(artifact_hash)
    rows = await Session(provider).fetch(READ_ARTIFACT, artifact_hash)
    if not rows:
        raise ArtifactNotFound(artifact_hash)
    return stored_artifact(rows[0])


async def _read_chunks(
    provider: ConnectionProvider, stored: StoredArtifact
) -> AsyncIterator[bytes]:
    """Yield the chunks of an artifact; they are read in pages, with no connection held in between.

    Raises:
        ArtifactCorrupt: the row contradicts itself, a chunk is missing, or, at the end, the hash
            differs.
    """
    session = Session(provider)
    if stored.upload_id is None or stored.content_size is None:
        raise ArtifactCorrupt(stored.hash, "has chunks but no size")
    if stored.payload is not None or stored.content is not None:
        raise ArtifactCorrupt(stored.hash, "has chunks and also a body of its own")
    decode_description(stored.hash, stored.metadata)
    check, number, full = ContentCheck(stored.hash, stored.content_size), 0, True
    while full:
        page = await session.fetch(READ_CHUNKS, stored.upload_id, number, CHUNKS_PER_PAGE)
        full = len(page) == CHUNKS_PER_PAGE
        for row in page:
            if row["chunk_no"] != number:
                raise ArtifactCorrupt(stored.hash, f"chunk {number} is missing")
            yield check.take(row["content"] or b"")
            number += 1
    check.end()

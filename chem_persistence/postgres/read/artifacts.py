"""Reading artifacts: whole, or chunk by chunk in bounded memory, and never trusting what is read."""

from collections.abc import AsyncIterator
from uuid import UUID

from msgspec.structs import replace

from chem_persistence.domain.artifacts import Artifact, is_content_hash
from chem_persistence.domain.streams import ContentCheck, cut
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import call
from chem_persistence.postgres.read.rows import Row, stored_artifact
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import (
    StoredArtifact,
    check_readable_whole,
    decode_artifact,
    decode_description,
)

__all__ = ["check_artifact", "read_artifact_in_chunks", "read_whole_artifact"]

READ_ARTIFACT = statement("artifacts/read_artifact")
READ_CHUNKS = statement("artifacts/read_chunks")


PAGE_SIZE = 4
"""Chunks read at a time."""


async def read_whole_artifact(
    provider: ConnectionProvider, artifact_hash: str, limit: int
) -> Artifact:
    """Read an artifact; `limit` bounds what is put together from chunks. See `EventStore.get_artifact`."""
    stored = await _read_stored(provider, artifact_hash)
    if stored.upload_id is None:
        return decode_artifact(stored)
    check_readable_whole(stored, limit)
    content = b"".join([chunk async for chunk in _read_chunks(provider, stored)])
    return decode_artifact(replace(stored, content=content, upload_id=None))


async def read_artifact_in_chunks(
    provider: ConnectionProvider, artifact_hash: str
) -> AsyncIterator[bytes]:
    """Read an artifact's bytes; see `StreamingEventStore.read_artifact`."""
    stored = await _read_stored(provider, artifact_hash)
    if stored.upload_id is None:
        for chunk in cut(decode_artifact(stored).encoded()):
            yield chunk
        return
    async for chunk in _read_chunks(provider, stored):
        yield chunk


async def check_artifact(provider: ConnectionProvider, stored: StoredArtifact) -> None:
    """Compare an artifact's body, wherever it is, with its hash.

    Raises:
        ArtifactCorrupt: they differ.
        StoreUnavailable, StoreError: its chunks could not be read.
    """
    if stored.upload_id is None:
        decode_artifact(stored)
        return
    async for _ in _read_chunks(provider, stored):
        pass


async def _read_stored(provider: ConnectionProvider, artifact_hash: str) -> StoredArtifact:
    if not is_content_hash(artifact_hash):
        raise ArtifactNotFound(artifact_hash)
    rows = await call(provider, lambda connection: connection.fetch(READ_ARTIFACT, artifact_hash))
    if not rows:
        raise ArtifactNotFound(artifact_hash)
    return stored_artifact(rows[0])


async def _read_chunks(
    provider: ConnectionProvider, stored: StoredArtifact
) -> AsyncIterator[bytes]:
    """Give the chunks, page by page, without a connection in between.

    Raises:
        ArtifactCorrupt: the description is no artifact's, a chunk is missing, or, at the end, the hash is another.
    """
    if stored.upload_id is None or stored.content_size is None:
        raise ArtifactCorrupt(stored.hash, "has chunks, but no size")
    if stored.payload is not None or stored.content is not None:
        raise ArtifactCorrupt(stored.hash, "has a body beside its chunks")
    decode_description(stored.hash, stored.metadata)
    check, number, full = ContentCheck(stored.hash, stored.content_size), 0, True
    while full:
        page = await _read_page(provider, stored.upload_id, number)
        full = len(page) == PAGE_SIZE
        for row in page:
            if row["chunk_no"] != number:
                raise ArtifactCorrupt(stored.hash, f"lacks its chunk {number}")
            yield check.take(row["content"] or b"")
            number += 1
    check.end()


async def _read_page(provider: ConnectionProvider, upload_id: UUID, number: int) -> list[Row]:
    return await call(
        provider, lambda connection: connection.fetch(READ_CHUNKS, upload_id, number, PAGE_SIZE)
    )

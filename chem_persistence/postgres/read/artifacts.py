"""Artifacts: read whole, or chunk by chunk in bounded memory, and always verified.

A large body arrives in pieces, which a worker thread joins: the driver would copy it twice, in one
call that blocks the event loop for longer than others can wait.
"""

import asyncio
from collections.abc import AsyncIterator
from operator import itemgetter
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chem_persistence.domain.answers import ArtifactProducer
from chem_persistence.domain.artifacts import Artifact, is_content_hash
from chem_persistence.domain.streams import ContentCheck, cut
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import Row, artifact_producer, stored_artifact
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import (
    StoredArtifact,
    check_readable_whole,
    decode_artifact,
    decode_aside,
    decode_description,
    verified_body,
    verify_aside,
)

__all__ = [
    "WHOLE_BYTES",
    "check_artifact",
    "check_artifact_of_flow",
    "list_flow_artifacts",
    "read_artifact_in_chunks",
    "read_whole_artifact",
]

LIST_FLOW_ARTIFACTS = statement("artifacts/list_flow_artifacts")
READ_ARTIFACT = statement("artifacts/read_artifact")
READ_ARTIFACT_ROW = statement("verification/read_artifact_row")
READ_BODY = statement("artifacts/read_body")
READ_CHUNKS = statement("artifacts/read_chunks")

CHUNKS_PER_PAGE = 4

WHOLE_BYTES = 4 * 2**20
"""A body with more bytes (4 MiB) is read in pieces."""

PIECE_BYTES = 2**18


class _Found(msgspec.Struct):
    """A stored artifact without its body, and the body in pieces."""

    stored: StoredArtifact
    is_payload: bool
    pieces: list[bytes]

    def joined(self) -> StoredArtifact:
        """Return the artifact with its body, and forget the pieces."""
        body = b"".join(self.pieces)
        self.pieces.clear()
        if self.is_payload:
            return replace(self.stored, payload=body)
        return replace(self.stored, content=body, upload_id=None)


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
    found = await _find(provider, artifact_hash)
    if isinstance(found, StoredArtifact):
        if found.upload_id is None:
            return await decode_aside(found)
        check_readable_whole(found, limit)
        found = _Found(
            found, is_payload=False, pieces=[chunk async for chunk in _read_chunks(provider, found)]
        )
    return await asyncio.to_thread(_decode_joined, found)


async def read_artifact_in_chunks(
    provider: ConnectionProvider, artifact_hash: str
) -> AsyncIterator[bytes]:
    """Yield an artifact's bytes in chunks; see `StreamingEventStore.read_artifact`."""
    found = await _find(provider, artifact_hash)
    if isinstance(found, StoredArtifact) and found.upload_id is not None:
        async for chunk in _read_chunks(provider, found):
            yield chunk
    else:
        for chunk in cut(await _verified(found)):
            yield chunk


async def check_artifact(provider: ConnectionProvider, stored: StoredArtifact) -> None:
    """Check that an artifact's body, in its row or in chunks, has the artifact's hash.

    Raises:
        ArtifactCorrupt: it has another hash, or cannot be read.
        StoreUnavailable, StoreError: the chunks could not be read.
    """
    if stored.upload_id is None:
        await _verified(stored)
        return
    async for _ in _read_chunks(provider, stored):
        pass


async def check_artifact_of_flow(
    provider: ConnectionProvider, artifact_hash: str, flow_id: UUID
) -> None:
    """Check the row that an artifact has for a flow; see `check_artifact`."""
    (row,) = await Session(provider).fetch(READ_ARTIFACT_ROW, artifact_hash, flow_id, WHOLE_BYTES)
    found = await _read_body(provider, row)
    if isinstance(found, StoredArtifact):
        await check_artifact(provider, found)
    else:
        await _verified(found)


async def _find(provider: ConnectionProvider, artifact_hash: str) -> StoredArtifact | _Found:
    if not is_content_hash(artifact_hash):
        raise ArtifactNotFound(artifact_hash)
    rows = await Session(provider).fetch(READ_ARTIFACT, artifact_hash, WHOLE_BYTES)
    if not rows:
        raise ArtifactNotFound(artifact_hash)
    return await _read_body(provider, rows[0])


async def _read_body(provider: ConnectionProvider, row: Row) -> StoredArtifact | _Found:
    """Return the artifact of a row, after reading the body that the row lacks if it is large.

    Raises:
        ArtifactCorrupt: the row has several bodies.
    """
    stored = stored_artifact(row)
    if not row["is_apart"]:
        return stored
    if row["has_payload"] + row["has_content"] + (stored.upload_id is not None) > 1:
        raise ArtifactCorrupt(stored.hash, "has more than one body")
    rows = await Session(provider).fetch(READ_BODY, stored.hash, row["flow_id"], PIECE_BYTES)
    pieces = [piece["content"] for piece in sorted(rows, key=itemgetter("number"))]
    return _Found(stored, row["has_payload"] or stored.is_verbatim, pieces)


async def _verified(found: StoredArtifact | _Found) -> bytes:
    """Return the body of an artifact that is in one row, after comparing it with its hash."""
    stored = found if isinstance(found, StoredArtifact) else found.stored
    decode_description(stored.hash, stored.metadata)
    if isinstance(found, StoredArtifact):
        return await verify_aside(found)
    return await asyncio.to_thread(_verify_joined, found)


def _decode_joined(found: _Found) -> Artifact:
    return decode_artifact(found.joined())


def _verify_joined(found: _Found) -> bytes:
    return verified_body(found.joined())


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

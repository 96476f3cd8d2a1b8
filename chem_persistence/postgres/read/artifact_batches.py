"""Reading many artifacts in few queries, in memory bounded by bytes."""

from collections.abc import AsyncIterator, Sequence

from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooLarge
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.artifacts import WHOLE_BYTES, read_whole_artifact
from chem_persistence.postgres.read.rows import Row, stored_artifact
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import LARGE_BYTES
from chem_persistence.store.codec import check_readable_whole, decode_artifact, decode_aside
from chem_persistence.store.ports import ArtifactRead

__all__ = ["read_artifact_batches"]

READ_ARTIFACTS = statement("artifacts/read_artifacts")

GROUP = 200
"""Artifacts asked for at a time."""

BATCH_BYTES = 8 * 2**20
"""Bytes that one query returns at most."""


async def read_artifact_batches(
    provider: ConnectionProvider, artifact_hashes: Sequence[str], limit: int
) -> AsyncIterator[ArtifactRead]:
    """Yield artifacts in the order given; see `ArtifactReader.get_artifacts`.

    The first query of a group returns each artifact that is not larger than its share of
    `BATCH_BYTES`, and the sizes of the others. Those are read in batches when their turn comes, so
    that at most two batches are in memory; one above `WHOLE_BYTES` is read by itself, in pieces.
    `limit` is the store's limit for one artifact.
    """
    for start in range(0, len(artifact_hashes), GROUP):
        group = artifact_hashes[start : start + GROUP]
        share = min(BATCH_BYTES // len(group), WHOLE_BYTES)
        rows = await _read_rows(provider, group, share)
        batch: dict[str, Row] = {}
        for index, artifact_hash in enumerate(group):
            row = rows.get(artifact_hash)
            if row is not None and share < row["size"] <= WHOLE_BYTES:
                if artifact_hash not in batch:
                    batch = {}  # freed before the next one is read
                    wanted = _next_batch(group[index:], rows, share)
                    batch = await _read_rows(provider, wanted, WHOLE_BYTES)
                row = batch.get(artifact_hash)
            yield await _decode(provider, artifact_hash, row, limit)


def _next_batch(hashes: Sequence[str], rows: dict[str, Row], share: int) -> list[str]:
    """Return the next artifacts larger than `share` that fit in one batch; there is one."""
    size, batch = 0, list[str]()
    for artifact_hash in hashes:
        row = rows.get(artifact_hash)
        if row is None or not share < row["size"] <= WHOLE_BYTES:
            continue
        size += row["size"]
        if size > BATCH_BYTES:
            break
        batch.append(artifact_hash)
    return batch


async def _read_rows(
    provider: ConnectionProvider, hashes: Sequence[str], bytes_each: int
) -> dict[str, Row]:
    wanted = list(filter(is_content_hash, hashes))
    if not wanted:
        return {}
    rows = await Session(provider).fetch(READ_ARTIFACTS, wanted, bytes_each)
    return {row["artifact_hash"]: row for row in rows}


async def _decode(
    provider: ConnectionProvider, artifact_hash: str, row: Row | None, limit: int
) -> ArtifactRead:
    if row is None:
        return ArtifactNotFound(artifact_hash)
    try:
        if row["size"] > WHOLE_BYTES:
            return await read_whole_artifact(provider, artifact_hash, limit)
        stored = stored_artifact(row)
        if stored.upload_id is None:
            if row["size"] > LARGE_BYTES:
                return await decode_aside(stored)
            return decode_artifact(stored)
        check_readable_whole(stored, limit)
        return await read_whole_artifact(provider, artifact_hash, limit)
    except (ArtifactNotFound, ArtifactCorrupt, ArtifactTooLarge) as error:
        return error

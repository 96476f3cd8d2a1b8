"""Finding flows and artifacts by the beginnings of their names, and saying what an artifact is."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.errors import ArtifactNotFound
from chem_persistence.ports import ConnectionProvider
from chem_persistence.postgres.session import call
from chem_persistence.postgres.statements import DESCRIBE_ARTIFACT, FIND_ARTIFACTS, FIND_FLOWS

__all__ = ["ArtifactDescription", "describe_artifact", "find_artifacts", "find_flows"]


class ArtifactDescription(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact without its body, and the event that it came with; `content_bytes` is None for JSON."""

    hash: str
    kind: str
    media_type: str
    content_bytes: int | None
    metadata: Mapping[str, Any]
    flow_id: UUID
    version: int | None
    ts: datetime | None


async def find_flows(provider: ConnectionProvider, first: UUID, last: UUID, *, most: int) -> Sequence[UUID]:
    """Find at most so many flows whose ids are in a range.

    Raises:
        StoreUnavailable, StoreError: the log could not be read.
    """
    rows = await call(provider, lambda connection: connection.fetch(FIND_FLOWS, first, last, most))
    return [UUID(int=row["flow_id"].int) for row in rows]


async def find_artifacts(provider: ConnectionProvider, first: str, last: str, *, most: int) -> Sequence[str]:
    """Find at most so many artifacts whose hashes are in a range.

    Raises:
        StoreUnavailable, StoreError: the artifacts could not be read.
    """
    rows = await call(provider, lambda connection: connection.fetch(FIND_ARTIFACTS, first, last, most))
    return [row["artifact_hash"] for row in rows]


async def describe_artifact(provider: ConnectionProvider, artifact_hash: str) -> ArtifactDescription:
    """Describe an artifact, however large it is.

    Raises:
        ArtifactNotFound: the store has none with this hash.
        StoreUnavailable, StoreError: the artifacts could not be read.
    """
    rows = await call(provider, lambda connection: connection.fetch(DESCRIBE_ARTIFACT, artifact_hash))
    if not rows:
        raise ArtifactNotFound(artifact_hash)
    (row,) = rows
    values = dict(row) | {"metadata": msgspec.json.decode(row["metadata"])}
    return ArtifactDescription(**values)

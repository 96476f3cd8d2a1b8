"""Lineage: the artifacts that an artifact derives from, or that derive from it.

Each generation is one query, since Citus does not run recursive ones over distributed tables.
"""

from collections.abc import Collection
from uuid import UUID

from chem_persistence.domain.answers import KeptArtifact, Lineage, RelatedArtifact
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.statements import statement

__all__ = ["MOST_DISTANT", "find_kept_artifacts", "walk_lineage"]

FIND_KEPT_ARTIFACTS = statement("artifacts/find_kept_artifacts")

MOST_DISTANT = 100
"""How many steps away the related artifacts may be, unless the caller gives another bound."""


async def walk_lineage(
    provider: ConnectionProvider, statement: str, artifact_hash: str, depth: int, limit: int
) -> Lineage:
    """Read an artifact's relatives, generation by generation.

    `statement` reads the relatives of some hashes that are not among the known ones.

    Raises:
        StoreUnavailable, StoreError: a generation could not be read.
    """
    session = Session(provider)
    related, complete = await _walk(session, statement, artifact_hash, depth, limit)
    hashes = [artifact_hash, *(each.artifact_hash for each in related)]
    return Lineage(
        artifact_hash=artifact_hash,
        related=tuple(related),
        complete=complete,
        kept=tuple(await find_kept_artifacts(session, hashes)),
    )


async def find_kept_artifacts(session: Session, hashes: Collection[str]) -> list[KeptArtifact]:
    """Return artifacts whose flows were archived; see `RegisterReader.find_kept_artifacts`."""
    rows = await session.fetch(FIND_KEPT_ARTIFACTS, list(hashes))
    return [
        KeptArtifact(**row | {"flow_id": UUID(int=row["flow_id"].int)})
        for row in map(dict, rows)
        if row["bundle_sha256"] is not None
    ]


async def _walk(
    session: Session, statement: str, artifact_hash: str, depth: int, limit: int
) -> tuple[list[RelatedArtifact], bool]:
    """Return at most `limit` relatives, and whether these are all."""
    related: list[RelatedArtifact] = []
    known, generation = [artifact_hash], [artifact_hash]
    for distance in range(1, depth + 1):
        rows = await session.fetch(statement, generation, known, limit - len(related) + 1)
        related += [RelatedArtifact(distance=distance, **row) for row in rows]
        if len(related) > limit:
            return related[:limit], False
        generation = [row["artifact_hash"] for row in rows]
        known = known + generation
        if not generation:
            return related, True
    return related, False

"""Lineage: the artifacts that an artifact derives from, or that derive from it.

Each generation is one query, since Citus does not run recursive ones over distributed tables.
"""

from chem_persistence.domain.answers import Lineage, RelatedArtifact
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session

__all__ = ["MOST_DISTANT", "walk_lineage"]

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
    related: list[RelatedArtifact] = []
    known, generation = [artifact_hash], [artifact_hash]
    for distance in range(1, depth + 1):
        rows = await session.fetch(statement, generation, known, limit - len(related) + 1)
        related += [RelatedArtifact(distance=distance, **row) for row in rows]
        if len(related) > limit:
            return Lineage(
                artifact_hash=artifact_hash, related=tuple(related[:limit]), complete=False
            )
        generation = [row["artifact_hash"] for row in rows]
        known = known + generation
        if not generation:
            return Lineage(artifact_hash=artifact_hash, related=tuple(related), complete=True)
    return Lineage(artifact_hash=artifact_hash, related=tuple(related), complete=False)

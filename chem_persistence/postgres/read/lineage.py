"""Walks through what artifacts derive from, one generation a query: Citus takes no recursive ones."""

from chem_persistence.domain.answers import Lineage, RelatedArtifact
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import call

__all__ = ["MOST_DISTANT", "walk_lineage"]

MOST_DISTANT = 100
"""Steps away from an artifact that its relatives may be, unless the caller gives another bound."""


async def walk_lineage(
    provider: ConnectionProvider, statement: str, artifact_hash: str, depth: int, limit: int
) -> Lineage:
    """Give an artifact's relatives, generation by generation; `statement` gives those of some hashes that are not known.

    Raises:
        StoreUnavailable, StoreError: a generation could not be read.
    """
    related: list[RelatedArtifact] = []
    known, generation = [artifact_hash], [artifact_hash]
    for distance in range(1, depth + 1):
        arguments = (generation, known, limit - len(related) + 1)
        rows = await call(provider, lambda connection: connection.fetch(statement, *arguments))  # noqa: B023
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

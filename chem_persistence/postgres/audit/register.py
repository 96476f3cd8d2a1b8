"""The register of archives, and what the log has of flows that it names."""

from collections.abc import Collection, Sequence
from uuid import UUID

from chem_persistence.domain.answers import KeptArtifact
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.lineage import find_kept_artifacts
from chem_persistence.postgres.read.rows import Row
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.transfer.ports import FlowHead
from chem_persistence.store.transfer.register import ArchivedFlow

__all__ = ["PgRegister"]

FIND_ARCHIVED = statement("archive/find_archived")
FIND_HEADS_AT = statement("lost/find_heads_at")
READ_REGISTER = statement("archive/read_register")


class PgRegister:
    """Reads the register of archives; see `RegisterReader`."""

    def __init__(self, provider: ConnectionProvider) -> None:
        self._provider = provider

    async def read_register(self, after: int, limit: int) -> list[ArchivedFlow]:
        """Return the next rows of the register; see `RegisterReader.read_register`."""
        rows = await Session(self._provider).fetch(READ_REGISTER, after, limit)
        return [_archived_flow(row) for row in rows]

    async def find_archived(self, flow_ids: Sequence[UUID]) -> list[ArchivedFlow]:
        """Return the rows that name some flows; see `RegisterReader.find_archived`."""
        rows = await Session(self._provider).fetch(FIND_ARCHIVED, list(flow_ids))
        return [_archived_flow(row) for row in rows]

    async def find_kept_artifacts(self, hashes: Collection[str]) -> list[KeptArtifact]:
        """Return artifacts of archived flows; see `RegisterReader.find_kept_artifacts`."""
        return await find_kept_artifacts(Session(self._provider), hashes)

    async def heads_at(self, ends: Sequence[tuple[UUID, int]]) -> list[FlowHead]:
        """Return what the log has of flows; see `RegisterReader.heads_at`."""
        rows = await Session(self._provider).fetch(
            FIND_HEADS_AT, [flow_id for flow_id, _ in ends], [events for _, events in ends]
        )
        return [FlowHead(row["version"], row["chain_hash"]) for row in rows]


def _archived_flow(row: Row) -> ArchivedFlow:
    return ArchivedFlow(
        archive_no=row["archive_no"],
        flow_id=UUID(int=row["flow_id"].int),
        events=row["version"],
        link=row["chain_hash"],
        bundle_sha256=row["bundle_sha256"],
        first_seq=row["first_seq"],
        last_seq=row["last_seq"],
        consumers=tuple(row["consumers"]),
        archived_at=row["archived_at"],
        actor=row["actor"],
        by_role=row["by_role"],
    )

"""The archive of sealed flows, by the function that the archivist may call."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chem_persistence.errors import ArchiveHeld, StoreError
from chem_persistence.postgres.audit.register import PgRegister
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.transfer.ports import FlowEnd

__all__ = ["PgArchiving"]

ARCHIVE_FLOWS = statement("archive/archive_flows")
FIND_ARCHIVIST = statement("archive/find_archivist")
LIST_ENDED = statement("archive/list_ended")
LIST_KEPT_ARTIFACTS = statement("artifacts/list_kept_artifacts")
LIST_USED_ARTIFACTS = statement("artifacts/list_used_artifacts")

_HELD = {"55000", "55006"}
"""object_not_in_prerequisite_state, object_in_use (PostgreSQL manual, appendix A)"""

_NO_RIGHT = "42501"
_FIRST = UUID(int=0)


class PgArchiving(PgRegister):
    """Archives flows; see `ArchiveStore`."""

    async def check_archivist(self) -> None:
        """Check that this role may archive flows of this log; see `ArchiveStore`."""
        (row,) = await Session(self._provider).fetch(FIND_ARCHIVIST)
        if not row["is_archivist"]:
            raise StoreError(
                "this role may not archive flows: become a member of the archivist, which "
                "`chem-persistence roles` creates",
                _NO_RIGHT,
            )

    async def archive_sealed(
        self, flows: Sequence[FlowEnd], *, bundle_sha256: str, actor: str
    ) -> None:
        """Delete sealed flows, and register them; see `ArchiveStore.archive_sealed`."""
        ids = [flow.flow_id for flow in flows]
        versions = [flow.events for flow in flows]
        heads = [flow.link for flow in flows]
        try:
            await Session(self._provider).fetch(
                ARCHIVE_FLOWS, ids, versions, heads, bundle_sha256, actor
            )
        except StoreError as error:
            if error.sqlstate not in _HELD:
                raise
            raise ArchiveHeld(str(error.__cause__ or error.reason)) from error

    async def list_ended(
        self, before: datetime, *, after: UUID | None = None, limit: int = 100
    ) -> list[UUID]:
        """List flows that ended before a time; see `ArchiveStore.list_ended`."""
        rows = await Session(self._provider).fetch(LIST_ENDED, before, after or _FIRST, limit)
        return [UUID(int=row["flow_id"].int) for row in rows]

    async def used_artifacts(self, flow_id: UUID) -> list[str]:
        """Return artifacts that a flow uses; see `ArtifactUses.used_artifacts`."""
        session = Session(self._provider)
        used = await session.fetch(LIST_USED_ARTIFACTS, flow_id)
        kept = await session.fetch(LIST_KEPT_ARTIFACTS, flow_id)
        return sorted({row["artifact_hash"] for row in (*used, *kept)})

"""The archive of sealed flows of a store in memory; see `archive_flows` in sql/migrations/0022."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from uuid import UUID

from msgspec import UNSET

from chem_persistence.domain.answers import KeptArtifact
from chem_persistence.domain.events import FlowCancelled, FlowCompleted, FlowInitialized
from chem_persistence.errors import ArchiveHeld, InvalidArgument
from chem_persistence.memory.log import MemoryLog, is_sealed
from chem_persistence.store.codec import StoredEvent, decode_event
from chem_persistence.store.ports import Clock
from chem_persistence.store.transfer.ports import FlowEnd, FlowHead
from chem_persistence.store.transfer.register import ArchivedFlow

__all__ = ["MemoryArchiving"]

ROLE = "memory"
"""What the register names as the role: a store in memory has no logins."""

_FIRST = UUID(int=0)


class MemoryArchiving:
    """Archives flows; see `ArchiveStore`."""

    _log: MemoryLog
    _clock: Clock

    async def check_archivist(self) -> None:
        """Check that flows can be archived, which every program may whose store this is."""

    async def archive_sealed(
        self, flows: Sequence[FlowEnd], *, bundle_sha256: str, actor: str
    ) -> None:
        """Delete sealed flows, and register them; see `ArchiveStore.archive_sealed`."""
        if len({flow.flow_id for flow in flows}) != len(flows) or not flows:
            raise InvalidArgument("flows", "flows are archived each once, and at least one")
        known = [flow for flow in flows if self._is_registered(flow, bundle_sha256)]
        if known and not any(self._log.stream(flow.flow_id) for flow in flows):
            if len(known) == len(flows):
                return
            raise ArchiveHeld("some of the flows are archived already")
        streams = {flow.flow_id: self._log.stream(flow.flow_id) for flow in flows}
        for flow in sorted(flows, key=lambda flow: flow.flow_id):
            if not _ends_so(streams[flow.flow_id], flow):
                raise ArchiveHeld(
                    f"flow {flow.flow_id} is not in the log with {flow.events} events of which the "
                    "last is this seal"
                )
        archived_at = self._clock.now().astimezone(UTC)
        self._log.remove(streams.keys())
        for flow in sorted(flows, key=lambda flow: flow.flow_id):
            seqs = [event.seq for event in streams[flow.flow_id]]
            row = ArchivedFlow(
                archive_no=self._log.register.last_no + 1,
                flow_id=flow.flow_id,
                events=flow.events,
                link=flow.link,
                bundle_sha256=bundle_sha256,
                first_seq=seqs[0],
                last_seq=seqs[-1],
                consumers=(),
                archived_at=archived_at,
                actor=actor,
                by_role=ROLE,
            )
            self._log.register.add(row)

    def _is_registered(self, flow: FlowEnd, bundle_sha256: str) -> bool:
        return any(
            (row.events, row.link, row.bundle_sha256) == (flow.events, flow.link, bundle_sha256)
            for row in self._log.register.of_flow(flow.flow_id)
        )

    async def list_ended(
        self, before: datetime, *, after: UUID | None = None, limit: int = 100
    ) -> list[UUID]:
        """List flows that ended before a time; see `ArchiveStore.list_ended`."""
        found = (flow_id for flow_id in self._log.flow_ids() if flow_id > (after or _FIRST))
        ended = [each for each in found if _has_ended(self._log.stream(each), before)]
        return sorted(ended)[:limit]

    async def used_artifacts(self, flow_id: UUID) -> list[str]:
        """Return artifacts that a flow uses; see `ArtifactUses.used_artifacts`."""
        return self._log.used(flow_id)

    async def read_register(self, after: int, limit: int) -> Sequence[ArchivedFlow]:
        """Return the next rows of the register; see `RegisterReader.read_register`."""
        return self._log.register.after(after)[:limit]

    async def find_archived(self, flow_ids: Sequence[UUID]) -> list[ArchivedFlow]:
        """Return the rows that name some flows; see `RegisterReader.find_archived`."""
        named = frozenset(flow_ids)
        return [row for row in self._log.register.rows if row.flow_id in named]

    async def find_kept_artifacts(self, hashes: Collection[str]) -> list[KeptArtifact]:
        """Return artifacts of archived flows; see `RegisterReader.find_kept_artifacts`."""
        kept = (self._log.kept(artifact_hash) for artifact_hash in sorted(set(hashes)))
        return [each for each in kept if each is not None]

    async def heads_at(self, ends: Sequence[tuple[UUID, int]]) -> list[FlowHead]:
        """Return what the log has of flows; see `RegisterReader.heads_at`."""
        streams = [(self._log.stream(flow_id), events) for flow_id, events in ends]
        return [
            FlowHead(len(stream), stream[events - 1].link if 0 < events <= len(stream) else None)
            for stream, events in streams
        ]


def _ends_so(stream: Sequence[StoredEvent], flow: FlowEnd) -> bool:
    return len(stream) == flow.events and stream[-1].link == flow.link and is_sealed(stream)


def _has_ended(stream: Sequence[StoredEvent], before: datetime) -> bool:
    """Return whether a flow that is no other's child ended before a time."""
    first, *others = [decode_event(event) for event in stream]
    if isinstance(first.kind, FlowInitialized) and first.kind.parent is not UNSET:
        return False
    return any(
        isinstance(event.kind, FlowCompleted | FlowCancelled) and event.ts < before
        for event in (first, *others)
    )

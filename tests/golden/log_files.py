"""The golden logs: all rows of the log and of the artifacts, as a version of the library left them.

`release_0_1_0` was written before flows could be given to workers, `given_to_workers` when they
could. A golden log is never changed: logs like it exist. Its flows are those of `flow.py`.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    import asyncpg

__all__ = ["GIVEN", "OLD", "GoldenLog", "golden_log"]

OLD, GIVEN = "release_0_1_0", "given_to_workers"

STORE_EVENT = """
    INSERT INTO event_log
        (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
    VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8)
"""
STORE_ARTIFACT = """
    INSERT INTO workflow_step_artifacts (artifact_hash, kind, payload, content, content_is_payload,
        media_type, metadata, flow_id, produced_in_seq)
    SELECT $1, $2, $3::text::jsonb, $4, $5, $6, $7::text::jsonb, $8, seq
    FROM event_log WHERE flow_id = $8 AND version = $9
"""


class EventRow(msgspec.Struct, frozen=True):
    """A row of `event_log`; `chain_hash` is in hexadecimal."""

    flow_id: UUID
    version: int
    event_id: UUID
    ts: str
    event_type: str
    payload: str
    metadata: str
    chain_hash: str


class ArtifactRow(msgspec.Struct, frozen=True):
    """A row of `workflow_step_artifacts`, with the version of the event it came with."""

    artifact_hash: str
    kind: str
    payload: str | None
    content: str | None
    content_is_payload: bool
    media_type: str
    metadata: str
    flow_id: UUID
    version: int


class GoldenLog(msgspec.Struct, frozen=True):
    """All rows of a log."""

    events: list[EventRow]
    artifacts: list[ArtifactRow]

    @property
    def flow_ids(self) -> list[UUID]:
        """Return the ids of the flows, in order."""
        return list(dict.fromkeys(row.flow_id for row in self.events))

    async def store(self, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Insert the rows, and nothing else: neither rows of steps nor of flows to run."""
        for row in self.events:
            await owner.execute(
                STORE_EVENT,
                row.flow_id,
                row.version,
                row.event_id,
                datetime.fromisoformat(row.ts),
                row.event_type,
                row.payload,
                row.metadata,
                bytes.fromhex(row.chain_hash),
            )
        for each in self.artifacts:
            await owner.execute(
                STORE_ARTIFACT,
                each.artifact_hash,
                each.kind,
                each.payload,
                None if each.content is None else bytes.fromhex(each.content),
                each.content_is_payload,
                each.media_type,
                each.metadata,
                each.flow_id,
                each.version,
            )


def golden_log(name: str) -> GoldenLog:
    """Read one of them."""
    path = Path(__file__).parent / "logs" / f"{name}.json"
    return msgspec.json.decode(path.read_bytes(), type=GoldenLog)

"""A small, intact log with its records, to test the checker on."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ConcurrencyConflict,
    ConnectionProvider,
    FlowEvent,
    FlowEventKind,
    PgEventStore,
    PgFlowRepository,
    StepFinished,
    StepSignal,
    StepStarted,
)
from tests.support.faults.worker import Work, three_steps
from tests.support.flows.flows import initialized
from tests.torture.checker.ledger import Ledger
from tests.torture.writers.recording import TOKEN, RecordingStore
from tests.torture.writers.records import EngineFlow, Record, RecordFile, Sent, now, read_records

__all__ = ["FLOW", "OTHER", "OWN", "UNANSWERED", "Noted", "finished", "said", "write_log"]

FLOW, OTHER, UNANSWERED = UUID(int=1), UUID(int=2), UUID(int=3)
SHARED = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
OWN = Artifact.from_content(
    kind="Spectrum", content=b"\x00\x01", media_type="application/octet-stream"
)


class Noted:
    """Appends to a store under tokens of its own choice, and keeps the records."""

    def __init__(self, store: PgEventStore, path: Path) -> None:
        self._path = path
        self.records = RecordFile(path)
        self.store = RecordingStore(store, self.records, path.name)

    async def append(
        self,
        token: str,
        flow_id: UUID,
        kinds: Sequence[FlowEventKind],
        *,
        artifacts: Sequence[Artifact] = (),
        expected_version: int | None = None,
    ) -> list[FlowEvent]:
        return await self.store.append_kinds(
            flow_id,
            kinds,
            artifacts=artifacts,
            expected_version=expected_version,
            event_ids=[uuid7() for _ in kinds],
            metadata={TOKEN: token},
        )

    def ledger(self) -> Ledger:
        return Ledger(self.read())

    def read(self) -> list[Record]:
        return read_records(self._path)[0]


def said(number: int) -> StepSignal:
    return StepSignal(0, "acquire", "said", {"n": number})


def finished(*artifacts: Artifact) -> StepFinished:
    return StepFinished(0, "acquire", tuple(artifact.hash for artifact in artifacts), "f" * 64)


async def write_log(writer: Noted, provider: ConnectionProvider) -> None:
    """Write flows: single events, batches, an append without an answer, a flow of an engine."""
    batch: list[FlowEventKind] = [StepStarted(0, "acquire"), finished(SHARED, OWN), said(1)]
    await writer.append("first", FLOW, [initialized()], expected_version=0)
    await writer.append("single", FLOW, [said(0)], expected_version=1)
    await writer.append("batch", FLOW, batch, artifacts=[SHARED, OWN])
    await writer.append("late", FLOW, [said(2)])
    await writer.append("other", OTHER, [finished(SHARED)], artifacts=[SHARED])
    with suppress(ConcurrencyConflict):
        await writer.append("refused", FLOW, [said(3)], expected_version=2)
    sent: list[FlowEventKind] = [initialized(), said(4)]
    writer.records.write(_sending("unanswered", UNANSWERED, sent))
    await PgEventStore(provider).append_kinds(UNANSWERED, sent, metadata={TOKEN: "unanswered"})
    writer.records.write(_sending("never arrived", UNANSWERED, [said(5)]))
    engine = three_steps(writer.store, PgFlowRepository(provider), Work(Path(os.devnull)))
    flow_id = await engine.run_to_end()
    writer.records.write(EngineFlow(flow_id, await engine.flow_fingerprint(), now()))


def _sending(token: str, flow_id: UUID, kinds: list[FlowEventKind]) -> Sent:
    return Sent(
        token=token,
        flow_id=flow_id,
        kinds=kinds,
        artifacts=[],
        event_ids=None,
        expected_version=None,
        by_engine=False,
        metadata={TOKEN: token},
        at=now(),
    )

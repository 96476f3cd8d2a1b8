"""Bundles of a flow that has everything, and stores to import them into."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from chem_persistence import (
    Artifact,
    FlowInitialized,
    InMemoryEventStore,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    TransferStore,
    export_flows,
)
from chem_persistence.store.codec import StoredEvent

__all__ = ["LARGE", "SMALL_FLOW", "exported", "small_store", "stored_events"]

SMALL_FLOW = UUID("0193a000-0000-7000-8000-000000000001")
LARGE = Artifact.from_content(
    kind="Grid", content=b"\0\1\n\xff" * 2**18 + b"end", media_type="application/octet-stream"
)


async def small_store(*, artifacts: tuple[Artifact, ...] = ()) -> InMemoryEventStore:
    """Return a store with one flow that was given to workers and waits for a time."""
    store = InMemoryEventStore()
    given = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO", "e": -1.5e-300})
    begin = FlowInitialized("d" * 64, 2, given.hash, due=datetime(2026, 1, 1, tzinfo=UTC))
    await store.append_kind(SMALL_FLOW, begin, artifacts=[given], metadata={"actor": "Ada"})
    await store.append_kinds(
        SMALL_FLOW,
        [
            StepStarted(0, "embed"),
            StepSignal(0, "embed", "progress", {"é": [1.0, 6.02214076e23, None]}),
            StepFinished(0, "embed", (given.hash, *(each.hash for each in artifacts)), "f" * 64),
        ],
        artifacts=artifacts,
        metadata={"reason": "tried\u2028", "n": 0.5},
    )
    await store.append_kind(
        SMALL_FLOW, StepWaits(1, "sleep", datetime(2026, 1, 2, tzinfo=UTC), {"children": 3})
    )
    return store


async def exported(store: TransferStore, path: Path, *flow_ids: UUID) -> bytes:
    """Return the bytes of a bundle of flows."""
    await export_flows(store, flow_ids or (SMALL_FLOW,), path)
    return path.read_bytes()


async def stored_events(store: TransferStore, flow_id: UUID = SMALL_FLOW) -> list[StoredEvent]:
    """Return a flow's events as they are stored."""
    return [event async for event in store.stored_events(flow_id)]

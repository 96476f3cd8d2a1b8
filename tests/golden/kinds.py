"""The events of the golden rows, one of each kind, with values that JSONB writes differently.

A golden row is a row as a server once gave it. It is never changed: rows like it are in logs.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chem_persistence import (
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    FlowParent,
    PropertyPreferenceAssigned,
    ResultOrigin,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
    content_hash,
)

METADATA = {"actor": "Ada Lovelace", "trace": {"span": "7", "sampled": 1e16}}

KINDS: tuple[FlowEventKind, ...] = (
    FlowInitialized("d" * 64, 3, "a" * 64),
    StepStarted(0, "acquire"),
    StepFinished(0, "acquire", ("a" * 64, "b" * 64), "f" * 64),
    StepFailed(
        1, "compute", StepError("ValueError", "no such atom: Ωx", "line 1\nline 2\n"), "f" * 64
    ),
    StepSignal(
        1,
        "compute",
        "progress",
        {
            "avogadro": 6.02214076e23,
            "big": 1e16,
            "tiny": 5e-324,
            "one": 1.0,
            "zero": -0.0,
            "": [None, "🧪"],
        },
    ),
    PropertyPreferenceAssigned(
        "logP", "cheapest", "c" * 64, {"because": ["fast", 0.1], "zz": 1e22}
    ),
    RetryScheduled("compute", 1, "licence server was away"),
    BranchCreated(UUID(int=2), UUID(int=1), UUID(int=1), "compute", "e" * 64),
    UserInteractionRequested(
        2, "report", {"type": "object", "minimum": -1e300}, "Which conformer?"
    ),
    UserInteractionProvided(2, "report", {"conformer": 4, "energy": -1e21}, "9" * 64),
    FlowCompleted("8" * 64),
    StepWaits(
        1,
        "compute",
        datetime(2026, 1, 1, 12, 0, 0, 500_000, UTC),
        {"job": {"id": "4711", "seconds": 1e16}, "": [-0.0]},
    ),
    FlowCancelled("no longer needed: Ωmega"),
)

ADDED: tuple[FlowEventKind, ...] = (
    FlowInitialized(
        "d" * 64,
        3,
        "a" * 64,
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        FlowParent(UUID(int=7), 2, 4_999),
        "screen",
        "CCO: Ωmega",
    ),
    StepFinished(0, "acquire", ("a" * 64,), "f" * 64, ResultOrigin(UUID(int=8), 3)),
    RetryScheduled("compute", 1, "again", datetime(2026, 1, 1, 12, 0, 0, 1, UTC)),
    UserInteractionRequested(
        2, "report", {"type": "boolean"}, "Is it?", datetime(2026, 1, 8, tzinfo=UTC)
    ),
)
"""Events with the fields that were added; their golden rows are in the folder `added_fields`."""

"""Each row's event; the decision hash of the answer is wrong, and no store accepts it any more."""


def appendable(kind: FlowEventKind) -> FlowEventKind:
    """Return the event as a store accepts it: with the hash of the decision."""
    if isinstance(kind, UserInteractionProvided):
        return replace(kind, decision_hash=content_hash(kind.provided))
    return kind


class GoldenRow(msgspec.Struct, frozen=True):
    """The columns of a row as text, and the bytes that had been sent for the payload."""

    event_type: str
    payload: str
    metadata: str
    canonical_payload: str

    def of(self, kind: FlowEventKind) -> "GoldenRow":
        """Return the row of the event, as it is or made `appendable`."""
        if not isinstance(kind, UserInteractionProvided):
            return self
        payload, canonical = (
            text.replace("9" * 64, kind.decision_hash)
            for text in (self.payload, self.canonical_payload)
        )
        return replace(self, payload=payload, canonical_payload=canonical)


def golden_rows(folder: str = ".") -> Mapping[str, GoldenRow]:
    return {
        path.stem: msgspec.json.decode(path.read_bytes(), type=GoldenRow)
        for path in sorted((Path(__file__).parent / folder).glob("*.json"))
    }

"""The flow of the golden snapshots, which has every event, and the state that its events lead to.

A golden snapshot is a row as a library of its format once stored it. It is never changed: a later
library reads the same state from it, or has a higher format number and ignores it. A new format
gets a golden snapshot of its own.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from chem_persistence import (
    FlowEventKind,
    FlowInitialized,
    FlowInstance,
    RetryScheduled,
    StepAnswer,
    StepError,
    StepFailed,
    StepFinished,
    StepSlot,
    StepStarted,
    StepStatus,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
    content_hash,
)
from chem_persistence.domain.snapshot import Snapshot
from tests.support.flows.flows import DEFINITION

FLOW_ID = UUID("019f0000-0000-7000-8000-0000000000ab")
ERROR = StepError("ValueError", "no such atom: Ωx", "line 1\nline 2\n")

KINDS: Sequence[FlowEventKind] = (  # appended one by one on a `TickingClock`
    FlowInitialized(DEFINITION.definition_hash, 3, "a" * 64),
    StepStarted(0, "acquire"),
    StepFinished(0, "acquire", ("b" * 64, "c" * 64), "d" * 64),
    StepStarted(1, "compute"),
    StepFailed(1, "compute", ERROR, "e" * 64),
    RetryScheduled("compute", 1, "licence server was away"),
    StepStarted(1, "compute"),
    StepWaits(
        1,
        "compute",
        datetime(2026, 1, 1, 12, 0, 0, 500_000, UTC),
        {"job": {"id": "4711", "seconds": 1e16}, "": [-1e-7, "Ωx"]},
    ),
    UserInteractionRequested(2, "report", {"minimum": -1e300}, "Which conformer?"),
    UserInteractionProvided(2, "report", {"energy": -1e21}),
)


def second(number: int) -> datetime:
    return datetime(2026, 1, 1, 0, 0, number, tzinfo=UTC)


INSTANCE = FlowInstance(
    id=FLOW_ID,
    version=len(KINDS),
    steps=(
        StepSlot(
            step_id="acquire",
            status=StepStatus.FINISHED,
            fingerprint="d" * 64,
            outputs=("b" * 64, "c" * 64),
            started_at=second(2),
            finished_at=second(3),
            attempts=1,
        ),
        StepSlot(
            step_id="compute",
            status=StepStatus.WAITING,
            started_at=second(7),
            attempts=2,
            retry_count=1,
            error=ERROR,
            until=datetime(2026, 1, 1, 12, 0, 0, 500_000, UTC),
            data={"": [-1e-7, "Ωx"], "job": {"id": "4711", "seconds": 1e16}},
        ),
        StepSlot(
            step_id="report",
            answer=StepAnswer({"energy": -1e21}, content_hash({"energy": -1e21})),
        ),
    ),
    input="a" * 64,
)


class GoldenSnapshot(msgspec.Struct, frozen=True):
    """The columns of a row: `state` as text, `state_hash` in hexadecimal."""

    format: int
    definition_hash: str
    state: str
    state_hash: str

    def snapshot(self) -> Snapshot:
        return Snapshot(
            flow_id=FLOW_ID,
            version=len(KINDS),
            definition_hash=self.definition_hash,
            format=self.format,
            state=self.state.encode(),
            state_hash=bytes.fromhex(self.state_hash),
        )


def golden_snapshots() -> list[GoldenSnapshot]:
    """Read them all, the oldest format first."""
    files = (Path(__file__).parent / "snapshots").glob("format_*.json")
    read = [msgspec.json.decode(path.read_bytes(), type=GoldenSnapshot) for path in files]
    return sorted(read, key=lambda golden: golden.format)

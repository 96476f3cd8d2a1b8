"""A small log for the commands: a completed flow, and one that failed with a hostile text."""

from uuid import UUID

import msgspec

from chem_persistence import (
    Artifact,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepStarted,
    build_pool,
)
from tests.support.flows.flows import DEFINITION, whole_history

__all__ = [
    "BINARY",
    "COMPLETED",
    "FAILED",
    "HOSTILE",
    "JSON_ARTIFACT",
    "LoggedFlows",
    "logged_flows",
]

COMPLETED = UUID("aaaa0000-0000-4000-8000-000000000001")
FAILED = UUID("bbbb0000-0000-4000-8000-000000000002")
HOSTILE = "\x1b[31mred\x07 \u202e[bold]x[/bold]"
"""Would colour a terminal, ring its bell, reverse its text, and be markup for Rich."""

JSON_ARTIFACT = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO", "mass": 46.07})
BINARY = Artifact.from_content(
    kind="spectrum", content=bytes(range(256)) * 40, media_type="application/octet-stream"
)


class LoggedFlows(msgspec.Struct, frozen=True):
    """The URL of the log and the ids of its flows."""

    url: str


async def logged_flows(url: str) -> LoggedFlows:
    """Append the two flows."""
    async with await build_pool(url) as pool:
        store = PgEventStore(PoolProvider(pool))
        history = whole_history(JSON_ARTIFACT)
        await store.append_kinds(COMPLETED, history, artifacts=[JSON_ARTIFACT], expected_version=0)
        first = DEFINITION.steps[0].id
        error = StepError("laboratory.Spilled", HOSTILE, "Traceback ...")
        failing: list[FlowEventKind] = [
            FlowInitialized(DEFINITION.definition_hash, len(DEFINITION.steps)),
            StepStarted(0, first),
            StepFailed(0, first, error, "a" * 64),
            RetryScheduled(first, 1, "wiped up"),
            StepStarted(0, first),
            StepFinished(0, first, (BINARY.hash,), "a" * 64),
            StepStarted(1, HOSTILE),
            StepFailed(1, HOSTILE, error, "b" * 64),
        ]
        await store.append_kinds(FAILED, failing, artifacts=[BINARY], expected_version=0)
        await store.aclose()
    return LoggedFlows(url)

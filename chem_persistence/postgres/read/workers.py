"""The workers, and the flows that none of them runs."""

from datetime import timedelta
from uuid import UUID

from msgspec import UNSET

from chem_persistence.domain.answers import OpenQuestion, WaitingFlow, WorkerSummary
from chem_persistence.domain.events import UserInteractionRequested
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import Row, flow_summary
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import decode_kind

__all__ = ["LATELY", "list_waiting_flows", "list_workers"]

COUNT_HELD_RUNS = statement("work/count_held_runs")
LIST_QUESTIONS = statement("work/list_questions")
LIST_WAITING_RUNS = statement("work/list_waiting_runs")
LIST_WORKERS = statement("work/list_workers")
READ_CLOCK = statement("work/read_clock")
READ_FLOWS = statement("flows/read_flows")

LATELY = timedelta(minutes=1)
"""A worker that has not announced itself for longer is not counted; each does so every 10 s."""


async def list_workers(session: Session) -> list[WorkerSummary]:
    """Return the workers; see `PgReadModels.workers`."""
    held = {row["holder"]: row["flows"] for row in await session.fetch(COUNT_HELD_RUNS)}
    return [
        WorkerSummary(
            worker_id=_uuid(row["worker_id"]),
            name=row["name"],
            definitions=row["definitions"],
            seen_at=row["seen_at"],
            flows=held.get(row["worker_id"], 0),
        )
        for row in await session.fetch(LIST_WORKERS)
    ]


async def list_waiting_flows(session: Session, limit: int) -> list[WaitingFlow]:
    """Return flows that no worker runs; see `PgReadModels.waiting_flows`."""
    (clock,) = await session.fetch(READ_CLOCK)
    runs = await session.fetch(LIST_WAITING_RUNS, clock["present"], limit)
    rows = await session.fetch(READ_FLOWS, [run["flow_id"] for run in runs])
    flows = {row["flow_id"]: flow_summary(row) for row in rows}
    asking = [each for each, flow in flows.items() if flow.state is FlowState.AWAITING_USER_INPUT]
    questions = {
        row["flow_id"]: _question(row)
        for row in (await session.fetch(LIST_QUESTIONS, asking) if asking else ())
    }
    since = clock["present"] - LATELY
    seen = [
        set(row["definitions"])
        for row in await session.fetch(LIST_WORKERS)
        if row["seen_at"] >= since
    ]
    return [
        WaitingFlow(
            flow_id=_uuid(run["flow_id"]),
            definition_hash=run["definition_hash"],
            due_at=run["due_at"],
            is_due=run["is_due"],
            workers=sum(run["definition_hash"] in definitions for definitions in seen),
            flow=flows.get(run["flow_id"]),
            question=questions.get(run["flow_id"]),
        )
        for run in runs
    ]


def _question(row: Row) -> OpenQuestion:
    """Return the question of an event.

    Raises:
        UnreadableEvent: its payload is damaged.
    """
    flow_id, version = row["flow_id"], row["version"]
    asked = decode_kind(row["payload"] or b"", flow_id, version, row["event_type"])
    assert isinstance(asked, UserInteractionRequested)  # noqa: S101  # by the row's event_type
    until = None if asked.until is UNSET else asked.until
    return OpenQuestion(step_id=asked.step_id, text=asked.hint, asked_at=row["ts"], until=until)


def _uuid(found: UUID) -> UUID:
    """Return the standard library's UUID for that of the driver."""
    return UUID(int=found.int)

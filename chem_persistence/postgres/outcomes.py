"""What became of many flows, read in one query."""

from collections.abc import Sequence
from uuid import UUID

from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import UnreadableEvent
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import NO_TIME, Row, stored_error
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.outcomes.reader import FlowOutcome, OutcomeFilter

__all__ = ["list_outcomes", "read_outcomes"]

LIST_OUTCOMES = statement("outcomes/list_outcomes")
READ_OUTCOMES = statement("outcomes/read_outcomes")


async def read_outcomes(
    session: Session, flow_ids: Sequence[UUID], step: str | None
) -> dict[UUID, FlowOutcome]:
    """Return what became of flows; see `OutcomeReader.flow_outcomes`."""
    if not flow_ids:
        return {}
    rows = await session.fetch(READ_OUTCOMES, list(flow_ids), step)
    return {row["flow_id"]: _outcome(row) for row in rows}


async def list_outcomes(
    session: Session,
    chosen: OutcomeFilter,
    step: str | None,
    before: FlowOutcome | None,
    limit: int,
) -> list[FlowOutcome]:
    """Return the next flows; see `OutcomeReader.list_outcomes`."""
    position = (None, None) if before is None else (before.started_at, before.flow_id)
    return [
        _outcome(row) for row in await session.fetch(LIST_OUTCOMES, step, *position, *chosen, limit)
    ]


def _outcome(row: Row) -> FlowOutcome:
    flow_id = UUID(int=row["flow_id"].int)
    if row["started_at"] is None:
        raise UnreadableEvent(flow_id, 0, NO_TIME)
    return FlowOutcome(
        flow_id=flow_id,
        started_at=row["started_at"],
        state=FlowState(row["state"]),
        definition_hash=row["definition_hash"],
        label=row["label"],
        input=row["input"],
        output=row["output"],
        failed_step=row["failed_step"],
        failure=stored_error(row["failure"], flow_id, -1),
    )

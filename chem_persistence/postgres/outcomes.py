"""What became of many flows, read in one query."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from chem_persistence.domain.events import ResultOrigin
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import UnreadableEvent
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import NO_TIME, Row, stored_error
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.outcomes.reader import FlowOutcome, OutcomeFilter

__all__ = ["PgOutcomes"]

LIST_INVALIDATED = statement("outcomes/list_invalidated")
LIST_LABELLED_OUTCOMES = statement("outcomes/list_labelled_outcomes")
LIST_NAMED_OUTCOMES = statement("outcomes/list_named_outcomes")
LIST_OUTCOMES = statement("outcomes/list_outcomes")
READ_OUTCOMES = statement("outcomes/read_outcomes")


class _Result(msgspec.Struct):
    output: str | None
    version: int
    reused_from: ResultOrigin | None


class PgOutcomes:
    """Reads what became of flows; see `OutcomeReader`."""

    _provider: ConnectionProvider

    async def flow_outcomes(
        self, flow_ids: Sequence[UUID], step: str | None
    ) -> dict[UUID, FlowOutcome]:
        """Read what became of flows in one query; see `OutcomeReader.flow_outcomes`."""
        if not flow_ids:
            return {}
        rows = await Session(self._provider).fetch(READ_OUTCOMES, list(flow_ids), step)
        return {row["flow_id"]: _outcome(row) for row in rows}

    async def invalidated_results(self, flow_ids: Sequence[UUID]) -> set[ResultOrigin]:
        """Read the invalid results of flows; see `OutcomeReader.invalidated_results`."""
        if not flow_ids:
            return set()
        rows = await Session(self._provider).fetch(LIST_INVALIDATED, list(flow_ids))
        return {ResultOrigin(UUID(int=row["flow_id"].int), row["version"]) for row in rows}

    async def list_outcomes(
        self, chosen: OutcomeFilter, step: str | None, *, before: FlowOutcome | None, limit: int
    ) -> list[FlowOutcome]:
        """Read the next flows in one query; see `OutcomeReader.list_outcomes`."""
        position = (None, None) if before is None else (before.started_at, before.flow_id)
        listing = LIST_OUTCOMES if chosen.name is None else LIST_NAMED_OUTCOMES
        if chosen.label is not None:
            listing = LIST_LABELLED_OUTCOMES
        rows = await Session(self._provider).fetch(listing, step, *position, *chosen, limit)
        return [_outcome(row) for row in rows]


def _outcome(row: Row) -> FlowOutcome:
    flow_id = UUID(int=row["flow_id"].int)
    if row["started_at"] is None:
        raise UnreadableEvent(flow_id, 0, NO_TIME)
    result = _result(row["result"], flow_id)
    return FlowOutcome(
        flow_id=flow_id,
        started_at=row["started_at"],
        state=FlowState(row["state"]),
        definition_hash=row["definition_hash"],
        label=row["label"],
        input=row["input"],
        output=None if result is None else result.output,
        origin=None if result is None else _origin(flow_id, result),
        failed_step=row["failed_step"],
        failure=stored_error(row["failure"], flow_id, -1),
    )


def _result(data: bytes | None, flow_id: UUID) -> _Result | None:
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=_Result)
    except ValueError as error:
        raise UnreadableEvent(flow_id, -1, f"result: {error}") from error


def _origin(flow_id: UUID, result: _Result) -> ResultOrigin:
    return result.reused_from or ResultOrigin(flow_id, result.version)

"""What became of the flows in the log of a store in memory."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from chem_persistence.domain.events import (
    INVALIDATED,
    FlowEvent,
    FlowInitialized,
    ResultOrigin,
    StepFinished,
    StepSignal,
)
from chem_persistence.domain.instance import StepStatus
from chem_persistence.domain.step_rows import StepChange
from chem_persistence.store.outcomes.reader import FlowOutcome, OutcomeFilter
from chem_persistence.store.outcomes.summary import SummaryFold

__all__ = ["invalidated_among", "is_listed", "outcome_of", "position_of"]


def outcome_of(events: Iterable[FlowEvent], step: str | None) -> tuple[FlowOutcome, str | None]:
    """Return what became of a flow with these events, and the flow's name.

    There is at least one event. `step` is as `OutcomeReader` has it.
    """
    fold, begun, output, origin = SummaryFold(), None, None, None
    for event in events:
        fold.take(event)
        match event.kind:
            case FlowInitialized() if event.version == 0:
                begun = event.kind
            case StepFinished() as fact:
                last = -1 if begun is None else begun.step_count - 1
                if fact.step_id == step or (step is None and fact.step_index == last):
                    output = fact.outputs[0] if fact.outputs else None
                    origin = fact.reused_from or ResultOrigin(event.flow_id, event.version)
            case _:
                pass
    summary = fold.summary()
    assert summary is not None  # noqa: S101  # there is an event
    failed = _last_failed(fold.rows.values())
    outcome = FlowOutcome(
        flow_id=summary.flow_id,
        started_at=summary.started_at,
        state=summary.state,
        definition_hash=summary.definition_hash,
        label=summary.label,
        input=None if begun is None else begun.input,
        output=output,
        origin=origin,
        failed_step=None if failed is None else failed.step_id,
        failure=summary.failure,
    )
    return outcome, summary.name


def invalidated_among(events: Sequence[FlowEvent]) -> set[ResultOrigin]:
    """Return the results of a flow with these events that were declared invalid."""
    return {
        ResultOrigin(finished.flow_id, finished.version)
        for event in events
        if isinstance(event.kind, StepSignal) and event.kind.signal == INVALIDATED
        for finished in events[: event.version]
        if isinstance(finished.kind, StepFinished)
        and finished.kind.step_index == event.kind.step_index
    }


def _last_failed(rows: Iterable[StepChange]) -> StepChange | None:
    failed = [row for row in rows if row.status is StepStatus.FAILED]
    return max(failed, key=lambda row: row.step_index, default=None)


def is_listed(outcome: FlowOutcome, name: str | None, chosen: OutcomeFilter) -> bool:
    """Return whether a flow of this name is one of those that are chosen."""
    return (
        chosen.name in {None, name}
        and chosen.definition_hash in {None, outcome.definition_hash}
        and chosen.label in {None, outcome.label}
        and (chosen.since is None or outcome.started_at >= chosen.since)
        and (outcome.definition_hash != chosen.state_of or chosen.state in {None, outcome.state})
    )


def position_of(outcome: FlowOutcome) -> tuple[object, UUID]:
    """Return the key by which flows are listed."""
    return outcome.started_at, outcome.flow_id

"""What an event says, in one line."""

from typing import Any, assert_never

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.events import (
    BranchCreated,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.views.wording import counted, short, short_hash

__all__ = ["event_step", "event_summary"]


def event_summary(kind: FlowEventKind) -> str:
    """Give the line: what the event's name and step do not say."""
    match kind:
        case FlowInitialized():
            return (
                f"{counted(kind.step_count, 'step')}, definition {short_hash(kind.definition_hash)}"
            )
        case StepStarted():
            return ""
        case StepFinished():
            return counted(len(kind.outputs), "artifact")
        case StepFailed():
            name = kind.error.error_class.rpartition(".")[2]
            return short(f"{name}: {kind.error.message}")
        case StepSignal():
            return short(kind.signal if kind.data is None else f"{kind.signal} {_line(kind.data)}")
        case PropertyPreferenceAssigned():
            return short(f"{kind.property_key} by {kind.policy_id}")
        case RetryScheduled():
            return short(f"retry {kind.retry_index}: {kind.reason}")
        case BranchCreated():
            return f"branch {kind.branch_id} of {kind.parent_flow_id}"
        case UserInteractionRequested():
            return short(kind.hint or "")
        case UserInteractionProvided():
            return short(_line(kind.provided))
        case FlowCompleted():
            return f"fingerprint {short_hash(kind.flow_fingerprint)}"
        case _ as never:
            assert_never(never)


def event_step(kind: FlowEventKind) -> str | None:
    """Give the id of the step that the event is about."""
    if isinstance(kind, BranchCreated):
        return short(kind.created_from_step_id)
    step_id = getattr(kind, "step_id", None)
    return None if step_id is None else short(step_id)


def _line(value: Any) -> str:
    return canonical_json(value)[:400].decode("utf-8", "ignore")

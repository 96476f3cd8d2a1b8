"""What a fact says, in a line."""

from typing import assert_never

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
from chem_persistence.views.wording import counted

__all__ = ["said"]


def said(kind: FlowEventKind) -> str:
    """Say it in English, with the hashes cut to what recognises them."""
    match kind:
        case FlowInitialized(definition_hash=definition, step_count=steps):
            return f"initialized: {counted(steps, 'step')}, definition {definition[:12]}"
        case StepStarted(step_id=step):
            return f"{step} started"
        case StepFinished(step_id=step, outputs=outputs):
            return (
                f"{step} finished: {', '.join(output[:12] for output in outputs) or 'no outputs'}"
            )
        case StepFailed(step_id=step, error=error):
            return f"{step} failed: {error.error_class.rpartition('.')[2]}: {error.message}"
        case StepSignal(step_id=step, signal=signal):
            return f"{step} signals {signal}"
        case PropertyPreferenceAssigned(property_key=key, policy_id=policy):
            return f"property {key} by policy {policy}"
        case RetryScheduled(step_id=step, retry_index=index, reason=reason):
            return f"{step} is retried ({index}): {reason}"
        case BranchCreated(branch_id=branch, created_from_step_id=step):
            return f"branch {branch} after {step}"
        case UserInteractionRequested(step_id=step, hint=hint):
            return f"{step} asks a person" + (f": {hint}" if hint else "")
        case UserInteractionProvided(step_id=step):
            return f"{step} was answered"
        case FlowCompleted(flow_fingerprint=fingerprint):
            return f"completed: {fingerprint[:12]}"
        case _ as never:
            assert_never(never)

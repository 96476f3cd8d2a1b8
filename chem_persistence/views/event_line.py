"""An event as one line of text."""

from typing import Any, assert_never

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.events import (
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.selection.preference import read_rationale
from chem_persistence.views.wording import counted, hash_prefix, moment, short, short_hash, title

__all__ = ["EventLine", "event_line", "event_step"]

LONGEST_JSON = 400


class EventLine(msgspec.Struct, frozen=True):
    """An event in words.

    `sentence` is complete, for a terminal, and as long as the event's texts. `detail` is what the
    event's name and its step leave open, for a page that shows these beside it, and is shortened.
    """

    sentence: str
    detail: str = ""


def event_line(fact: FlowEventKind) -> EventLine:  # noqa: PLR0912  # one match over every event
    """Return the event in words, with each hash shortened."""
    match fact:
        case FlowInitialized():
            return _beginning(fact)
        case StepStarted(step_id=step):
            return EventLine(f"{step} started")
        case StepFinished(step_id=step, outputs=outputs):
            hashes = ", ".join(hash_prefix(output) for output in outputs) or "no outputs"
            origin = f", taken over from {reused.flow_id}" if (reused := fact.reused_from) else ""
            return EventLine(
                f"{step} finished: {hashes}{origin}", counted(len(outputs), "artifact") + origin
            )
        case StepFailed(step_id=step, error=error):
            what = f"{error.error_class.rpartition('.')[2]}: {error.message}"
            return EventLine(f"{step} failed: {what}", short(what))
        case StepSignal(step_id=step, signal=signal, data=data):
            what = signal if data is None else f"{signal} {_json(data)}"
            return EventLine(f"{step} signals {signal}", short(what))
        case PropertyPreferenceAssigned():
            return _preference(fact)
        case RetryScheduled():
            return _retry(fact)
        case BranchCreated(branch_id=branch, created_from_step_id=step):
            return EventLine(
                f"branch {branch} after {step}", f"branch {branch} of {fact.parent_flow_id}"
            )
        case UserInteractionRequested():
            return _question(fact)
        case UserInteractionProvided(step_id=step, provided=provided):
            return EventLine(f"{step} was answered", short(_json(provided)))
        case FlowCompleted(flow_fingerprint=fingerprint):
            return EventLine(
                f"completed: {hash_prefix(fingerprint)}", f"fingerprint {short_hash(fingerprint)}"
            )
        case StepWaits():
            return _wait(fact)
        case FlowCancelled(reason=reason):
            return EventLine(f"cancelled: {reason}", short(reason))
        case _ as never:
            assert_never(never)


def _beginning(fact: FlowInitialized) -> EventLine:
    steps = counted(fact.step_count, "step")
    called = title(fact.name or None, fact.label or None)
    called = f", {called}" if called else ""
    return EventLine(
        f"initialized: {steps}, definition {hash_prefix(fact.definition_hash)}{called}",
        short(f"{steps}, definition {short_hash(fact.definition_hash)}{called}"),
    )


def _preference(fact: PropertyPreferenceAssigned) -> EventLine:
    key, policy = fact.property_key, fact.policy_id
    why = read_rationale(fact)
    if why is None:
        return EventLine(f"property {key} by policy {policy}", short(f"{key} by {policy}"))
    choice = f"{hash_prefix(why.chosen)} of {counted(why.count, 'candidate')}"
    margin = "" if why.margin is None else f", {why.margin:.6g} above the next"
    said = f"{choice} by {policy}: score {why.score:.6g}{margin}"
    return EventLine(f"{key} chosen: {said}", short(f"{key} {said}"))


def _retry(fact: RetryScheduled) -> EventLine:
    index, reason = fact.retry_index, fact.reason
    after = f" after {moment(fact.not_before)}" if fact.not_before else ""
    return EventLine(
        f"{fact.step_id} is retried ({index}){after}: {reason}",
        short(f"retry {index}{after}: {reason}"),
    )


def _question(fact: UserInteractionRequested) -> EventLine:
    question = f": {fact.hint}" if fact.hint else ""
    until = f" until {moment(fact.until)}" if fact.until else ""
    return EventLine(f"{fact.step_id} asks a person{until}{question}", short(fact.hint or ""))


def _wait(fact: StepWaits) -> EventLine:
    until = "" if fact.until is None else f"until {moment(fact.until)}"
    data = "" if fact.data is None else _json(fact.data)
    return EventLine(f"{fact.step_id} waits {until}".strip(), short(f"{until} {data}".strip()))


def _json(value: Any) -> str:
    return canonical_json(value)[:LONGEST_JSON].decode("utf-8", "ignore")


def event_step(fact: FlowEventKind) -> str | None:
    """Return the id of the step that the event is about; None for an event of the whole flow."""
    if isinstance(fact, BranchCreated):
        return short(fact.created_from_step_id)
    step_id = getattr(fact, "step_id", None)
    return None if step_id is None else short(step_id)

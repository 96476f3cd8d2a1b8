"""What the log says about the jobs of a step: which there are, and whether one may be under way."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.domain.definition import BATCH_JOB
from chem_persistence.domain.events import (
    RELEASED,
    SAVED,
    FlowEvent,
    StepFailed,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
)
from chem_persistence.errors import JobFailed, JobNotSubmitted

__all__ = [
    "JobHistory",
    "JobMemory",
    "has_settled",
    "is_of_class",
    "job_history",
    "job_token",
    "memory_of",
]


_OF_THE_HOLDER = (RELEASED, SAVED)


class JobMemory(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a waiting step keeps of the job with this number (`StepWaits`).

    `job` is the job as JSON, known since the time `since`. While it is None, the queue settles: its
    list is believed only after the wait. `error` is what the submission has reported.
    """

    number: int
    token: UUID
    job: Any = None
    since: datetime | None = None
    error: str | None = None

    def data(self) -> Mapping[str, Any]:
        """Return the memory as JSON."""
        return {BATCH_JOB: read_json(canonical_json(msgspec.to_builtins(self)))}


class JobHistory(msgspec.Struct, frozen=True):
    """What is known of a step's jobs.

    `failed` counts the jobs that have failed: it is the number of the present one. `starts` counts
    the starts after which the present job may have been submitted without a trace, `deaths` those
    in a row whose worker did not say what became of the submission; both with the last start.
    """

    failed: int = 0
    starts: int = 0
    deaths: int = 0


def job_token(flow_id: UUID, step_index: int, number: int) -> UUID:
    """Return the name by which the queue knows a step's job (a UUIDv5, RFC 9562, section 5.5)."""
    return uuid5(flow_id, f"{step_index}/job/{number}")


def memory_of(data: Any) -> JobMemory | None:
    """Return the memory of a step's last wait; None if it has none, or not one of a job."""
    kept = data.get(BATCH_JOB) if isinstance(data, Mapping) else None
    try:
        return None if kept is None else msgspec.convert(kept, JobMemory)
    except msgspec.ValidationError:
        return None


def is_of_class(fact: StepFailed, error: type[Exception]) -> bool:
    """Return whether a failure has been one of the library's errors for steps."""
    return fact.error.error_class == f"{error.__module__}.{error.__qualname__}"


def job_history(events: Iterable[FlowEvent], step_index: int) -> JobHistory:
    """Return what a flow's events say about the jobs of one of its steps.

    A start is the intent to submit. A wait says that the job is known, or that the queue settles,
    after which a start follows only if no job was found. Any other failure than that of the job,
    and that of a submission after which no job was found, leaves open what is under way.
    """
    history = JobHistory()
    for event in events:
        if getattr(event.kind, "step_index", None) == step_index:
            history = _after(history, event.kind)
    return history


def has_settled(events: Sequence[FlowEvent]) -> bool:
    """Return whether nothing in the events of a claimed flow says that its last wait was cut short.

    A flow that is called is claimed early: that is so after a signal that follows the wait, and
    perhaps if one came before it, while the flow was held. The clocks of two machines may differ by
    more than the wait, so theirs is not the last word.
    """
    before = list(events)
    while before and not isinstance(before[-1].kind, StepWaits):
        if _calls(before.pop().kind):
            return False
    before = before[:-1]
    while before and isinstance(before[-1].kind, StepStarted):
        before.pop()
    return not (before and _calls(before[-1].kind))


def _calls(fact: object) -> bool:
    """Return whether an event may be one that calls its flow: those of its holder do not."""
    return isinstance(fact, StepSignal | UserInteractionProvided) and (
        getattr(fact, "signal", None) not in _OF_THE_HOLDER
    )


def _after(history: JobHistory, fact: object) -> JobHistory:
    failed, starts, deaths = history.failed, history.starts, history.deaths
    match fact:
        case StepStarted():
            return JobHistory(failed, starts + 1, deaths + 1)
        case StepSignal(signal=signal) if signal == RELEASED:
            return JobHistory(failed, starts, max(deaths - 1, 0))
        case StepWaits(data=data):
            return JobHistory(failed, 0, 0 if _is_outcome(data) else max(deaths - 1, 0))
        case StepFailed():
            is_open = not is_of_class(fact, JobFailed) and not is_of_class(fact, JobNotSubmitted)
            more = 1 if is_of_class(fact, JobFailed) else 0
            return JobHistory(failed + more, max(starts, 1) if is_open else 0)
        case _:
            return history


def _is_outcome(data: Any) -> bool:
    """Return whether a wait says what became of the submission."""
    memory = memory_of(data)
    return memory is not None and (memory.job is not None or memory.error is not None)

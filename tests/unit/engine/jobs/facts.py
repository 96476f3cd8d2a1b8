"""Logs of a step with jobs, one letter a fact."""

from functools import cache
from uuid import UUID

from chem_persistence import (
    FlowEvent,
    FlowEventKind,
    FlowInitialized,
    RetryScheduled,
    StepError,
    StepFailed,
    StepSignal,
    StepStarted,
    StepWaits,
    SystemClock,
)
from chem_persistence.domain.events import RELEASED
from chem_persistence.engine.jobs.history import (
    JobMemory,
    job_token,
)

__all__ = ["FACTS", "FLOW", "TOKEN", "events"]

FLOW = UUID(int=7)
TOKEN = job_token(FLOW, 0, 0)


def failed(error_class: str) -> StepFailed:
    return StepFailed(0, "job", StepError(error_class, "no"), "f" * 64)


def waits(memory: JobMemory) -> StepWaits:
    return StepWaits(0, "job", None, memory.data())


FACTS: dict[str, FlowEventKind] = {
    "I": FlowInitialized("d" * 64, 1),
    "S": StepStarted(0, "job"),
    "o": StepStarted(1, "other"),
    "w": waits(JobMemory(0, TOKEN)),
    "e": waits(JobMemory(0, TOKEN, error="refused")),
    "j": waits(JobMemory(0, TOKEN, job={})),
    "J": failed("chem_persistence.JobFailed"),
    "N": failed("chem_persistence.JobNotSubmitted"),
    "L": failed("chem_persistence.WorkerLost"),
    "X": failed("builtins.ValueError"),
    "R": RetryScheduled("job", 1, "again"),
    "G": StepSignal(0, "job", RELEASED),
    "g": StepSignal(0, "job", "said"),
}


@cache
def events(facts: str) -> list[FlowEvent]:
    now = SystemClock().now()
    return [
        FlowEvent(
            seq=version,
            flow_id=FLOW,
            version=version,
            event_id=UUID(int=version),
            ts=now,
            kind=FACTS[fact],
        )
        for version, fact in enumerate(facts)
    ]

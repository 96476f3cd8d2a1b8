"""The errors of a flow that does not go on, and of its steps."""

import math
import signal
from datetime import datetime, timedelta
from uuid import UUID

from chem_persistence.errors.values import ChemPersistenceError

__all__ = [
    "ChildrenFailed",
    "DefinitionMismatch",
    "FlowAlreadyCompleted",
    "FlowAwaitsUser",
    "FlowHasFailed",
    "FlowIsRunning",
    "FlowIsWaiting",
    "FlowNotCompleted",
    "FlowWasCancelled",
    "JobFailed",
    "JobNotSubmitted",
    "NotConverged",
    "NotWaiting",
    "ProcessDied",
    "StepRaised",
    "WorkerLost",
]


class DefinitionMismatch(ChemPersistenceError):
    """The flow was started with the definition `actual`, not with `expected`.

    `differences` says how the expected one differs from it, each in words; it is empty if the store
    does not have the definition of the flow.
    """

    def __init__(
        self, flow_id: UUID, expected: str, actual: str, differences: tuple[str, ...] = ()
    ) -> None:
        super().__init__(
            f"flow {flow_id} belongs to definition {actual}, not to {expected}: open it with the "
            f"steps with which it was started{'; since then ' if differences else ''}"
            + ", ".join(differences)
        )
        self.flow_id = flow_id
        self.expected = expected
        self.actual = actual
        self.differences = differences


class FlowAlreadyCompleted(ChemPersistenceError):
    """The flow has its `FlowCompleted` event: there is nothing left to run."""

    def __init__(self, flow_id: UUID) -> None:
        super().__init__(f"flow {flow_id} is completed: there is nothing left to run")
        self.flow_id = flow_id


class FlowNotCompleted(ChemPersistenceError):
    """The flow has steps left to finish, so it has no fingerprint yet."""

    def __init__(self, flow_id: UUID) -> None:
        super().__init__(f"flow {flow_id} is not completed: run it to its end first")
        self.flow_id = flow_id


class FlowHasFailed(ChemPersistenceError):
    """A step of the flow failed; the flow goes on after a retry is scheduled.

    `error_class` and `reason` are the class and the message of the step's error.
    """

    def __init__(
        self, flow_id: UUID, step_id: str, error_class: str = "", reason: str = ""
    ) -> None:
        error = f" ({error_class}: {reason})" if error_class else ""
        super().__init__(
            f"flow {flow_id}: step {step_id!r} has failed{error} and no retry is scheduled: call "
            "`schedule_retry` first"
        )
        self.flow_id = flow_id
        self.step_id = step_id
        self.error_class = error_class
        self.reason = reason


class FlowAwaitsUser(ChemPersistenceError):
    """A step of the flow waits for a `UserInteractionProvided` event."""

    def __init__(self, flow_id: UUID, step_id: str) -> None:
        super().__init__(
            f"flow {flow_id}: step {step_id!r} waits for a person's answer: give it by "
            "`FlowClient.answer` first"
        )
        self.flow_id = flow_id
        self.step_id = step_id


class NotWaiting(ChemPersistenceError):
    """The step does not wait for a person: it was answered, has not asked, or its flow is over."""

    def __init__(self, flow_id: UUID, step_id: str, state: str) -> None:
        super().__init__(
            f"flow {flow_id}: step {step_id!r} waits for no answer, it is {state}; an answer that "
            "was given stays"
        )
        self.flow_id = flow_id
        self.step_id = step_id
        self.state = state


class FlowIsWaiting(ChemPersistenceError):
    """A step of the flow waits until a time, or (`until` is None) until something happens to it."""

    def __init__(self, flow_id: UUID, step_id: str, until: datetime | None) -> None:
        when = "something happens to the flow" if until is None else until.isoformat()
        super().__init__(f"flow {flow_id}: step {step_id!r} waits until {when}")
        self.flow_id = flow_id
        self.step_id = step_id
        self.until = until


class FlowIsRunning(ChemPersistenceError):
    """Another worker, or another program's `run_to_end`, holds the lease of the flow.

    `lease_left` is after how long the lease ends if it is not renewed, where that is known. If its
    holder has died, the flow can be run then.
    """

    def __init__(self, flow_id: UUID, lease_left: timedelta | None = None) -> None:
        ends = "when its lease has ended"
        if lease_left is not None:
            seconds = max(1, math.ceil(lease_left.total_seconds()))
            ends = f"in {seconds} s, when its lease ends unless it is renewed"
        super().__init__(f"flow {flow_id} is run by another worker or program: try again {ends}")
        self.flow_id = flow_id
        self.lease_left = lease_left


class FlowWasCancelled(ChemPersistenceError):
    """The flow was cancelled, for this reason: it never goes on."""

    def __init__(self, flow_id: UUID, reason: str) -> None:
        super().__init__(f"flow {flow_id} was cancelled: {reason}")
        self.flow_id = flow_id
        self.reason = reason


class StepRaised(ChemPersistenceError):
    """A step's own code raised; its `StepFailed` is in the log, the original is `__cause__`."""

    def __init__(self, flow_id: UUID, step_id: str) -> None:
        super().__init__(f"flow {flow_id}: step {step_id!r} raised")
        self.flow_id = flow_id
        self.step_id = step_id


class ProcessDied(ChemPersistenceError):
    """The child process of a `ProcessStep` ended before it returned a result.

    `exit_code` is its exit code, or minus the number of the signal that killed it.
    """

    __module__ = "chem_persistence"  # the log names it `chem_persistence.ProcessDied`

    def __init__(self, step_id: str, exit_code: int) -> None:
        super().__init__(f"the process of step {step_id!r} {_ending(exit_code)}")
        self.step_id = step_id
        self.exit_code = exit_code


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code} before it returned"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


class WorkerLost(ChemPersistenceError):
    """A step's worker died, or lost its lease, `starts` times in a row before it had an outcome."""

    __module__ = "chem_persistence"  # the log names it `chem_persistence.WorkerLost`

    def __init__(self, step_id: str, starts: int) -> None:
        reason = "each time its worker died, or lost its lease; find out why, then schedule a retry"
        super().__init__(f"step {step_id!r} was started {starts} times in a row: {reason}")
        self.step_id = step_id
        self.starts = starts


class JobFailed(ChemPersistenceError):
    """The job of a `BatchJob` step has failed, for this reason; a retry submits another one."""

    __module__ = "chem_persistence"  # the log names it `chem_persistence.JobFailed`

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class JobNotSubmitted(ChemPersistenceError):
    """The submission of a job reported a failure, and the queue does not have the job.

    `reason` is what was reported, in words.
    """

    __module__ = "chem_persistence"  # the log names it `chem_persistence.JobNotSubmitted`

    def __init__(self, step_id: str, reason: str) -> None:
        super().__init__(f"the job of step {step_id!r} was not submitted: {reason}")
        self.step_id = step_id
        self.reason = reason


class ChildrenFailed(ChemPersistenceError):
    """More of the flows that a step runs have failed, or were cancelled, than it tolerates.

    `failed` of `count` have; `first` is why the first one of them has, in words. A retry of the
    step retries those that failed, but never those that were cancelled.
    """

    __module__ = "chem_persistence"  # the log names it `chem_persistence.ChildrenFailed`

    def __init__(self, step_id: str, failed: int, count: int, tolerated: int, first: str) -> None:
        super().__init__(
            f"step {step_id!r}: {failed} of {count} flows have failed or were cancelled, "
            f"{tolerated} are tolerated; the first: {first}"
        )
        self.step_id = step_id
        self.failed = failed
        self.count = count
        self.tolerated = tolerated
        self.first = first


class NotConverged(ChemPersistenceError):
    """A step has repeated its flow as often as it may, and the result is not as it should be."""

    __module__ = "chem_persistence"  # the log names it `chem_persistence.NotConverged`

    def __init__(self, step_id: str, rounds: int) -> None:
        super().__init__(f"step {step_id!r} has not converged within its limit of {rounds} rounds")
        self.step_id = step_id
        self.rounds = rounds

"""A step that is done by a job of a batch queue, which is submitted once whatever dies."""

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar, final

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import canonical_json, outweighs, read_json
from chem_persistence.domain.definition import BATCH_JOB
from chem_persistence.domain.events import FlowEvent
from chem_persistence.engine.attempt import decoded_input, encoded_output, is_interruption
from chem_persistence.engine.jobs.history import (
    JobMemory,
    has_settled,
    job_history,
    job_token,
    memory_of,
)
from chem_persistence.engine.steps.step import Wait
from chem_persistence.engine.steps.step_types import arguments_as, class_of, is_record, type_name
from chem_persistence.engine.watching import Begin, Later, Look, Looked, WatchingStep
from chem_persistence.errors import (
    InvalidDefinition,
    InvalidPayload,
    JobFailed,
    JobNotSubmitted,
    WorkerLost,
)
from chem_persistence.store.checks import LARGE_BYTES

__all__ = ["BatchJob", "JobState", "check_batch_job"]

_logger = logging.getLogger("chem_persistence.jobs")

Input_contra = TypeVar("Input_contra", contravariant=True)
Job = TypeVar("Job")
Output_co = TypeVar("Output_co", covariant=True)
Returned = TypeVar("Returned")

CALLS_PER_LOOK = 2
"""The most calls of a step's methods that one look makes."""

_MAY_SAY_FAILED = ("poll", "collect")

TOLERATED = 0.1
"""The share of the time to settle by which the clocks of two machines may differ without a wait."""

LONGEST_ERROR = 8_192
"""Characters that are kept of what a submission reports."""


class JobState(msgspec.Struct, frozen=True):
    """What a queue says about a job: it is under way, is `done`, or has `failed`, and why."""

    done: bool = False
    failed: str | None = None


class BatchJob(WatchingStep[Input_contra, Output_co], Generic[Input_contra, Job, Output_co]):
    """A step whose work is a job of a batch queue, such as Slurm.

    Subclass it with three types: its input, what is remembered of a job (a struct with its id, for
    example) and its output. Write the five methods, which talk to the queue; they must not block
    the event loop. Between them the flow holds no connection, no lease and no place in a worker.

    The start of the step is in the log before the job is submitted, and the job after it. A worker
    that finds a start without a job waits for `settle`, so that a job which was submitted meanwhile
    is in the queue's list, and asks `find`; only if there is none, it submits. So it is with a
    submission that reports a failure, and before a cancellation. `settle` must be longer than a
    submission may take to be listed. A job that fails is `JobFailed`: a retry submits another one,
    under a new token. A retry after any other error goes on with the job that there is.

    A job is polled after each `every`. `timeout` is how many seconds it may take, from its
    submission on, by the clocks of the workers: then it is cancelled, and `TimeoutError` is the
    step's failure. Each call of a method may take `call_timeout` seconds.
    """

    every: timedelta = timedelta(seconds=30)
    settle: timedelta = timedelta(seconds=60)
    call_timeout: float = 60.0

    @abstractmethod
    async def find(self, token: str, /) -> Job | None:
        """Return the job that was submitted with this token, whatever became of it; None if none.

        An error says that it is not known: the step fails, and its retry asks again.
        """

    @abstractmethod
    async def submit(self, input: Input_contra, token: str, /) -> Job:  # noqa: A002
        """Submit the job, so that `find` finds it by the token from the moment it is accepted."""

    @abstractmethod
    async def poll(self, job: Job, /) -> JobState:
        """Return what became of a job.

        Raises:
            JobFailed: as if it were returned as the state.
        """

    @abstractmethod
    async def collect(self, input: Input_contra, job: Job, /) -> Output_co:  # noqa: A002
        """Return the output of a job that is done; it may be called more than once.

        Raises:
            JobFailed: what the job has left is no result, so that a retry submits another one.
        """

    @abstractmethod
    async def cancel(self, job: Job, /) -> None:
        """End a job; one that has ended already stays as it is."""

    @final
    async def look(self, look: Look, /) -> Looked:
        """Do what comes next for the job, without waiting for it.

        Raises what the methods raise, and:
            JobFailed: the job has failed.
            JobNotSubmitted: the submission reported a failure, and the queue has no such job.
            WorkerLost: one worker after the other died while it submitted the job.
            TimeoutError: the job has taken longer than its timeout, or a call than it may.
        """
        memory = memory_of(look.slot.data)
        if look.is_waiting and memory is not None:
            return await self._go_on(look, memory)
        history = job_history(await look.store.list(look.flow_id), look.step_index)
        if memory is not None and memory.job is not None and memory.number == history.failed:
            found = await self._watch(look, memory)
            return Wait(self.every, memory.data()) if isinstance(found, Later) else found
        if history.starts == 1:
            return await self._submit(look, _new_memory(look, history.failed))
        return Wait(self.settle, _new_memory(look, history.failed).data())

    async def end(self, look: Look, /) -> Wait | Later | None:
        """End the job that there may be, before its flow is cancelled; return None if that is done.

        A call that fails is made again later.
        """
        memory = memory_of(look.slot.data)
        events = await look.store.list(look.flow_id)
        history = job_history(events, look.step_index)
        is_present = memory is not None and memory.number == history.failed
        job: Any = None
        try:
            if memory is not None and is_present and memory.job is not None:
                job = self._job(memory)
            elif memory is not None and look.is_waiting:
                if not self._has_settled(look, events):
                    return Wait(self.settle, memory.data())
                job = await self._limited("find", self.find(str(memory.token)))
            elif history.starts > 0:
                return Wait(self.settle, _new_memory(look, history.failed).data())
            if job is not None:
                await self._limited("cancel", self.cancel(job))
        except Exception as error:  # noqa: BLE001 - whatever it is, the job may still be there
            _logger.warning("a job of flow %s is not cancelled yet: %r", look.flow_id, error)
            return Later(self.every)
        return None

    async def _go_on(self, look: Look, memory: JobMemory) -> Looked:
        if memory.job is not None:
            return await self._watch(look, memory)
        events = await look.store.list(look.flow_id)
        if not self._has_settled(look, events):
            return Wait(self.settle, memory.data())
        job = await self._limited("find", self.find(str(memory.token)))
        if job is not None:
            return self._keep(look, memory, job)
        if memory.error is not None:
            raise JobNotSubmitted(self.id, memory.error)
        history = job_history(events, look.step_index)
        if history.deaths >= self.retry.crashes:
            raise WorkerLost(self.id, history.deaths)
        return Begin()

    def _has_settled(self, look: Look, events: Sequence[FlowEvent]) -> bool:
        """Return whether the queue has settled; if it may not have, it settles anew.

        A child of an earlier step may call its parent late, without an event: then the clock tells.
        """
        until, present = look.slot.until, look.clock.now().astimezone(UTC)
        left = timedelta(0) if until is None else until - present
        return has_settled(events) and left <= TOLERATED * self.settle

    async def _submit(self, look: Look, memory: JobMemory) -> Wait:
        given = decoded_input(self, await look.input())
        try:
            job = await self._limited("submit", self.submit(given, str(memory.token)))
            return self._keep(look, memory, job)
        except BaseException as error:
            if is_interruption(error):
                raise
            reported = f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
            settling = msgspec.structs.replace(memory, error=reported)
            return Wait(self.settle, settling.data())

    def _keep(self, look: Look, memory: JobMemory, job: Job) -> Wait:
        """Return the wait for a job that is known from now on."""
        present = look.clock.now().astimezone(UTC)
        known = JobMemory(
            memory.number, memory.token, job=read_json(canonical_json(job)), since=present
        )
        return Wait(self.every, known.data())

    async def _watch(self, look: Look, memory: JobMemory) -> Artifact | Later:
        job = self._job(memory)
        try:
            if await self._is_done(job):
                given = decoded_input(self, await look.input())
                output = await self._limited("collect", self.collect(given, job))
                if outweighs(output, LARGE_BYTES):
                    return await asyncio.to_thread(encoded_output, self, output)
                return encoded_output(self, output)
        except JobFailed as error:
            raise _exactly(error) from error
        if self.timeout is not None and _age(look, memory) > timedelta(seconds=self.timeout):
            await self._limited("cancel", self.cancel(job))
            raise TimeoutError(
                f"the job of step {self.id!r} took longer than its timeout of {self.timeout} s: "
                "it was cancelled"
            )
        return Later(self.every)

    async def _is_done(self, job: Job) -> bool:
        state = await self._limited("poll", self.poll(job))
        if state.failed is not None:
            raise JobFailed(state.failed)
        return state.done

    def _job(self, memory: JobMemory) -> Job:
        declared = _job_type(self)
        try:
            job: Job = msgspec.convert(memory.job, declared, str_keys=True)
        except msgspec.ValidationError as error:
            raise InvalidPayload(
                "$",
                f"step {self.id!r} cannot read its job as {type_name(declared)}: {error}; it was "
                "submitted by other code",
            ) from error
        return job

    async def _limited(self, name: str, call: Awaitable[Returned]) -> Returned:
        """Await a call of a method, for as long as it may take.

        Raises what it raises, and:
            TimeoutError: it took longer.
            TypeError: it raised what would say that there is no job, which it cannot know.
        """
        limit = asyncio.timeout(self.call_timeout)
        try:
            async with limit:
                return await call
        except (JobFailed, JobNotSubmitted) as error:
            if isinstance(error, JobFailed) and name in _MAY_SAY_FAILED:
                raise
            raise TypeError(f"`{name}` of step {self.id!r} may not raise this: {error}") from error
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"`{name}` of step {self.id!r} took longer than {self.call_timeout} s"
            ) from error

    @property
    def look_limit(self) -> float:
        """After how many seconds a look is believed to hang."""
        return CALLS_PER_LOOK * self.call_timeout

    def hashed_params(self) -> Any:
        """Return the params, with what says that the step has jobs."""
        params = read_json(canonical_json(self.params))
        if params is None or isinstance(params, dict):
            return (params or {}) | {BATCH_JOB: True}
        return {"params": params, BATCH_JOB: True}


def check_batch_job(step: BatchJob[Any, Any, Any]) -> None:
    """Check the type of a step's jobs and its lengths of time.

    Raises:
        InvalidDefinition: its class does not name the type, or it is no struct; or a length of time
            is not positive.
    """
    declared = _job_type(step)
    if not is_record(class_of(declared)) or class_of(declared) is type(None):
        raise InvalidDefinition(
            f"{type(step).__qualname__} must derive from BatchJob[Input, Job, Output] with a "
            f"msgspec struct, a dataclass or an attrs class as its job, got {type_name(declared)}"
        )
    for name in ("every", "settle"):
        if getattr(step, name) <= timedelta(0):
            raise InvalidDefinition(f"step {step.id!r}: {name} must be longer than 0")
    if not step.call_timeout > 0:
        raise InvalidDefinition(f"step {step.id!r}: call_timeout must be longer than 0")


def _job_type(step: BatchJob[Any, Any, Any]) -> Any:
    """Return the type of a step's jobs, as its class names it."""
    found = arguments_as(type(step), BatchJob)
    return found[1] if found else Any


def _new_memory(look: Look, number: int) -> JobMemory:
    return JobMemory(number, job_token(look.flow_id, look.step_index, number))


def _age(look: Look, memory: JobMemory) -> timedelta:
    present: datetime = look.clock.now().astimezone(UTC)
    return timedelta(0) if memory.since is None else present - memory.since


def _exactly(error: JobFailed) -> JobFailed:
    """Return a failure of the class by which the log counts it."""
    return error if type(error) is JobFailed else JobFailed(str(error))

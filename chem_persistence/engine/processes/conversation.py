"""What the parent does while a process computes: it answers the calls of the step's context."""

import anyio
import anyio.to_thread
import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.domain.events import PropertyPreferenceAssigned
from chem_persistence.engine.attempt import describe_failure
from chem_persistence.engine.processes.errors import SentError, raised_again, sent_error
from chem_persistence.engine.processes.messages import (
    AddArtifact,
    Answer,
    Beat,
    Began,
    Call,
    GetArtifact,
    GetReceived,
    GetSaved,
    Job,
    Prefer,
    Returned,
    Save,
    SentArtifact,
    Signal,
)
from chem_persistence.engine.processes.pool import POOL
from chem_persistence.engine.processes.process import ChildProcess
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.errors import ProcessDied

__all__ = ["compute_in_process"]

LARGE = 2**20  # bytes of an artifact that is hashed in a thread


class _Died(msgspec.Struct, frozen=True):
    """The process ended without an outcome, before or after it began."""

    began: bool
    exit_code: int


async def compute_in_process(job: Job, context: StepContext, grace: float) -> Returned:
    """Compute a job in a process; in a new one if an idle one ended just before it got the job.

    The process is kept only if it gave an outcome; in every other case it has ended afterwards.

    Raises what the step raises, and:
        ProcessDied: the process ended.
        OSError: the system cannot start another process.
    """
    while True:
        process = POOL.take()
        try:
            outcome = await _converse(process, job, context)
        except GeneratorExit:  # nothing can be awaited any more
            process.kill()
            POOL.drop(process)
            raise
        except BaseException:
            try:
                await process.end(grace)
            finally:
                POOL.drop(process)
            raise
        match outcome:
            case Returned():
                POOL.give_back(process)
                return outcome
            case SentError():
                POOL.give_back(process)
                raise raised_again(outcome)
            case _Died():
                POOL.drop(process)
                if outcome.began or process.uses == 1:
                    raise ProcessDied(context.step_id, outcome.exit_code)


async def _converse(
    process: ChildProcess, job: Job, context: StepContext
) -> Returned | SentError | _Died:
    """Send a job, answer the calls of its context, and return its outcome."""
    began, is_there = False, await process.send(job)
    while is_there:
        message = await process.receive()
        match message:
            case None:
                break
            case Began():
                began = True
            case Beat():
                context.heartbeat()
            case Returned() | SentError():
                return message
            case (
                Signal()
                | Prefer()
                | AddArtifact()
                | GetArtifact()
                | Save()
                | GetSaved()
                | GetReceived()
            ):
                is_there = await process.send(await _answer(message, context))
    return _Died(began, await process.exit_code())


async def _answer(call: Call, context: StepContext) -> Answer | SentError:
    """Do what a call of the context asks for; an error is raised in the child process."""
    try:
        match call:
            case Signal():
                context.signal(call.name, read_json(call.data))
            case Prefer():
                context.add_preference(
                    msgspec.convert(read_json(call.fact), PropertyPreferenceAssigned)
                )
            case AddArtifact():
                body = call.artifact.payload or call.artifact.content or b""
                if len(body) > LARGE:
                    await anyio.to_thread.run_sync(_add, call.artifact, context)
                else:
                    _add(call.artifact, context)
            case GetArtifact():
                artifact = await context.get_artifact(call.hash)
                return Answer(SentArtifact.of(artifact))
            case Save():
                await context.save(call.artifact.artifact())
            case GetSaved():
                saved = await context.saved_artifact()
                return Answer(None if saved is None else SentArtifact.of(saved))
            case GetReceived():
                return Answer(data=canonical_json(await context.received(call.name)))
    except Exception as error:  # noqa: BLE001 - the step decides what it means
        return sent_error(error, describe_failure(error))
    return Answer()


def _add(sent: SentArtifact, context: StepContext) -> None:
    context.add_artifact(sent.artifact())

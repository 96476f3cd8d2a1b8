"""A step that computes in a child process, which a cancellation or a timeout really kills."""

import os
from abc import abstractmethod
from contextlib import nullcontext, suppress
from typing import Any, TypeVar, final

import anyio
import anyio.to_thread
import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.engine.attempt import heard
from chem_persistence.engine.processes.address import address_of, find_class, main_program
from chem_persistence.engine.processes.messages import (
    Job,
    Returned,
    SentStep,
)
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.step_types import class_of, members, step_types
from chem_persistence.errors import InvalidDefinition

__all__ = ["ProcessStep", "check_process_step"]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)

LARGE = 2**20  # bytes of an artifact that is hashed in a thread
BEATS_IN_TIME = 20
"""A process sends at most so many heartbeats within the `heartbeat_timeout` of its step."""

OVERRIDES = frozenset({"id", "kind", "version"})
OF_THE_PARENT = frozenset(
    {"params", "limiter", "timeout", "heartbeat_timeout", "grace", "retry", "reuse", "uses"}
)


class ProcessStep(Step[Input_contra, Output_co]):
    """A step of foreign code: write `compute`, which runs in a child process of its own session.

    Neither Ctrl-C nor a signal handler that foreign code installs can reach it, and a cancellation
    or the end of `timeout` (seconds; None: no limit, else `TimeoutError` is the failure) ends it
    and all that it started: by SIGTERM, and by SIGKILL after `grace` seconds. If the process dies,
    the step fails with `ProcessDied`. What it prints goes to standard error. The time of
    `heartbeat_timeout` begins when `compute` does, and with each `context.heartbeat()`.

    `limiter` bounds how many processes compute at once (None: `anyio.to_process`'s default, as many
    as there are processors). A process computes many inputs, one after the other, and ends after a
    minute without one. It finds the class by its import path and gets `params` and nothing else of
    the instance: `__init__` is not called there. Input, output and params pass as JSON, artifacts
    as they are. Needs POSIX.
    """

    limiter: "anyio.CapacityLimiter | None" = None  # quoted: anyio imports the name on first use
    grace: float = 1.0
    keeps_time = True  # the time that it waits for a process is no part of its timeout

    @abstractmethod
    def compute(self, input: Input_contra, context: StepContext, /) -> Output_co:  # noqa: A002
        """Do the work, in the main thread of the child process.

        The calls of `context` block until the parent has done them; `get_artifact_blocking` reads
        an artifact here.
        """

    @final
    async def run(self, input: Input_contra, context: StepContext, /) -> Output_co:  # noqa: A002
        """Run `compute` in a child process.

        Raises what `compute` raises, and:
            ProcessDied: the process ended before it returned.
            TimeoutError: it took longer than `timeout`, or has not called `context.heartbeat` for
                `heartbeat_timeout`, and was stopped.
            InvalidDefinition: a child process cannot find the class of this step.
        """
        # few programs have such a step, and the two take a third of the library's import
        from anyio.to_process import current_default_process_limiter  # noqa: PLC0415

        from chem_persistence.engine.processes.conversation import (  # noqa: PLC0415
            compute_in_process,
        )

        silence = self.heartbeat_timeout
        beat_interval = None if silence is None else silence.total_seconds() / BEATS_IN_TIME
        job = Job(
            step=_sent_step(self),
            input=None if input is None else canonical_json(input),
            flow_id=context.flow_id,
            step_index=context.step_index,
            attempt=context.attempt,
            fingerprint=context.fingerprint,
            beat_interval=beat_interval,
        )
        async with self.limiter or current_default_process_limiter():
            with anyio.move_on_after(self.timeout):
                async with (
                    nullcontext()
                    if beat_interval is None
                    else heard(self, context, late=beat_interval, from_now=False)
                ):
                    returned = await compute_in_process(job, context, self.grace)
                output: Output_co = _output(returned, self)
                return output
        raise TimeoutError(
            f"step {self.id!r} took longer than its timeout of {self.timeout} s: its process was "
            "ended"
        )


def _sent_step(step: ProcessStep[Any, Any]) -> SentStep:
    """Return what a child process needs to make a step again.

    Raises:
        InvalidDefinition: it cannot make it; see `check_process_step`.
    """
    if os.name != "posix":
        raise InvalidDefinition(f"step {step.id!r} is a ProcessStep, which needs POSIX")
    own = vars(step)
    if more := sorted(own.keys() - OVERRIDES - OF_THE_PARENT):
        raise InvalidDefinition(
            f"step {step.id!r} has the attribute {more[0]!r}, which its child process would not "
            "have: put it into params, or make it in compute"
        )
    params = step.params
    classes = [type(step)] if params is None else [type(step), type(params)]
    for cls in classes:
        _check_found(step, cls)
    in_main = any(address_of(cls).module == "__main__" for cls in classes)
    try:
        main = main_program() if in_main else None
    except ValueError as error:
        raise InvalidDefinition(
            f"step {step.id!r} is a ProcessStep of the main program: {error}; or define the step "
            "in a module"
        ) from error
    return SentStep(
        cls=address_of(type(step)),
        main=main,
        overrides={name: str(own[name]) for name in OVERRIDES & own.keys()},
        params_cls=None if params is None else address_of(type(params)),
        params=canonical_json(params),
        definition_hash=step.definition().definition_hash,
    )


def check_process_step(step: ProcessStep[Any, Any]) -> None:
    """Check that a child process can run a step.

    Raises:
        InvalidDefinition: there are no such processes here, the class is not found by its import
            path, or the instance has attributes beside its params.
    """
    _sent_step(step)


def _check_found(step: ProcessStep[Any, Any], cls: type) -> None:
    try:
        found = find_class(address_of(cls))
    except (ImportError, AttributeError, ValueError):
        found = None
    if found is not cls:
        raise InvalidDefinition(
            f"step {step.id!r} needs {cls.__module__}.{cls.__qualname__}, which its child process "
            "cannot import by this name: define it at the top level of a module"
        )


def _output(returned: Returned, step: ProcessStep[Any, Any]) -> Any:
    """Read what a process returned, as the type that the step declares.

    Raises:
        msgspec.ValidationError: it is not a value of the type.
        TypeError: the step does not declare this class, or no base of it.
    """
    declared = members(step_types(step)[1])
    output = read_json(returned.output)
    same = [member for member in declared if address_of(class_of(member)) == returned.cls]
    for exact in same[:-1]:  # as in `Box[int] | Box[str]`
        with suppress(msgspec.ValidationError):
            return msgspec.convert(output, exact, str_keys=True)
    if same:
        return msgspec.convert(output, same[-1], str_keys=True)
    found = find_class(returned.cls)
    if not issubclass(found, tuple(class_of(member) for member in declared)):
        raise TypeError(f"step {step.id!r} returned {found.__qualname__}")
    return msgspec.convert(output, found, str_keys=True)

"""One attempt at one step: decode the input, run the step, check and encode the output."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.artifacts import FRESH, Artifact
from chem_persistence.domain.canonical_json.encode import outweighs, read_json
from chem_persistence.domain.events import StepError
from chem_persistence.domain.fingerprints import step_fingerprint
from chem_persistence.domain.instance import StepAnswer
from chem_persistence.engine.processes.address import module_of
from chem_persistence.engine.processes.errors import description_of
from chem_persistence.engine.steps.ask import Ask
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.engine.steps.step import Question, Step, Wait
from chem_persistence.engine.steps.step_types import class_of, members, step_types, type_name
from chem_persistence.engine.watching import WatchingStep
from chem_persistence.errors import InvalidPayload
from chem_persistence.store.checks import LARGE_BYTES
from chem_persistence.store.ports import EventStore

__all__ = [
    "Attempt",
    "check_typed",
    "declared_types",
    "decoded_input",
    "describe_failure",
    "encoded_output",
    "heard",
    "heartbeat_limit",
    "is_interruption",
    "time_limit",
]

LONGEST_MESSAGE = 8_192
LONGEST_TRACEBACK = 65_536
"""Characters kept; a longer traceback keeps its end, which names the cause."""

SECONDS_TO_RECEIVE = 0.05
"""How long the event loop looks for heartbeats before it believes that there was none."""


class Attempt:
    """An attempt at `step`, on the artifact `given` (None: the step has no input, or reads it).

    `given_hash` is the hash of the input. `reader` is the step that takes the output, if there is
    one. `keep` stores an artifact that the step saves. `answer` is the answer to the step's
    question, which is an input of an `Ask`. `time_limit` and `heartbeat_limit` are the step's, in
    seconds, if it has any.
    """

    def __init__(
        self,
        step: Step[Any, Any],
        given: Artifact | None,
        *,
        given_hash: str | None,
        definition_hash: str,
        store: EventStore,
        flow_id: UUID,
        step_index: int,
        number: int,
        reader: Step[Any, Any] | None = None,
        data: Any = None,
        answer: StepAnswer | None = None,
        keep: Callable[[Artifact], Awaitable[None]] | None = None,
    ) -> None:
        inputs = [] if given_hash is None else [given_hash]
        if answer is not None and isinstance(step, Ask):
            inputs.append(answer.decision_hash)
        self.fingerprint = step_fingerprint(definition_hash, inputs)
        self.given_hash = given_hash
        self.context = StepContext(
            store=store,
            flow_id=flow_id,
            step_index=step_index,
            step_id=step.id,
            attempt=number,
            fingerprint=self.fingerprint,
            data=data,
            answer=answer,
            keep=keep,
        )
        self.step = step
        self.reader = reader
        self.time_limit = time_limit(step)
        self.heartbeat_limit = heartbeat_limit(step)
        self._given = given

    async def produce(self) -> list[Artifact] | Wait | Question:
        """Run the step; return its artifacts, its own output first (None is stored as `null`).

        Return a `Wait` or a `Question` if the step does.

        Raises what the step raises, and:
            TimeoutError: the step took longer than its timeout, or has not called `heartbeat`.
            InvalidPayload: the input cannot be read as the type that the step takes, or the output
                is not I-JSON, or not a value of the type that the step declares and the next one
                takes.
            TypeError: the output is of another class than the step declares.
        """
        output = await self._working(decoded_input(self.step, self._given))
        if isinstance(output, Wait | Question):
            return output
        make = partial(encoded_output, self.step, output, self.reader)
        own = await asyncio.to_thread(make) if outweighs(output, LARGE_BYTES) else make()
        own.__dict__[FRESH] = True  # until the append, which need not encode it again
        return [own, *self.context.artifacts]

    def check_readable(self, output: Artifact) -> None:
        """Check that the next step can read an output that was not encoded here.

        Raises:
            InvalidPayload: it cannot.
        """
        if self.reader is not None:
            what = f"the output of step {self.step.id!r}, which {self.reader.id!r} takes,"
            check_typed(output, (step_types(self.reader)[0],), what)

    def _working(self, given: Any) -> Awaitable[Any]:
        """Return the work of the step, which is cancelled when one of its limits is over."""
        if self.heartbeat_limit is not None:
            return self._run_heard(given)
        if self.time_limit is not None:
            return self._run_in_time(given, self.time_limit)
        return self.step.run(given, self.context)

    async def _run_heard(self, given: Any) -> Any:
        async with heard(self.step, self.context):
            if self.time_limit is None:
                return await self.step.run(given, self.context)
            return await self._run_in_time(given, self.time_limit)

    async def _run_in_time(self, given: Any, seconds: float) -> Any:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await self.step.run(given, self.context)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"step {self.step.id!r} took longer than its timeout of {seconds} s: it was "
                "cancelled"
            ) from error


def decoded_input(step: Step[Any, Any], given: Artifact | None) -> Any:
    """Decode the artifact of an input as the type that the step takes; None if there is none.

    The payload of an artifact is decoded here, not its JSON: there a float such as 1e19 is
    written as an integer, and a field that takes both types would get the integer.

    Raises:
        InvalidPayload: it cannot be read as that type.
    """
    if given is None:
        return None
    takes = step_types(step)[0]
    try:
        payload = given.payload if given.content is None else read_json(given.content)
        return msgspec.convert(payload, takes, str_keys=True)
    except msgspec.DecodeError as error:
        path, reason = _path_and_reason(error)
        raise InvalidPayload(
            path,
            f"step {step.id!r} cannot read its input, artifact {given.hash} of the kind "
            f"{given.kind!r}, as {type_name(takes)}: {reason}; it was stored by other code: "
            "while flows are alive, a new field of a struct needs a default",
        ) from error


def time_limit(step: Step[Any, Any]) -> float | None:
    """Return after how many seconds a step is cancelled; None if it has no limit, or keeps it.

    A step that is looked at keeps it: this is when a look is believed to hang.
    """
    if isinstance(step, WatchingStep):
        return step.look_limit
    return None if step.keeps_time else step.timeout


def heartbeat_limit(step: Step[Any, Any]) -> float | None:
    """Return after how many seconds without a heartbeat a step is cancelled, as `time_limit`."""
    if step.heartbeat_timeout is None or step.keeps_time:
        return None
    return step.heartbeat_timeout.total_seconds()


@asynccontextmanager
async def heard(
    step: Step[Any, Any], context: StepContext, *, late: float = 0.0, from_now: bool = True
) -> AsyncIterator[None]:
    """Cancel the block when the step has not called `context.heartbeat` for its time.

    Heartbeats may come `late` seconds late. If not `from_now`, the time begins with the first one.

    Raises:
        TimeoutError: the step has not called for so long.
    """
    assert step.heartbeat_timeout is not None  # noqa: S101  # else nothing is to be heard
    seconds, loop = step.heartbeat_timeout.total_seconds(), asyncio.get_running_loop()
    limit, timer = asyncio.timeout(None), None
    last = loop.time() if from_now else None
    is_second_look = False

    def beat() -> None:
        nonlocal last
        last = loop.time()

    def look() -> None:
        nonlocal timer, is_second_look
        ends_at = (loop.time() if last is None else last) + seconds + late
        if ends_at > loop.time():
            is_second_look = False
            timer = loop.call_at(ends_at, look)
        elif is_second_look:
            limit.reschedule(ends_at)
        else:  # if the event loop was blocked, it has first to receive what was sent meanwhile
            is_second_look = True
            timer = loop.call_later(SECONDS_TO_RECEIVE, look)

    context.beats = (*context.beats, beat)
    try:
        async with limit:
            look()
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        what = "its process was ended" if step.keeps_time else "it was cancelled"
        raise TimeoutError(
            f"step {step.id!r} has not called heartbeat for {seconds:g} s: {what}"
        ) from error
    finally:
        if timer is not None:
            timer.cancel()


def declared_types(value: Any, declared: Any) -> tuple[Any, ...]:
    """Return the members of a declared type that a value may belong to.

    Those are the ones of exactly its class (`Box[int] | Box[str]` has two for a `Box`), else the
    first one of a base class.
    """
    if type(value) is declared:  # most often
        return (declared,)
    fitting = [member for member in members(declared) if isinstance(value, class_of(member))]
    exact = [member for member in fitting if class_of(member) is type(value)]
    return tuple(exact or fitting[:1])


def encoded_output(
    step: Step[Any, Any], output: Any, reader: Step[Any, Any] | None = None
) -> Artifact:
    """Return the artifact of a step's output; `reader` is the step that takes it.

    Raises:
        InvalidPayload: it is not I-JSON, not a value of the type that the step declares, or not
            one of the type that `reader` takes.
        TypeError: it is of another class than the step declares.
    """
    declared = declared_types(output, step_types(step)[1])
    if not declared:
        raise TypeError(f"step {step.id!r} returned {type(output).__qualname__}")
    own = Artifact.from_payload(kind=type(output).__qualname__, payload=output)
    check_typed(own, declared, f"the output of step {step.id!r}")
    if reader is not None and (takes := step_types(reader)[0]) != declared[0]:
        # a subclass may have a field, a type of a field or a tag that its base cannot read
        check_typed(own, (takes,), f"the output of step {step.id!r}, which {reader.id!r} takes,")
    return own


def check_typed(artifact: Artifact, declared: tuple[Any, ...], what: str) -> None:
    """Check that a value can be read back from its artifact as one of the types declared for it.

    A struct's constructor checks neither its fields' types nor their constraints (`msgspec.Meta`).
    A type that msgspec cannot decode, such as `str | datetime`, is not checked: no step takes it.

    Raises:
        InvalidPayload: it cannot; `what` names the value in the message.
    """
    failure: msgspec.ValidationError | None = None
    for member in declared:
        try:
            msgspec.convert(artifact.payload, member, str_keys=True)
        except msgspec.ValidationError as error:
            failure = failure or error
        except (TypeError, NameError):
            return
        else:
            return
    if failure is not None:
        path, reason = _path_and_reason(failure)
        names = " | ".join(map(type_name, declared))
        raise InvalidPayload(path, f"{what} is not a valid {names}: {reason}") from failure


def _path_and_reason(error: msgspec.DecodeError) -> tuple[str, str]:
    """Separate a message of msgspec, which ends with the path of the value (" - at `$.x`")."""
    reason, _, path = str(error).partition(" - at `")
    return path.removesuffix("`") or "$", reason


def is_interruption(error: BaseException) -> bool:
    """Return whether an exception ends the attempt from outside, so that it is not a failure.

    That is Ctrl-C, the cancellation of the task that runs the flow, and the closing of its
    coroutine. `SystemExit`, and the `CancelledError` of a task that the step itself cancelled and
    awaits, are failures of the step.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(is_interruption(part) for part in error.exceptions)
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


def describe_failure(error: BaseException) -> StepError:
    """Describe an exception by class, message and traceback, as text that a store accepts.

    One that was raised in another process keeps the description that it had there.
    """
    if (described_there := description_of(error)) is not None:
        return described_there
    cls = type(error)
    # unlike str(error), it does not fail when the exception's own __str__ raises
    described = traceback.TracebackException.from_exception(error)
    return StepError(
        error_class=f"{module_of(cls)}.{cls.__qualname__}",
        message=_storable(str(described))[:LONGEST_MESSAGE],
        traceback=_storable("".join(described.format()))[-LONGEST_TRACEBACK:],
    )


def _storable(text: str) -> str:
    """Escape what is not I-JSON: lone surrogates and U+0000."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")

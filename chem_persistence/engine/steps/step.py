"""What a user of the library writes: a step, with typed input, output and parameters."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, final

import anyio
import anyio.to_thread
import msgspec

from chem_persistence.domain.definition import StepDefinition, StepKind
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.engine.steps.retry_policy import RetryPolicy
from chem_persistence.errors import InvalidArgument, InvalidDefinition

__all__ = ["BlockingStep", "Question", "Step", "Wait"]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


class Wait(msgspec.Struct, frozen=True):
    """What a step returns that cannot go on yet: its flow is released, and nothing is held.

    The step begins anew at `until`, a time or a length of time from now; with None when something
    happens to the flow, such as a signal. It then finds `data`, any JSON, as `context.data`.

    Raises:
        InvalidArgument: the time has no time zone, or the length of time is negative.
    """

    until: datetime | timedelta | None = None
    data: Any = None

    def __post_init__(self) -> None:
        match self.until:
            case datetime() as time if time.utcoffset() is None:
                raise InvalidArgument("until", "must have a time zone")
            case timedelta() as length if length < timedelta(0):
                raise InvalidArgument("until", f"must not be negative, but is {length}")
            case _:
                pass


class Question(msgspec.Struct, frozen=True):
    """What an `Ask` returns that has no answer yet: its flow is released until one comes.

    `schema` is the JSON Schema of the answer; after `timeout` seconds the default counts.
    """

    text: str
    schema: Any
    timeout: float | None


class Step(ABC, Generic[Input_contra, Output_co]):
    """One step of a flow.

    Subclass it with its types, which are msgspec structs, dataclasses or attrs classes (None: no
    input, or no output), set its `id`, and write `run`. `params` is a struct or None; change
    `version` by hand when the code comes to return other results. A step runs again if its process
    died in the middle: its effects on the outside must be safe to repeat.

    How a step is run is no part of its definition: `retry` says when a failure is tried again;
    after `timeout` seconds (None: no limit) the step is cancelled, and `TimeoutError` is its
    failure, and the same if it has not called `context.heartbeat` for `heartbeat_timeout`; `uses`
    is what it takes of each resource that is limited, such as `{"cores": 4}`. With `reuse = "any"`
    the step takes over the result of an equal step on equal input, of any flow, instead of running.
    """

    id: str
    kind: StepKind = StepKind.TRANSFORM
    version: str = "1"
    params: msgspec.Struct | None = None
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = None
    heartbeat_timeout: timedelta | None = None
    uses: Mapping[str, int] = MappingProxyType({})
    reuse: Literal["never", "any"] = "never"
    keeps_time: ClassVar[bool] = False
    """Whether `run` itself ends after `timeout` and `heartbeat_timeout`."""

    @abstractmethod
    async def run(
        self,
        input: Input_contra,  # noqa: A002
        context: StepContext,
        /,
    ) -> Output_co | Wait | Question:
        """Do the work; an exception becomes a `StepFailed` event.

        A step that cannot go on yet returns a `Wait`.

        So does `SystemExit`, and the `CancelledError` of a task that the step itself cancelled.
        Ctrl-C (`KeyboardInterrupt`) and the cancellation of the flow's task end the run without
        one: the step runs again when the flow goes on.
        """

    def with_params(self, params: msgspec.Struct) -> Self:
        """Return this step with other parameters, which are of the class of its own.

        Parameters are set so when a flow is submitted or branched with others. The step is copied:
        `run` reads `self.params`. A step that keeps what it made of them, or anything else, has to
        override this, and return a step that it makes anew.

        Raises:
            InvalidDefinition: the step has attributes of its own, of which it is not known whether
                they follow from the parameters.
        """
        known = {
            name
            for cls in type(self).__mro__
            if cls.__module__.startswith("chem_persistence.")
            for name in vars(cls).get("__annotations__", ())
        }
        if own := sorted(vars(self).keys() - known):
            raise InvalidDefinition(
                f"step {self.id!r} cannot be given other parameters: it has the attribute "
                f"{own[0]!r}, which may follow from them; override `with_params`"
            )
        other = copy.copy(self)
        other.params = params
        return other

    @final
    def definition(self) -> StepDefinition:
        """Return what is hashed of this step: {id, kind, version, params}."""
        params = self.hashed_params()
        return StepDefinition(id=self.id, kind=self.kind, version=self.version, params=params)

    def hashed_params(self) -> Any:
        """Return the params as they are hashed; steps of the library's own add to them."""
        return self.params


class BlockingStep(Step[Input_contra, Output_co]):
    """A step that would block the event loop: write `compute`, which runs in a worker thread.

    `limiter` bounds how many threads such steps use at once (None: anyio's default of 40). A thread
    cannot be stopped: a cancelled flow, or a `timeout`, waits for the computation to end.
    """

    limiter: "anyio.CapacityLimiter | None" = None  # quoted: anyio imports the name on first use

    @abstractmethod
    def compute(
        self,
        input: Input_contra,  # noqa: A002
        context: StepContext,
        /,
    ) -> Output_co | Wait:
        """Do the work, outside the event loop.

        `context.get_artifact_blocking` reads an artifact here, `context.save_blocking` saves a
        value. A step that cannot go on yet returns a `Wait`.
        """

    @final
    async def run(
        self,
        input: Input_contra,  # noqa: A002
        context: StepContext,
        /,
    ) -> Output_co | Wait:
        """Run `compute` in a worker thread."""
        return await anyio.to_thread.run_sync(self.compute, input, context, limiter=self.limiter)

"""What a step returns that waits, and steps that are done by what goes on elsewhere."""

from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeAlias, TypeVar, final, runtime_checkable
from uuid import UUID

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.instance import StepSlot, StepStatus
from chem_persistence.engine.reuse import Results
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.engine.steps.step import Step, Wait
from chem_persistence.errors import InvalidArgument
from chem_persistence.store.leasing.children import ChildReader
from chem_persistence.store.ports import Clock, EventReader, EventStore

__all__ = [
    "Begin",
    "Later",
    "Look",
    "Looked",
    "SharedStore",
    "WatchingStep",
    "needed_store",
    "wait_until",
]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


@runtime_checkable
class SharedStore(EventStore, EventReader, ChildReader, Protocol):
    """A store through which a step submits and reads other flows."""


class Later(msgspec.Struct, frozen=True):
    """There is nothing new to store: look again after this time, or when the flow is called."""

    after: timedelta


class Begin(msgspec.Struct, frozen=True):
    """The step begins anew: append its start, and look again."""


Looked: TypeAlias = Artifact | Wait | Later | Begin
"""What a look finds: the step's output, a wait to be stored, nothing new, or a new beginning."""


class Look(msgspec.Struct, frozen=True):
    """What a step sees when it looks: its flow, its own state, its input, and all flows.

    `given` is the hash of the input's artifact. What the flows that the step runs take over is
    found by `results`; they take nothing over if not `may_reuse`.
    """

    flow_id: UUID
    step_index: int
    slot: StepSlot
    given: str | None
    store: SharedStore
    clock: Clock
    results: Results | None = None
    may_reuse: bool = True

    @property
    def is_waiting(self) -> bool:
        """Whether the step has waited before; else its start was appended just now."""
        return self.slot.status is StepStatus.WAITING

    async def input(self) -> Artifact | None:
        """Read the artifact of the step's input.

        Raises what `EventStore.get_artifact` raises.
        """
        return None if self.given is None else await self.store.get_artifact(self.given)


class WatchingStep(Step[Input_contra, Output_co]):
    """A step of the library's own that is done when something elsewhere is, such as other flows.

    It is looked at after its start, when the time comes until which it waits, and when its flow is
    called. In between it holds no connection, no lease and no place in a worker.
    """

    @property
    def look_limit(self) -> float | None:
        """After how many seconds a look is believed to hang; None: never."""
        return None

    @abstractmethod
    async def look(self, look: Look, /) -> Looked:
        """Do what can be done now, without waiting for the rest; an exception fails the step.

        Errors of the store are none of the step's: the flow is left, and looked at again.
        """

    @final
    async def run(self, _: Input_contra, context: StepContext, /) -> Output_co:
        """Raise, since the engine calls `look`."""
        raise NotImplementedError(f"step {context.step_id!r} is looked at, not run")


def needed_store(store: object, step_id: str) -> SharedStore:
    """Return the store of a flow with a step that is looked at.

    Raises:
        InvalidArgument: the step cannot be looked at through it.
    """
    if not isinstance(store, SharedStore):
        raise InvalidArgument(
            "store",
            f"step {step_id!r} waits for other flows or a job, for which this store cannot give "
            "flows to workers",
        )
    return store


def wait_until(wait: Wait, clock: Clock) -> datetime | None:
    """Return the time until which a step waits, by this clock; None: until something happens."""
    if isinstance(wait.until, timedelta):
        return clock.now().astimezone(UTC) + wait.until
    return wait.until

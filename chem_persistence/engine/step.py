"""What a person writes: a step, with typed input, output and parameters."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar, final
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import StepDefinition, StepKind
from chem_persistence.domain.events import FlowEventKind, StepSignal
from chem_persistence.errors import InvalidPayload
from chem_persistence.store.checks import MAX_EVENT_BYTES
from chem_persistence.store.codec import encode_kind
from chem_persistence.store.ports import EventStore

__all__ = ["BlockingStep", "Step", "StepContext"]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


class StepContext:
    """What a step may know of the run it is in, and the two things it may say besides its output.

    `attempt` counts from 1; `fingerprint` names this work on this input, before it is done.
    Signals and extra artifacts are stored with the attempt's outcome, in its transaction: a process that dies
    leaves none of them. They may be made from a worker thread.
    """

    def __init__(
        self,
        *,
        store: EventStore,
        flow_id: UUID,
        step_index: int,
        step_id: str,
        attempt: int,
        fingerprint: str,
    ) -> None:
        self.flow_id = flow_id
        self.step_index = step_index
        self.step_id = step_id
        self.attempt = attempt
        self.fingerprint = fingerprint
        self.signals: list[FlowEventKind] = []
        self.artifacts: list[Artifact] = []
        self._store = store

    def signal(self, name: str, data: Any = None) -> None:
        """Say something that is to be a `StepSignal` event.

        Raises:
            InvalidPayload: `name` is no string, `data` is not I-JSON, or they are larger than an event may be.
        """
        encoded, said = encode_kind(StepSignal(self.step_index, self.step_id, name, data))
        if len(encoded) > MAX_EVENT_BYTES:
            raise InvalidPayload(
                "$", f"the signal has {len(encoded)} bytes, the limit is {MAX_EVENT_BYTES}"
            )
        self.signals.append(said)

    def add_artifact(self, artifact: Artifact) -> str:
        """Store an artifact beside the step's output, and give its hash for use in that output.

        Raises:
            ArtifactCorrupt: it does not have the hash that names it.
        """
        artifact.verified()
        self.artifacts.append(artifact)
        return artifact.hash

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Read an artifact that this step's input names; see `EventStore.get_artifact`."""
        return await self._store.get_artifact(artifact_hash)


class Step(ABC, Generic[Input_contra, Output_co]):
    """One step of a flow.

    Subclass it with its types, which are msgspec structs (None: nothing comes in, or nothing goes out), give
    it an `id`, and write `run`. `params` is a struct or None; `version` is changed by hand when the code
    comes to give other results. A step runs again when its process died in the middle: what it does outside must
    bear that.
    """

    id: str
    kind: StepKind = StepKind.TRANSFORM
    version: str = "1"
    params: msgspec.Struct | None = None

    @abstractmethod
    async def run(self, input: Input_contra, context: StepContext, /) -> Output_co:  # noqa: A002  # the contract's name
        """Do the work; whatever is raised becomes a `StepFailed` event."""

    @final
    def definition(self) -> StepDefinition:
        """Give what is hashed of this step: {id, kind, version, params}."""
        return StepDefinition(id=self.id, kind=self.kind, version=self.version, params=self.params)


class BlockingStep(Step[Input_contra, Output_co]):
    """A step whose work would block the event loop: write `compute`, which runs in a worker thread.

    `limiter` bounds how many threads such steps take at once (None: anyio's default of 40). A thread cannot be
    stopped: a cancelled flow waits for the computation to end.
    """

    limiter: "anyio.CapacityLimiter | None" = None  # in quotes: anyio loads such names late

    @abstractmethod
    def compute(self, input: Input_contra, context: StepContext, /) -> Output_co:  # noqa: A002  # the contract's name
        """Do the work, outside the event loop."""

    @final
    async def run(self, input: Input_contra, context: StepContext, /) -> Output_co:  # noqa: A002  # the contract's name
        """Run `compute` in a worker thread."""
        return await anyio.to_thread.run_sync(self.compute, input, context, limiter=self.limiter)

"""What a step knows of its run where it computes outside the event loop."""

from abc import ABC, abstractmethod
from typing import Any
from uuid import UUID

from chem_persistence.domain.artifacts import Artifact

__all__ = ["BlockingContext"]


class BlockingContext(ABC):
    """The twin of `StepContext` for `ProcessStep.compute`: its calls block.

    `attempt` counts from 1; `fingerprint` names this work on this input, before it is done.
    """

    flow_id: UUID
    step_index: int
    step_id: str
    attempt: int
    fingerprint: str

    @abstractmethod
    def signal(self, name: str, data: Any = None) -> None:
        """Store a `StepSignal` event with the attempt's outcome.

        Raises:
            InvalidPayload: as `StepContext.signal`.
        """

    @abstractmethod
    def add_artifact(self, artifact: Artifact) -> str:
        """Store an artifact beside the step's output; return its hash, for use in that output.

        Raises:
            ArtifactCorrupt, ArtifactTooLarge, InvalidPayload: as `StepContext.add_artifact`.
        """

    @abstractmethod
    def get_artifact(self, artifact_hash: str) -> Artifact:
        """Read an artifact that this step's input names.

        Raises what `EventStore.get_artifact` raises.
        """

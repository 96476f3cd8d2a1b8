"""Where artifacts come from and where they went.

A step's input is the first output of the step before it, the first step's is the flow's input; so what a step produced
derives from that one artifact.
"""

from datetime import datetime
from uuid import UUID

import msgspec

__all__ = ["ArtifactConsumer", "ArtifactProducer", "Lineage", "RelatedArtifact"]


class ArtifactProducer(msgspec.Struct, frozen=True, kw_only=True):
    """An event that an artifact came from: the `StepFinished` that names it among its outputs, or else what it was stored with.

    `output` is its place among the outputs, from 0, None for the other case. `step_index` and `step_id` are None where
    the event names no step, such as the `FlowInitialized` that a flow's input came with.
    """

    artifact_hash: str
    flow_id: UUID
    version: int
    seq: int
    event_type: str
    step_index: int | None
    step_id: str | None
    output: int | None
    produced_at: datetime


class ArtifactConsumer(msgspec.Struct, frozen=True, kw_only=True):
    """A step that started with an artifact as its input; `version`, `seq` and `consumed_at` are those of its first such start."""

    artifact_hash: str
    flow_id: UUID
    version: int
    seq: int
    step_index: int
    step_id: str
    consumed_at: datetime


class RelatedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact so many steps away from the one that was asked for, and the first step in the log that relates it.

    `kind` is None if no artifact of that hash is stored. The step has it as its input where it is an ancestor, and among its
    outputs where it is a descendant.
    """

    artifact_hash: str
    kind: str | None
    distance: int
    flow_id: UUID
    step_index: int
    step_id: str


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """The ancestors or descendants of an artifact, the nearest first, each once.

    `complete` is false if there may be more: the walk ended at its depth or at its limit.
    """

    artifact_hash: str
    related: tuple[RelatedArtifact, ...]
    complete: bool

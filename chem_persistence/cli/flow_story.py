"""What `show` tells of a flow: its summary, every attempt at its steps, and what it made."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.answers import FlowSummary
from chem_persistence.domain.events import FlowCompleted, FlowInitialized
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read.flows import iterate_events
from chem_persistence.postgres.read.search import ArtifactDescription, describe_artifacts
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.attempts import StepTracks
from chem_persistence.views.flow_view import AttemptView, StepView
from chem_persistence.views.named_artifacts import NamedArtifacts
from chem_persistence.views.page_limits import PageLimits

__all__ = ["FlowStory", "NamedArtifact", "read_story", "story_json"]


class NamedArtifact(msgspec.Struct, frozen=True):
    """An artifact that an event names first at `version`, and all that it is to the flow; without description it is not stored."""

    hash: str
    version: int
    role: str
    described: ArtifactDescription | None


class FlowStory(msgspec.Struct, frozen=True, kw_only=True):
    """A flow to its last event."""

    summary: FlowSummary
    input: str | None
    flow_fingerprint: str | None
    steps: Sequence[StepView]
    artifacts: Sequence[NamedArtifact]


async def read_story(provider: ConnectionProvider, flow_id: UUID) -> FlowStory:
    """Read a flow's events and describe the artifacts that they name.

    Raises:
        InvalidArgument: the flow has no events.
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the database could not be read.
    """
    summary = await PgReadModels(provider).flow(flow_id)
    if summary is None:
        raise InvalidArgument("FLOW", f"there is no flow {flow_id}")
    tracks = StepTracks(PageLimits())
    named = NamedArtifacts()
    flow_input = fingerprint = None
    async for event in iterate_events(provider, flow_id, -1):
        tracks.take(event)
        named.take(event)
        match event.kind:
            case FlowInitialized():
                flow_input = event.kind.input
            case FlowCompleted():
                fingerprint = event.kind.flow_fingerprint
            case _:
                pass
    described = await describe_artifacts(provider, [artifact_hash for artifact_hash, _, _ in named])
    return FlowStory(
        summary=summary,
        input=flow_input,
        flow_fingerprint=fingerprint,
        steps=tracks.steps(),
        artifacts=[
            NamedArtifact(artifact_hash, version, role, described.get(artifact_hash))
            for artifact_hash, version, role in named
        ],
    )


def story_json(story: FlowStory) -> dict[str, Any]:
    """Give the story as `show --json` prints it."""
    summary: dict[str, Any] = msgspec.to_builtins(story.summary)
    return summary | {
        "input": story.input,
        "flow_fingerprint": story.flow_fingerprint,
        "steps": [_step_json(step) for step in story.steps],
        "artifacts": [
            {
                "hash": artifact.hash,
                "version": artifact.version,
                "role": artifact.role,
                "kind": artifact.described and artifact.described.kind,
                "media_type": artifact.described and artifact.described.media_type,
                "content_bytes": artifact.described and artifact.described.content_bytes,
            }
            for artifact in story.artifacts
        ],
    }


def _step_json(step: StepView) -> dict[str, Any]:
    return {
        "step_index": step.index,
        "step_id": step.id,
        "attempt_count": step.attempt_count,
        "retry_count": step.retry_count,
        "signal_count": step.signal_count,
        "attempts": [_attempt_json(attempt) for attempt in step.attempts],
    }


def _attempt_json(attempt: AttemptView) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(attempt)
    del values["last_sign"]
    return values | {"outcome": attempt.outcome.name.lower()}

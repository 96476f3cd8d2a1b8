"""The artifacts of one append, each with the event that produced it."""

from collections.abc import Sequence
from typing import Any

from chem_persistence.codec import StoredArtifact, encode_metadata
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEventKind, FlowInitialized, StepFinished
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import ArtifactTooLarge, InvalidPayload
from chem_persistence.limits import MAX_JSON_ITEMS, MAX_JSON_MEMBERS

__all__ = ["encoded_artifacts", "streamed_artifacts"]


def encoded_artifacts(
    artifacts: Sequence[Artifact | StreamedArtifact], kinds: Sequence[FlowEventKind], limit: int
) -> tuple[tuple[int, StoredArtifact], ...]:
    """Check and encode the artifacts that bring their content, in hash order, each with its event's index.

    Raises:
        ArtifactCorrupt: one does not have the hash that names it.
        ArtifactTooLarge: one has more than `limit` bytes.
        InvalidPayload: one is not I-JSON, or its description is not; or an array or object is larger than JSONB's can be.
    """
    given = [artifact for artifact in artifacts if not isinstance(artifact, StreamedArtifact)]
    encoded: dict[str, tuple[int, StoredArtifact]] = {}
    for artifact in sorted(given, key=lambda artifact: artifact.hash):
        body = artifact.verified()
        if len(body) > limit:
            raise ArtifactTooLarge(artifact.hash, len(body), limit)
        if artifact.content is None and body.count(b",") >= MAX_JSON_MEMBERS:
            _check_containers(artifact.payload)
        stored = StoredArtifact(
            hash=artifact.hash,
            kind=artifact.kind,
            payload=body if artifact.content is None else None,
            content=artifact.content,
            media_type=artifact.media_type,
            metadata=encode_metadata(artifact.metadata),
        )
        encoded.setdefault(artifact.hash, (_producer(artifact.hash, kinds), stored))
    return tuple(encoded.values())


def _check_containers(payload: Any) -> None:
    waiting = [payload]
    while waiting:
        value = waiting.pop()
        if len(value) > (MAX_JSON_MEMBERS if isinstance(value, dict) else MAX_JSON_ITEMS):
            raise InvalidPayload(
                "$", f"has {len(value)} values in one {type(value).__name__}, more than JSONB holds"
            )
        items = value.values() if isinstance(value, dict) else value
        waiting += [item for item in items if isinstance(item, dict | list)]


def streamed_artifacts(
    artifacts: Sequence[Artifact | StreamedArtifact], kinds: Sequence[FlowEventKind]
) -> tuple[tuple[int, StreamedArtifact], ...]:
    """Give the artifacts whose content is in the store already, in hash order, each with its event's index."""
    streamed = {artifact.hash: artifact for artifact in artifacts if isinstance(artifact, StreamedArtifact)}
    return tuple(
        (_producer(artifact_hash, kinds), streamed[artifact_hash]) for artifact_hash in sorted(streamed)
    )


def _producer(artifact_hash: str, kinds: Sequence[FlowEventKind]) -> int:
    """Find the event that names the artifact; one that no event names belongs to the last."""
    for index, kind in enumerate(kinds):
        match kind:
            case StepFinished(outputs=outputs) if artifact_hash in outputs:
                return index
            case FlowInitialized(input=flow_input) if flow_input == artifact_hash:
                return index
            case _:
                pass
    return len(kinds) - 1

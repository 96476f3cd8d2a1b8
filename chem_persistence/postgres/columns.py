"""Values to columns: the one place that knows the parameters of `append_events`."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.append_request import AppendRequest, Head
from chem_persistence.codec import StoredArtifact
from chem_persistence.domain.canonical import canonical_json
from chem_persistence.domain.executions import RetryChange, StepChange, execution_changes

__all__ = ["Write", "append_columns"]

Columns = Sequence[Sequence[Any] | None]

NO_ARTIFACTS: Columns = (None,) * 8
NO_RETRIES: Columns = (None,) * 3
NO_STEPS: Columns = (None,) * 10


class Write(msgspec.Struct, frozen=True, gc=False):
    """A request that is to follow `head`, with its events' links; `base` is where the flow ended before the batch."""

    request: AppendRequest
    head: Head
    base: Head
    links: Sequence[bytes]


def append_columns(writes: Sequence[Write]) -> list[Sequence[Any] | None]:
    """Give the parameters of `append_events`, but for the last; one flow's writes stand side by side and in order."""
    retries, steps = [], []
    for _, run in groupby(writes, key=lambda write: write.request.flow_id.int):
        requests = [write.request for write in run]
        facts = [(kind, request.ts) for request in requests for kind in request.kinds]
        pending, changed = execution_changes(facts)
        flow_id = requests[0].flow_id
        retries += [(flow_id, change) for change in pending]
        steps += [(flow_id, change) for change in changed]
    artifacts = [
        (artifact, write.request.flow_id, write.head.version + producer)
        for write in writes
        for producer, artifact in write.request.artifacts
    ]
    return [
        *_event_columns(writes),
        *(_artifact_columns(artifacts) if artifacts else NO_ARTIFACTS),
        *(_retry_columns(retries) if retries else NO_RETRIES),
        *(_step_columns(steps) if steps else NO_STEPS),
    ]


def _event_columns(writes: Sequence[Write]) -> Columns:
    rows = [(write, index) for write in writes for index in range(len(write.links))]
    return (
        [write.request.flow_id for write, _ in rows],
        [write.head.version + index for write, index in rows],
        [write.request.event_ids[index] for write, index in rows],
        [write.request.ts for write, _ in rows],
        [write.request.event_types[index] for write, index in rows],
        [write.request.payloads[index].decode() for write, index in rows],
        [write.request.metadata.decode() for write, _ in rows],
        [write.links[index] for write, index in rows],
        [write.base.version for write, _ in rows],
        [write.base.link for write, _ in rows],
    )


def _artifact_columns(artifacts: Iterable[tuple[StoredArtifact, UUID, int]]) -> Columns:
    rows = sorted(artifacts, key=lambda row: row[0].hash)
    return (
        [artifact.hash for artifact, _, _ in rows],
        [artifact.kind for artifact, _, _ in rows],
        [_text(artifact.payload) for artifact, _, _ in rows],
        [artifact.content for artifact, _, _ in rows],
        [artifact.media_type for artifact, _, _ in rows],
        [_text(artifact.metadata) for artifact, _, _ in rows],
        [flow_id for _, flow_id, _ in rows],
        [version for _, _, version in rows],
    )


def _retry_columns(retries: Iterable[tuple[UUID, RetryChange]]) -> Columns:
    return (
        [flow_id for flow_id, _ in retries],
        [change.step_id for _, change in retries],
        [change.retry_count for _, change in retries],
    )


def _step_columns(steps: Iterable[tuple[UUID, StepChange]]) -> Columns:
    return (
        [flow_id for flow_id, _ in steps],
        [change.step_index for _, change in steps],
        [change.step_id for _, change in steps],
        [change.status.value for _, change in steps],
        [change.attempts for _, change in steps],
        [change.retry_count for _, change in steps],
        [change.fingerprint for _, change in steps],
        [change.started_at for _, change in steps],
        [change.finished_at for _, change in steps],
        [None if change.error is None else _text(canonical_json(change.error)) for _, change in steps],
    )


def _text(json: bytes | None) -> str | None:
    """Give JSON as text: the driver needs a round trip on each connection before it can send an array of jsonb."""
    return None if json is None else json.decode()

"""What the read models return: flows in a list, the lineage of artifacts, and statistics."""

from datetime import datetime
from uuid import UUID

import msgspec

from chem_persistence.domain.events import FlowEvent, FlowParent, StepError, StepFinished
from chem_persistence.domain.flow_state import FlowState

__all__ = [
    "ArtifactConsumer",
    "ArtifactProducer",
    "ArtifactStatistics",
    "FailureStatistics",
    "FlowSummary",
    "HourlyThroughput",
    "KeptArtifact",
    "Lineage",
    "OpenQuestion",
    "RelatedArtifact",
    "ReuseStatistics",
    "Statistics",
    "StepStatistics",
    "WaitingFlow",
    "WorkerSummary",
    "artifact_producer",
]


class FlowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A flow after `version` events, read from its log and its step rows without its definition.

    `definition_hash` and `step_count` are those of the first event, None if that is not a
    `FlowInitialized`. `cursor` is the index of the first step that is not finished, and equals
    `step_count` when all are. `current_step` is the id of that step, None if no event names it: the
    stored definition, which has the ids of steps that have not started, is not read. `failure` is
    the error of the last step whose status is failed, None once its retry is scheduled. `name` is
    the flow's name in its program, `label` what its submitter called it, `parent` the step
    of another flow whose child it is; None if there is none. Times are UTC.
    """

    flow_id: UUID
    state: FlowState
    definition_hash: str | None
    step_count: int | None
    finished_steps: int
    cursor: int
    current_step: str | None
    started_at: datetime
    last_event_at: datetime
    version: int
    failure: StepError | None
    name: str | None = None
    label: str | None = None
    parent: FlowParent | None = None


class OpenQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What a step asks a person since `asked_at` (None: no valid time); `text` may be missing.

    At `until` the step goes on without an answer; None: it waits without end.
    """

    step_id: str
    text: str | None
    asked_at: datetime | None
    until: datetime | None


class WaitingFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow that was given to workers, is not over, and is run by none.

    It is due at `due_at`, None if not by itself: it has failed, or waits for a person. `is_due` is
    whether that time has come; `workers` counts those that were seen lately and serve its
    definition. `flow` is None if the flow has no events, `question` if it asks nobody.
    """

    flow_id: UUID
    definition_hash: str
    due_at: datetime | None
    is_due: bool
    workers: int
    flow: FlowSummary | None
    question: OpenQuestion | None = None


class WorkerSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that has not said that it stopped: its name, and when it was seen last.

    It serves the flows of `definitions`, which are hashes, and holds `flows` of them. One that was
    seen long ago has died, or cannot reach the database.
    """

    worker_id: UUID
    name: str
    definitions: list[str]
    seen_at: datetime
    flows: int


class ArtifactProducer(msgspec.Struct, frozen=True, kw_only=True):
    """An event that an artifact came from: a `StepFinished` with it as output, or another.

    `output` is its index among the outputs, from 0; None if the artifact is not an output of the
    event, but was appended with it. `step_index` and `step_id` are None if the event names no step,
    such as the `FlowInitialized` with which a flow's input is appended.
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


def artifact_producer(event: FlowEvent, artifact_hash: str) -> ArtifactProducer:
    """Return an event as the producer of an artifact that was stored with it."""
    fact = event.kind
    outputs = fact.outputs if isinstance(fact, StepFinished) else ()
    return ArtifactProducer(
        artifact_hash=artifact_hash,
        flow_id=event.flow_id,
        version=event.version,
        seq=event.seq,
        event_type=event.event_type,
        step_index=getattr(fact, "step_index", None),
        step_id=getattr(fact, "step_id", None),
        output=outputs.index(artifact_hash) if artifact_hash in outputs else None,
        produced_at=event.ts,
    )


class ArtifactConsumer(msgspec.Struct, frozen=True, kw_only=True):
    """A step that started with an artifact as its input.

    `version`, `seq` and `consumed_at` are those of the first such start.
    """

    artifact_hash: str
    flow_id: UUID
    version: int
    seq: int
    step_index: int
    step_id: str
    consumed_at: datetime


class RelatedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact `distance` steps from the one asked for, and the first step relating them.

    `kind` is None if no artifact of that hash is stored. The artifact is an input of the step if it
    is an ancestor, and one of the step's outputs if it is a descendant.
    """

    artifact_hash: str
    kind: str | None
    distance: int
    flow_id: UUID
    step_index: int
    step_id: str


class KeptArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that stays in the store after the flow that stored it first was archived.

    The flow's events are in the bundle with the SHA-256 `bundle_sha256`, and so is what the flow
    made the artifact from. `archived_at` is None if it is no valid time.
    """

    artifact_hash: str
    flow_id: UUID
    bundle_sha256: str
    archived_at: datetime | None


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """The ancestors or descendants of an artifact, nearest first, each once.

    `complete` is false if there may be more, because the search ended at its depth or its limit.
    The events of archived flows are not searched: `kept` has the artifact and those of its
    relatives which such a flow had stored, in the order of their hashes.
    """

    artifact_hash: str
    related: tuple[RelatedArtifact, ...]
    complete: bool
    kept: tuple[KeptArtifact, ...] = ()


class StepStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The executions of the steps of one id, in all flows of one definition.

    `definition_hash` is that of the flows' first event, None if that is not a `FlowInitialized`.

    `executions` counts the steps of flows that an event names, `finished` those that finished after
    a start. `failures` of the `attempts` (starts) failed: `failure_rate` is their quotient, None
    without an attempt. `retries` counts scheduled ones. The durations, in seconds, are from the
    last start to the end, None without one; the percentiles are interpolated, and may differ from
    those of all durations by 2 %.
    """

    definition_hash: str | None
    step_id: str
    executions: int
    finished: int
    attempts: int
    failures: int
    retries: int
    failure_rate: float | None
    mean_seconds: float | None
    p50_seconds: float | None
    p90_seconds: float | None
    p99_seconds: float | None
    longest_seconds: float | None


class FailureStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The failures of the steps of one id with an error of one class, in `flows` flows.

    `definition_hash` is that of the flows, as in `StepStatistics`.
    """

    definition_hash: str | None
    step_id: str
    error_class: str
    failures: int
    flows: int
    last_failed_at: datetime


class HourlyThroughput(msgspec.Struct, frozen=True, kw_only=True):
    """What was appended in the hour that begins at `hour` (UTC)."""

    hour: datetime
    events: int
    flows_started: int
    flows_completed: int
    flows_cancelled: int
    steps_finished: int
    steps_failed: int
    retries: int


class ArtifactStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The artifacts of one kind that were stored, and the bytes of their bodies, compressed.

    Those that left the log with archived flows are counted, too.
    """

    kind: str
    artifacts: int
    stored_bytes: int


class ReuseStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How often flows have taken results of a step over instead of running it.

    `results` counts the results that were taken over, `times` how often. `seconds_saved` is how
    long these steps took where they ran, from their last start on; branches are counted, too.
    """

    step_id: str
    results: int
    times: int
    seconds_saved: float


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """All statistics as of `refreshed_at`: by name, and the hours from first to last."""

    refreshed_at: datetime
    steps: tuple[StepStatistics, ...]
    failures: tuple[FailureStatistics, ...]
    hours: tuple[HourlyThroughput, ...]
    artifacts: tuple[ArtifactStatistics, ...]

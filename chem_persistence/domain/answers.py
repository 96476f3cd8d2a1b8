"""A flow as a list of flows shows it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from chem_persistence.domain.events import StepError

__all__ = [
    "ArtifactConsumer",
    "ArtifactProducer",
    "ArtifactStatistics",
    "FailureStatistics",
    "FlowState",
    "FlowSummary",
    "HourlyThroughput",
    "Lineage",
    "RelatedArtifact",
    "Statistics",
    "StepStatistics",
]


class FlowState(StrEnum):
    """Where a flow stands; one whose process died is running, because the next process goes on with it."""

    RUNNING = "running"
    AWAITING_USER_INPUT = "awaiting_user_input"
    FAILED = "failed"
    COMPLETED = "completed"


class FlowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A flow's state after `version` events, as its log and its step rows tell it without its definition.

    `definition_hash` and `step_count` are what its first event says, None when that is no `FlowInitialized`. `cursor` is the
    index of the first step that is not finished, and `step_count` when all are. `current_step` is the id of that step, None
    while no event names it: the log holds no definition, so the name of a step that has not started is not known.
    `failure` is the error of the last step that stands failed, None once its retry is scheduled. Times are UTC.
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


class StepStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The executions of the steps of one id, in all flows.

    `finished` of the `executions` are finished. `failures` of the `attempts` (starts) failed: `failure_rate` is their
    quotient, None without an attempt. `retries` counts scheduled ones. The times are in seconds, of the last attempt of each
    finished execution; the percentiles are interpolated (`percentile_cont`); None without a finished one.
    """

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
    """The failures of the steps of one id with an error of one class; in how many flows, and when last."""

    step_id: str
    error_class: str
    failures: int
    flows: int
    last_failed_at: datetime


class HourlyThroughput(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in the hour that begins at `hour` (UTC)."""

    hour: datetime
    events: int
    flows_started: int
    flows_completed: int
    steps_finished: int
    steps_failed: int
    retries: int


class ArtifactStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The artifacts of one kind, and the bytes that their bodies take in the database, after its compression."""

    kind: str
    artifacts: int
    stored_bytes: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """All figures, as of `refreshed_at`: steps, failures and kinds by name, hours from the first to the last."""

    refreshed_at: datetime
    steps: tuple[StepStatistics, ...]
    failures: tuple[FailureStatistics, ...]
    hours: tuple[HourlyThroughput, ...]
    artifacts: tuple[ArtifactStatistics, ...]

"""Figures about the whole log, as they were when they were last refreshed."""

from datetime import datetime

import msgspec

__all__ = ["ArtifactStatistics", "FailureStatistics", "HourlyThroughput", "Statistics", "StepStatistics"]


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

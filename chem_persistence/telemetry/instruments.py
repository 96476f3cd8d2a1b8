"""The metrics.

Durations are in seconds. An attribute has at most as many values as the program has steps, error
classes or pools.
"""

from collections.abc import Iterable
from functools import partial

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from chem_persistence.telemetry.gauges import backlog, lags, pools, queues
from chem_persistence.telemetry.names import (
    BACKLOG_STATE,
    CONSUMER,
    DEFINITION_HASH,
    POOL_NAME,
    POOL_STATE,
    QUEUE_STATE,
)

__all__ = ["Instruments"]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG_SECONDS = (
    0.001,
    0.01,
    0.1,
    0.5,
    1.0,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
    21600.0,
)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Instruments:
    """The library's instruments on one meter."""

    append_duration: Histogram
    batch_size: Histogram
    replay_duration: Histogram
    step_duration: Histogram
    wait_time: Histogram
    conflicts: Counter
    retries: Counter
    step_retries: Counter
    claims: Counter
    take_overs: Counter
    lease_losses: Counter

    def __init__(self, meter: Meter) -> None:
        seconds = partial(_seconds, meter)
        self.append_duration = seconds(
            "chem_persistence.append.duration",
            "From handing an append to the store until it is committed",
        )
        self.replay_duration = seconds(
            "chem_persistence.replay.duration", "Reading a flow's events and replaying them"
        )
        self.step_duration = seconds(
            "chem_persistence.step.duration",
            "One attempt at a step, with its appends",
            LONG_SECONDS,
        )
        self.wait_time = seconds(
            "db.client.connection.wait_time",
            "The time it took to obtain an open connection from the pool",
        )
        self.batch_size = meter.create_histogram(
            "chem_persistence.append.batch.size",
            "{append}",
            "Appends that shared a transaction",
            explicit_bucket_boundaries_advisory=SIZES,
        )
        self.conflicts = meter.create_counter(
            "chem_persistence.conflicts", "{conflict}", "Appends that expected another version"
        )
        self.retries = meter.create_counter(
            "chem_persistence.retries",
            "{retry}",
            "Calls of the database that are tried again, by cause and number",
        )
        self.step_retries = meter.create_counter(
            "chem_persistence.step.retries",
            "{retry}",
            "Retries of failed steps, by step, cause and number",
        )
        self._count_workers(meter)
        _observe(meter)

    def _count_workers(self, meter: Meter) -> None:
        self.claims = meter.create_counter(
            "chem_persistence.worker.claims", "{flow}", "Flows that workers have claimed"
        )
        self.take_overs = meter.create_counter(
            "chem_persistence.worker.take_overs",
            "{flow}",
            "Claimed flows with a step whose earlier worker died, or lost its lease",
        )
        self.lease_losses = meter.create_counter(
            "chem_persistence.worker.lease_losses",
            "{flow}",
            "Flows that a worker dropped, since another one had claimed them",
        )


def _observe(meter: Meter) -> None:
    meter.create_observable_up_down_counter(
        "chem_persistence.append.queue.depth",
        [_depth],
        "{append}",
        "Appends that are not committed yet",
    )
    meter.create_observable_up_down_counter(
        "db.client.connection.count",
        [_connections],
        "{connection}",
        "Connections in the state that is named",
    )
    meter.create_observable_up_down_counter(
        "db.client.connection.max",
        [_most_connections],
        "{connection}",
        "Connections that a pool may have",
    )
    meter.create_observable_gauge(  # every worker counts the same flows: no sum over processes
        "chem_persistence.worker.backlog",
        [_backlog],
        "{flow}",
        "Flows of a definition that are due, or wait, and are held by no worker",
    )
    meter.create_observable_gauge(  # every process of a consumer reads the same
        "chem_persistence.consumer.lag",
        [_lag],
        "{event}",
        "Numbers by which the last part of a durable consumer is behind the end of the log",
    )
    meter.create_observable_gauge(
        "chem_persistence.consumer.parked",
        [_parked],
        "{flow}",
        "Flows that a durable consumer has put aside after failures",
    )


def _depth(_: CallbackOptions) -> Iterable[Observation]:
    known = queues()
    yield Observation(sum(queue.inside for queue in known), {QUEUE_STATE: "accepted"})
    yield Observation(sum(queue.outside for queue in known), {QUEUE_STATE: "held_back"})


def _connections(_: CallbackOptions) -> Iterable[Observation]:
    for name, pool in pools().items():
        size, idle = pool.get_size(), pool.get_idle_size()
        yield Observation(max(size - idle, 0), {POOL_NAME: name, POOL_STATE: "used"})
        yield Observation(idle, {POOL_NAME: name, POOL_STATE: "idle"})


def _most_connections(_: CallbackOptions) -> Iterable[Observation]:
    for name, pool in pools().items():
        yield Observation(pool.get_max_size(), {POOL_NAME: name})


def _backlog(_: CallbackOptions) -> Iterable[Observation]:
    for name, counted in backlog().items():
        yield Observation(counted.due, {DEFINITION_HASH: name, BACKLOG_STATE: "due"})
        yield Observation(counted.waiting, {DEFINITION_HASH: name, BACKLOG_STATE: "waiting"})


def _lag(_: CallbackOptions) -> Iterable[Observation]:
    for read in lags():
        yield Observation(read.lag, {CONSUMER: read.name})


def _parked(_: CallbackOptions) -> Iterable[Observation]:
    for read in lags():
        yield Observation(read.parked, {CONSUMER: read.name})


def _seconds(meter: Meter, name: str, of: str, bounds: Iterable[float] = SECONDS) -> Histogram:
    return meter.create_histogram(name, "s", of, explicit_bucket_boundaries_advisory=list(bounds))

"""What is read when metrics are collected: sizes of pools and queues, backlogs, consumers' lags.

Collectors read in their own threads, so only whole numbers are read from pools and queues. Backlogs
are counted by the workers, and lags by the consumers, from time to time; a collector reads the last
counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from threading import Lock
from typing import Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

__all__ = [
    "Backlog",
    "ConsumerLag",
    "Pool",
    "Queue",
    "Reports",
    "backlog",
    "backlogs",
    "consumer_lags",
    "lags",
    "pools",
    "queues",
    "watch_pool",
    "watch_queue",
]


class Pool(Protocol):
    """A pool whose connections are counted."""

    def get_size(self) -> int:
        """Return the number of open connections."""

    def get_idle_size(self) -> int:
        """Return the number of open connections that are not lent."""

    def get_max_size(self) -> int:
        """Return the greatest number of connections."""


class Queue(Protocol):
    """A queue whose appends are counted until they are committed."""

    @property
    def inside(self) -> int:
        """Return the number of accepted appends."""

    @property
    def outside(self) -> int:
        """Return the number of appends that backpressure holds back."""


class Backlog(Protocol):
    """How many flows of a definition want a worker, or will."""

    @property
    def due(self) -> int:
        """Return the number of flows that are due."""

    @property
    def waiting(self) -> int:
        """Return the number of flows that are not due, and that no worker holds."""


class ConsumerLag(NamedTuple):
    """How far a durable consumer is behind, and how many flows it has parked."""

    name: str
    lag: int
    parked: int


Report = TypeVar("Report")

_lock = Lock()
_lenders: WeakKeyDictionary[object, tuple[str, Pool]] = WeakKeyDictionary()
_queues: WeakSet[Queue] = WeakSet()
_names = count(1)


def watch_pool(lender: object, pool: Pool) -> str:
    """Register the pool that `lender` lends, for as long as the lender exists.

    Returns the name of the pool: a number, in the order of registration.
    """
    with _lock:
        known = (name for name, other in _lenders.values() if other is pool)
        name = next(known, None) or str(next(_names))
        _lenders[lender] = (name, pool)
    return name


def watch_queue(queue: Queue) -> None:
    """Register a queue of appends, for as long as it exists."""
    with _lock:
        _queues.add(queue)


def pools() -> dict[str, Pool]:
    """Return the registered pools by name."""
    with _lock:
        return dict(_lenders.values())


def queues() -> list[Queue]:
    """Return the registered queues."""
    with _lock:
        return list(_queues)


class Reports(Generic[Report]):
    """The last report of each reporter, for as long as the reporter exists."""

    def __init__(self) -> None:
        self._reports: WeakKeyDictionary[object, Report] = WeakKeyDictionary()

    def keep(self, reporter: object, report: Report) -> None:
        """Keep a report, which replaces the one before."""
        with _lock:
            self._reports.pop(reporter, None)  # the last one to report is the last in the order
            self._reports[reporter] = report

    def forget(self, reporter: object) -> None:
        """Drop the report of a reporter."""
        with _lock:
            self._reports.pop(reporter, None)

    def all(self) -> list[Report]:
        """Return the reports, the latest last."""
        with _lock:
            return list(self._reports.values())


backlogs: Reports[Mapping[str, Backlog]] = Reports()
"""What each worker has counted, by definition."""

consumer_lags: Reports[ConsumerLag] = Reports()
"""What each process of a durable consumer has read of it."""


def backlog() -> dict[str, Backlog]:
    """Return the last counts of each definition."""
    return {name: each for counted in backlogs.all() for name, each in counted.items()}


def lags() -> list[ConsumerLag]:
    """Return the last lag of each consumer."""
    return list({read.name: read for read in consumer_lags.all()}.values())

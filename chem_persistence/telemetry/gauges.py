"""What is read when metrics are collected: sizes of pools and queues, backlogs, consumers' lags.

Collectors read in their own threads, so only whole numbers are read from pools and queues. Backlogs
are counted by the workers, and lags by the consumers, from time to time; a collector reads the last
counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from threading import Lock
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakSet

__all__ = [
    "Backlog",
    "ConsumerLag",
    "Pool",
    "Queue",
    "backlog",
    "forget_backlog",
    "forget_lag",
    "lags",
    "pools",
    "queues",
    "report_backlog",
    "report_lag",
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


_lock = Lock()
_lenders: WeakKeyDictionary[object, tuple[str, Pool]] = WeakKeyDictionary()
_queues: WeakSet[Queue] = WeakSet()
_backlogs: WeakKeyDictionary[object, Mapping[str, Backlog]] = WeakKeyDictionary()
_lags: WeakKeyDictionary[object, ConsumerLag] = WeakKeyDictionary()
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


def report_backlog(worker: object, counted: Mapping[str, Backlog]) -> None:
    """Keep what a worker has counted by definition, for as long as the worker exists."""
    with _lock:
        _backlogs.pop(worker, None)  # the last one to count is the last in the order
        _backlogs[worker] = counted


def forget_backlog(worker: object) -> None:
    """Drop what a worker has counted."""
    with _lock:
        _backlogs.pop(worker, None)


def backlog() -> dict[str, Backlog]:
    """Return the last counts of each definition."""
    with _lock:
        return {name: each for counted in _backlogs.values() for name, each in counted.items()}


def report_lag(reader: object, read: ConsumerLag) -> None:
    """Keep the lag of a consumer that was read, for as long as its reader exists."""
    with _lock:
        _lags.pop(reader, None)  # the last one that was read is the last in the order
        _lags[reader] = read


def forget_lag(reader: object) -> None:
    """Drop the lag that a reader has read."""
    with _lock:
        _lags.pop(reader, None)


def lags() -> list[ConsumerLag]:
    """Return the last lag of each consumer."""
    with _lock:
        return list({read.name: read for read in _lags.values()}.values())

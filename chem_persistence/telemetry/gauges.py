"""The pools and queues whose sizes are read when metrics are collected, and only then.

Collectors read in their own threads, so only whole numbers are read from pools and queues.
"""

from __future__ import annotations

from itertools import count
from threading import Lock
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

__all__ = ["Pool", "Queue", "pools", "queues", "watch_pool", "watch_queue"]


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

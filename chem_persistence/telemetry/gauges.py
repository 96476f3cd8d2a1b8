"""What is read when metrics are collected, and costs nothing until then: the pools and the queues that there are.

Collectors read from threads of their own, so only whole numbers are asked for.
"""

from collections.abc import Iterator
from itertools import count
from threading import Lock
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

import msgspec

__all__ = ["Pool", "PoolUse", "Queue", "pools", "queued", "watch_pool", "watch_queue"]


class Pool(Protocol):
    """What a pool says of its connections."""

    def get_size(self) -> int:
        """Count those that are open."""

    def get_idle_size(self) -> int:
        """Count those that nobody has."""

    def get_max_size(self) -> int:
        """Say how many there may be."""


class Queue(Protocol):
    """What a queue says of the appends that are not done yet."""

    @property
    def inside(self) -> int:
        """Those that were let in."""

    @property
    def outside(self) -> int:
        """Those that wait for room."""


class PoolUse(msgspec.Struct, frozen=True):
    """The connections of one pool."""

    name: str
    used: int
    idle: int
    most: int


_lock = Lock()
_pools: "WeakKeyDictionary[object, tuple[str, Pool]]" = WeakKeyDictionary()
_queues: "WeakSet[Queue]" = WeakSet()
_names = count(1)


def watch_pool(lender: object, pool: Pool) -> str:
    """Count the connections of the pool that `lender` lends, as long as there is a lender.

    Gives the pool's name: a number, counted in the order in which pools came to be lent.
    """
    with _lock:
        known = (name for name, other in _pools.values() if other is pool)
        name = next(known, None) or str(next(_names))
        _pools[lender] = (name, pool)
    return name


def watch_queue(queue: Queue) -> None:
    """Count the appends in this queue, as long as it exists."""
    with _lock:
        _queues.add(queue)


def pools() -> Iterator[PoolUse]:
    """Count the connections of each pool."""
    with _lock:
        known = dict(_pools.values())
    for name, pool in known.items():
        size, idle = pool.get_size(), pool.get_idle_size()
        yield PoolUse(name, max(size - idle, 0), idle, pool.get_max_size())


def queued() -> tuple[int, int]:
    """Count the appends of all queues: those let in, and those that wait for room."""
    with _lock:
        queues = list(_queues)
    return sum(queue.inside for queue in queues), sum(queue.outside for queue in queues)

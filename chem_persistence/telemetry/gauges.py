"""The pools and queues whose sizes are read when metrics are collected, and only then.

Collectors read in their own threads, so only whole numbers are read from pools and queues.
"""

from __future__ import annotations

from itertools import count
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    from chem_persistence.telemetry.instruments import Pool, Queue

__all__ = ["pools", "queues", "watch_pool", "watch_queue"]

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

"""What is read when metrics are collected, and costs nothing until then: the pools and the queues that there are.

Collectors read from threads of their own, so only whole numbers are asked for.
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
    """Count the connections of the pool that `lender` lends, as long as there is a lender.

    Gives the pool's name: a number, counted in the order in which pools came to be lent.
    """
    with _lock:
        known = (name for name, other in _lenders.values() if other is pool)
        name = next(known, None) or str(next(_names))
        _lenders[lender] = (name, pool)
    return name


def watch_queue(queue: Queue) -> None:
    """Count the appends in this queue, as long as it exists."""
    with _lock:
        _queues.add(queue)


def pools() -> dict[str, Pool]:
    """Give the pools by name."""
    with _lock:
        return dict(_lenders.values())


def queues() -> list[Queue]:
    """Give the queues."""
    with _lock:
        return list(_queues)

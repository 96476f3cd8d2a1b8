"""Appends to flows that another transaction has locked: each flow waits by itself, in turns."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import TypeAlias, cast

from chem_persistence.errors import StoreUnavailable
from chem_persistence.postgres.append.batch import refuse_all
from chem_persistence.postgres.append.queue import AppendQueue, QueuedAppend
from chem_persistence.postgres.connection.ports import ConnectionProvider

__all__ = ["Attempt", "HeldFlows", "UnderWay"]

TURNS, TURN_SECONDS = 2, 0.25
"""The connections that held flows share, and how long each waits for its lock at a time."""

LONGEST_WAIT_SECONDS = 30.0
"""After this time the callers of a held flow get `StoreUnavailable`."""

Attempt: TypeAlias = Callable[
    [Sequence[QueuedAppend], ConnectionProvider, float], Awaitable[list[list[QueuedAppend]]]
]
"""Store a batch, answer its callers, and return the appends that a lock still holds up, by flow."""

UnderWay: TypeAlias = "dict[asyncio.Task[None], Sequence[QueuedAppend]]"
"""The appends that each task is about to store."""


class HeldFlows:
    """Tries each held flow on a connection of its own, at most `TURNS` of them at a time.

    So a flow whose lock is free is not delayed by one whose lock is held for long.
    """

    def __init__(
        self,
        provider: ConnectionProvider,
        queue: AppendQueue,
        attempt: Attempt,
        under_way: UnderWay,
    ) -> None:
        self._provider = provider
        self._queue = queue
        self._attempt = attempt
        self._under_way = under_way
        self._turns = asyncio.Semaphore(TURNS)

    def wait(self, appends: Sequence[QueuedAppend]) -> None:
        """Begin to wait for the lock of a flow, with its appends in order."""
        task = asyncio.create_task(self._wait(appends), context=Context())
        self._under_way[task] = appends
        task.add_done_callback(self._end)

    async def _wait(self, appends: Sequence[QueuedAppend]) -> None:
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
        deadline = loop.time() + LONGEST_WAIT_SECONDS
        while loop.time() < deadline:
            async with self._turns:
                held = await self._attempt(appends, self._provider, TURN_SECONDS)
            if not held:
                return
            (appends,) = held
            self._under_way[task] = appends
        reason = (
            "another transaction has held a lock on the flow, or on an artifact it shares, "
            f"for {LONGEST_WAIT_SECONDS:g} s"
        )
        self._queue.finish(appends, refuse_all(appends, StoreUnavailable(reason)))
        del self._under_way[task]

    def _end(self, task: "asyncio.Task[None]") -> None:
        """Release the flow of a task that was cancelled before or between its attempts."""
        if task in self._under_way:
            self._queue.finish(self._under_way.pop(task), {})

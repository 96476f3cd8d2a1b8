"""Group commit: appends that wait while a writer is busy share its next transaction.

There is no timer: when a writer is free it takes what waits, or its share of a crowd, and each caller is answered after
the commit. One append at a time costs one statement on a held connection. What cannot be stored fails alone: a batch that the
database refuses is taken apart.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeAlias

from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import InvalidArgument, StoreUnavailable
from chem_persistence.postgres.append.batch import answer_all, store_batch
from chem_persistence.postgres.append.heads import FlowHeads
from chem_persistence.postgres.append.queue import AppendQueue, QueuedAppend
from chem_persistence.postgres.connection.held_connection import HeldConnection
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import call
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.append_request import AppendRequest
from chem_persistence.telemetry.hooks import watched_batch

__all__ = ["GroupCommit"]

FIND_DISTRIBUTION = statement("events/find_distribution")


WRITERS = 2
"""While one batch is with the server, the next is made, and neither takes more than its share."""

LINGER_SECONDS = 0.01
"""How long an idle writer keeps its connection, for the appends of one task follow each other closely."""

PATIENCE_SECONDS = 1.0
"""How long a batch waits for another writer's lock; then who has to wait longer does so alone."""

TURNS, TURN_SECONDS = 2, 0.25
"""So many of those who wait alone have a connection at a time, each for so long, so that none waits behind one that waits for ever."""

LONGEST_WAIT_SECONDS = 30.0
"""Then whoever waits alone is told that the flow is held."""


Task: TypeAlias = "asyncio.Task[None]"


class GroupCommit:
    """Stores the appends of any number of tasks, on connections of `provider`."""

    def __init__(
        self, provider: ConnectionProvider, heads: FlowHeads, writers: int = WRITERS
    ) -> None:
        self._provider = provider
        self._heads = heads
        self._queue = AppendQueue(shares=writers)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._learned = False
        self._max_writers = writers
        self._writers: dict[Task, HeldConnection] = {}
        self._idle: list[asyncio.Future[bool]] = []
        self._connecting: set[Task] = set()
        self._batches: dict[Task, Sequence[QueuedAppend]] = {}  # what each task has under way

    async def append(
        self, request: AppendRequest, expected_version: int | None, size: int
    ) -> list[FlowEvent]:
        """Store a request of `size` bytes, and give its events once they are committed.

        Cancelled, it leaves the whole append in the log, or nothing.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._move_to(loop)
        append = QueuedAppend(request, expected_version, size, loop.create_future())
        self._queue.put(append)
        self._rouse()
        try:
            return await append.answered
        except asyncio.CancelledError:
            self._abandon(append)
            raise

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._writers or self._batches or self._queue:
            raise InvalidArgument("store", "is in use in another event loop")
        self._loop = loop
        self._turns = asyncio.Semaphore(TURNS)

    async def drain(self) -> None:
        """Wait until nothing is under way and no connection held; who waits for more, or to connect, is sent home."""
        while tasks := {*self._writers, *self._batches}:
            for idle in self._idle:
                _wake(idle)
            for writer in self._connecting:
                writer.cancel()
            await asyncio.wait(tasks)

    # ---- who waits

    def _rouse(self) -> None:
        """Let a writer look at the queue, if one is free."""
        while self._idle:
            if _wake(self._idle.pop(), more=True):
                return
        if len(self._writers) < self._max_writers:
            held = HeldConnection(self._provider)
            writer = _start(self._write(held))
            self._writers[writer] = held
            writer.add_done_callback(self._retire)

    def _retire(self, writer: Task) -> None:
        del self._writers[writer]
        if self._queue:  # something came while it was leaving
            self._rouse()

    def _abandon(self, append: QueuedAppend) -> None:
        """Take back what nobody waits for; what is under way is cancelled when nobody waits for any of its batch."""
        self._queue.remove(append)
        for task, batch in self._batches.items():
            if append in batch and all(other.answered.done() for other in batch):
                task.cancel()

    # ---- the writers

    async def _write(self, held: HeldConnection) -> None:
        """Store batches until none comes any more."""
        try:
            while self._queue or await self._more_comes():
                if await self._connected(held):
                    batch = self._queue.take()
                    if self._queue:  # the other's share
                        self._rouse()
                    await self._carry_out(batch, held, PATIENCE_SECONDS)
                elif self._queue:
                    return
        finally:
            with suppress(Exception):  # what was stored is answered for; nobody is there to be told
                await held.give_back()

    async def _more_comes(self) -> bool:
        loop = asyncio.get_running_loop()
        idle: asyncio.Future[bool] = loop.create_future()
        self._idle.append(idle)
        timer = loop.call_later(LINGER_SECONDS, _wake, idle)
        try:
            return await idle
        finally:
            timer.cancel()
            if idle in self._idle:
                self._idle.remove(idle)

    async def _connected(self, held: HeldConnection) -> bool:
        """Have a connection before a batch is taken; without one, the batch is left to a writer that has one."""
        if held.is_due:
            await held.give_back()
        if held.is_held:
            return True
        task = _current()
        self._connecting.add(task)
        try:
            await call(held, self._learn)
        except Exception as error:  # noqa: BLE001  # each caller gets it
            if not any(other.is_held for other in self._writers.values()):
                while batch := self._queue.take():
                    answer_all(batch, error)
                    self._hand_out(batch)
        finally:
            self._connecting.discard(task)
        return held.is_held

    async def _learn(self, connection: Connection) -> None:
        """Find out, once, whether a transaction had better keep to one flow."""
        if not self._learned:
            (row,) = await connection.fetch(FIND_DISTRIBUTION)
            self._queue.one_flow_each = row["distributed"]
            self._learned = True

    async def _wait_alone(self, alone: Sequence[QueuedAppend], until: float) -> None:
        """Store appends of one flow that another transaction holds, in turns with others that wait so."""
        async with self._turns:
            if asyncio.get_running_loop().time() < until:
                await self._carry_out(alone, self._provider, TURN_SECONDS, until)
            else:
                reason = f"another transaction has held the flow, or what it shares, for {LONGEST_WAIT_SECONDS:g} s"
                answer_all(alone, StoreUnavailable(reason))

    async def _carry_out(
        self,
        batch: Sequence[QueuedAppend],
        provider: ConnectionProvider,
        patience: float,
        until: float = 0.0,
    ) -> None:
        """Store a batch, and answer for it whatever happens; who is out of patience waits alone, `until` it has been too long."""
        task = _current()
        self._batches[task] = batch
        try:
            storing = store_batch(provider, batch, self._heads, patience)
            for alone in await watched_batch(storing, batch):
                batch = self._batches[task] = [append for append in batch if append not in alone]
                until = until or asyncio.get_running_loop().time() + LONGEST_WAIT_SECONDS
                waiting = _start(self._wait_alone(alone, until))
                self._batches[waiting] = alone
                waiting.add_done_callback(self._put_away)
        except asyncio.CancelledError:
            if any(not append.answered.done() for append in batch):
                answer_all(batch, StoreUnavailable("the writer was cancelled"))
                raise
            if task.uncancel() > 0:
                raise
        finally:
            del self._batches[task]
            self._hand_out(batch)

    def _put_away(self, waiting: Task) -> None:
        """Hand out what a task had under way whose turn never came, or came too late."""
        if waiting in self._batches:
            self._hand_out(self._batches.pop(waiting))

    def _hand_out(self, batch: Sequence[QueuedAppend]) -> None:
        """Give the callers their answers; what has none has to be tried again, unless nobody waits for it."""
        again = []
        for append in batch:
            if append.answered.done():
                continue
            if append.answer is None:
                again.append(append)
            elif isinstance(append.answer, Exception):
                append.answered.set_exception(append.answer)
            else:
                append.answered.set_result(append.answer)
        self._queue.give_back(batch, again)
        if self._queue:
            self._rouse()


def _start(work: Coroutine[Any, Any, None]) -> Task:
    """Start a task that belongs to none of the callers, and shares nothing of their context."""
    return asyncio.create_task(work, context=Context())


def _current() -> Task:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # only tasks ask
    return task


def _wake(idle: "asyncio.Future[bool]", *, more: bool = False) -> bool:
    """Tell an idle writer whether there is more to do; say whether it was still waiting."""
    if idle.done():
        return False
    idle.set_result(more)
    return True

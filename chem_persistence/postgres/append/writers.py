"""Group commit: appends that wait while a writer is busy share its next transaction.

There is no timer. A free writer takes what waits, or its share of it, and every caller is answered
after the commit. One append at a time costs one statement on a connection that is held.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from operator import attrgetter
from time import monotonic
from typing import cast

import asyncpg

from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import InvalidArgument, StoreUnavailable
from chem_persistence.postgres.append.batch import FailedAttempt, refuse_all, store_batch
from chem_persistence.postgres.append.held_flows import HeldFlows, UnderWay
from chem_persistence.postgres.append.place_events import FlowHeads, append_batch
from chem_persistence.postgres.append.queue import AppendQueue, Outcomes, QueuedAppend
from chem_persistence.postgres.connection.event_loop import check_event_loop
from chem_persistence.postgres.connection.held_connection import HeldConnection
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.hints import send_hints
from chem_persistence.postgres.schema.distribution import is_distributed
from chem_persistence.store.append_request import AppendRequest
from chem_persistence.store.leasing.hints import hinted_definitions
from chem_persistence.telemetry.hooks import watched_batch
from chem_persistence.telemetry.listening import found

__all__ = ["Writers"]

WRITERS = 2
"""One waits for the server while the other encodes."""

LINGER_SECONDS = 0.01
"""How long an idle writer keeps its connection: appends of one task follow each other closely."""

PATIENCE_SECONDS = 1.0
"""How long a batch waits for other transactions' locks, before its flows wait by themselves."""

_submits = attrgetter("submits")


class Writers:
    """Stores the appends of any number of tasks, on at most `count` connections at a time."""

    def __init__(
        self, provider: ConnectionProvider, heads: FlowHeads, count: int = WRITERS
    ) -> None:
        self._provider = provider
        self._heads = heads
        self._count = count
        self._queue = AppendQueue(shares=count)
        self._under_way: UnderWay = {}
        self._held_flows = self._new_held_flows()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writers: dict[asyncio.Task[None], HeldConnection] = {}
        self._idle: list[asyncio.Future[bool]] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._looked_for_distribution = False

    async def store(self, request: AppendRequest, size: int) -> list[FlowEvent]:
        """Store a request of `size` bytes, and return its events once they are committed.

        If it is cancelled, the whole append is in the log, or nothing of it.
        """
        answered: asyncio.Future[list[FlowEvent]] = self._running_loop().create_future()
        append = QueuedAppend(request, size, answered)
        self._queue.put(append)
        self._wake_writer()
        try:
            return await answered
        except asyncio.CancelledError:
            self.abandon([append])
            raise

    def put(self, append: QueuedAppend) -> None:
        """Queue one of the appends that a caller awaits together; a writer takes it.

        A caller that is cancelled abandons them all; each is in the log as a whole, or not at all.
        """
        self._running_loop()
        has_woken = bool(self._queue)  # one that finds more than its share wakes another
        self._queue.put(append)
        if not has_woken:
            self._wake_writer()

    async def drain(self) -> None:
        """Wait until nothing is under way and no connection is held.

        Writers that wait for more, or for a connection, end at once.
        """
        while tasks := {*self._writers, *self._under_way}:
            for idle in self._idle:
                _wake(idle, more=False)
            for writer in self._connecting:
                writer.cancel()
            await asyncio.wait(tasks)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            check_event_loop()
            raise
        if loop is not self._loop:
            self._move_to(loop)
        return loop

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._writers or self._under_way or self._queue:
            raise InvalidArgument("store", "is in use in another event loop")
        self._loop = loop
        self._held_flows = self._new_held_flows()

    def _new_held_flows(self) -> HeldFlows:
        return HeldFlows(self._provider, self._queue, self._attempt, self._under_way)

    def abandon(self, appends: Iterable[QueuedAppend]) -> None:
        """Remove appends whose caller was cancelled; cancel a batch that has no caller left."""
        abandoned = set(appends)
        for append in abandoned:
            self._queue.remove(append)
        for task, batch in self._under_way.items():
            if not abandoned.isdisjoint(batch) and all(each.answered.done() for each in batch):
                task.cancel()

    # ---- the life of a writer

    def _wake_writer(self) -> None:
        """Have a writer look at the queue: an idle one, or a new one if there are too few."""
        while self._idle:
            if _wake(self._idle.pop(), more=True):
                return
        if len(self._writers) < self._count:
            held = HeldConnection(self._provider)
            writer = asyncio.create_task(self._write(held), context=Context())
            self._writers[writer] = held
            writer.add_done_callback(self._retire)

    async def _write(self, held: HeldConnection) -> None:
        """Store batches until no more come."""
        try:
            while self._queue or await self._more_come():
                if self._is_usable(held) or await self._connect(held):
                    batch = self._queue.take()
                    if self._queue:  # there is a share for another writer
                        self._wake_writer()
                    for appends in await self._attempt(batch, held, PATIENCE_SECONDS):
                        self._held_flows.wait(appends)
                    if submitted := list(filter(_submits, batch)):
                        await self._tell_workers(submitted, held)
                elif self._queue:
                    return
        finally:
            with suppress(Exception):  # every caller is answered already; no one is left to get it
                await held.give_back()

    async def _tell_workers(self, submitted: Sequence[QueuedAppend], held: HeldConnection) -> None:
        """Notify workers of the flows that are due at once, unless the connection was lost."""
        due = hinted_definitions(append.request for append in submitted)
        if due and held.connection is not None:
            await send_hints(held.connection, due)

    async def _more_come(self) -> bool:
        """Wait a moment for more appends; return whether some have come."""
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

    def _is_usable(self, held: HeldConnection) -> bool:
        try:
            return (
                held.connection is not None
                and not held.connection.is_closed()
                and asyncio.get_running_loop().time() <= held.due_at
            )
        except asyncpg.InterfaceError:  # the pool has taken back a connection that was closed
            return False

    async def _connect(self, held: HeldConnection) -> bool:
        """Return whether there is a connection: a batch is taken only by a writer that has one.

        If none can be had, and no other writer has one, all that wait get the error.
        """
        await held.give_back()
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connecting.add(task)
        try:
            await Session(held).run(self._look_for_distribution)
        except Exception as error:  # noqa: BLE001  # each caller gets it
            if not any(other.connection for other in self._writers.values()):
                while batch := self._queue.take():
                    self._queue.finish(batch, refuse_all(batch, error))
        finally:
            self._connecting.discard(task)
        return held.connection is not None

    async def _look_for_distribution(self, connection: Connection) -> None:
        if not self._looked_for_distribution:
            self._queue.one_flow_each = await is_distributed(connection)
            self._looked_for_distribution = True

    async def _attempt(
        self, batch: Sequence[QueuedAppend], provider: ConnectionProvider, patience: float
    ) -> list[list[QueuedAppend]]:
        """Store a batch and answer its callers; return what a lock holds up, by flow."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._under_way[task] = batch
        outcomes: Outcomes = {}
        try:
            storing: Awaitable[Outcomes] = self._store(batch, provider, patience)
            if found.observer is not None:
                storing = watched_batch(storing, batch)
            outcomes = await storing
        except asyncio.CancelledError:
            unanswered = [append for append in batch if not append.answered.done()]
            outcomes = refuse_all(unanswered, StoreUnavailable("the writer was cancelled"))
            if unanswered or task.uncancel() > 0:
                raise
        finally:
            del self._under_way[task]
            held_up = self._queue.finish(batch, outcomes)
            if self._queue:
                self._wake_writer()
        return held_up

    async def _store(
        self, batch: Sequence[QueuedAppend], provider: ConnectionProvider, patience: float
    ) -> Outcomes:
        """Append a batch on the connection of a writer; what fails is retried or divided."""
        first = None
        if isinstance(provider, HeldConnection) and (connection := provider.connection):
            began = monotonic()
            try:
                return await append_batch(connection, batch, self._heads, patience)
            except BaseException as error:
                await provider.give_back(error)
                if not isinstance(error, Exception):  # the batch was cancelled
                    raise
                first = FailedAttempt(connection, error, monotonic() - began)
        return await store_batch(provider, batch, self._heads, patience, first)

    def _retire(self, writer: asyncio.Task[None]) -> None:
        del self._writers[writer]
        if self._queue:  # something came while it was ending
            self._wake_writer()


def _wake(idle: "asyncio.Future[bool]", *, more: bool = False) -> bool:
    """Wake an idle writer, telling it whether there is more to store; return whether it waited."""
    if idle.done():
        return False
    idle.set_result(more)
    return True

"""Group commit: appends that wait while a writer is busy share its next transaction.

There is no timer. A free writer takes what waits, or its share of it, and every caller is answered
after the commit. An append that comes alone, after one that was alone, is stored by its caller's
own task on the connection that an idle writer holds: no task is woken, neither to store it nor to
answer it. What fails there, and what is cancelled, is left to that writer.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from time import monotonic
from typing import cast

import asyncpg
import msgspec

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
from chem_persistence.postgres.schema.row_types import look_at_log
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

LARGE_BYTES = 2**20
"""What is larger is stored by a writer: a cancelled caller does not wait for its transaction."""


class _Begun(msgspec.Struct, frozen=True):
    """An append that its caller has begun to store: with what and after how long that failed."""

    append: QueuedAppend
    connection: Connection
    error: BaseException
    seconds: float


class _Idle:
    """A writer that waits for more for a moment; callers may borrow its connection meanwhile."""

    __slots__ = ("_due_at", "_loop", "_timer", "held", "is_lent", "woken")

    def __init__(self, held: HeldConnection) -> None:
        self.held = held
        self.is_lent = False
        self._loop = asyncio.get_running_loop()
        self.woken: asyncio.Future[_Begun | bool] = self._loop.create_future()
        self._due_at = self._loop.time() + LINGER_SECONDS
        self._timer = self._loop.call_later(LINGER_SECONDS, self._look)

    def linger(self) -> None:
        """Wait for another moment, after the connection was lent."""
        self.is_lent = False
        self._due_at = self._loop.time() + LINGER_SECONDS

    def wake(self, begun: _Begun | bool) -> bool:  # noqa: FBT001  # the answer to its wait
        """Wake the writer, with an append to go on with or whether there are more.

        Return whether it waited.
        """
        if self.woken.done():
            return False
        self.woken.set_result(begun)
        return True

    def end(self) -> None:
        """End the timer."""
        self._timer.cancel()

    def _look(self) -> None:
        left = LINGER_SECONDS if self.is_lent else self._due_at - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.wake(False)


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
        self._idle: list[_Idle] = []
        self._was_alone = False
        self._connecting: set[asyncio.Task[None]] = set()
        self._looked_for_distribution = False

    async def store(self, request: AppendRequest) -> list[FlowEvent]:
        """Store a request, and return its events once they are committed.

        If it is cancelled, the whole append is in the log, or nothing of it.
        """
        answered: asyncio.Future[list[FlowEvent]] = self._running_loop().create_future()
        append = QueuedAppend(request, answered=answered)
        try:
            if self._was_alone and (idle := self._lend_to(append)):
                await self._store_alone(append, idle)
            else:
                self._queue.put(append)
                self._wake_writer()
            return await answered
        except asyncio.CancelledError:
            answered.cancel()
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
                idle.wake(False)
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

    # ---- an append that comes alone

    def _lend_to(self, append: QueuedAppend) -> _Idle | None:
        """Return an idle writer whose connection the caller of an append may use, if any."""
        if (
            not self._idle
            or found.observer is not None  # a batch has a span of its own
            or append.submits
            or append.request.size > LARGE_BYTES
            or not self._is_usable(self._idle[-1].held)
            or self._idle[-1].woken.done()
            or not self._queue.take_at_once(append)
        ):
            return None
        idle = self._idle.pop()
        idle.is_lent = True
        return idle

    async def _store_alone(self, append: QueuedAppend, idle: _Idle) -> None:
        """Store an append in the task of its caller; the writer goes on with it if that fails."""
        connection, began = cast("Connection", idle.held.connection), monotonic()
        try:
            outcomes = await append_batch(connection, [append], self._heads, PATIENCE_SECONDS)
        except BaseException as error:
            begun = _Begun(append, connection, error, monotonic() - began)
            if not idle.wake(begun):
                lost = StoreUnavailable("the writer was cancelled")
                self._queue.finish([append], refuse_all([append], lost))
            if not isinstance(error, Exception):
                raise
            return
        self._queue.finish([append], outcomes)
        self._was_alone = not self._queue
        if self._was_alone:
            idle.linger()
            self._idle.append(idle)
        else:
            idle.wake(True)

    # ---- the life of a writer

    def _wake_writer(self) -> None:
        """Have a writer look at the queue: an idle one, or a new one if there are too few."""
        while self._idle:
            if self._idle.pop().wake(True):
                return
        if len(self._writers) < self._count:
            held = HeldConnection(self._provider)
            writer = asyncio.create_task(self._write(held), context=Context())
            self._writers[writer] = held
            writer.add_done_callback(self._retire)

    async def _write(self, held: HeldConnection) -> None:
        """Store batches until no more come."""
        try:
            while self._queue or await self._more_come(held):
                if self._is_usable(held) or await self._connect(held):
                    batch = self._queue.take()
                    self._was_alone = len(batch) == 1 and not self._queue
                    if self._queue:  # there is a share for another writer
                        self._wake_writer()
                    await self._store_and_tell(batch, held)
                elif self._queue:
                    return
        finally:
            with suppress(Exception):  # every caller is answered already; no one is left to get it
                await held.give_back()

    async def _store_and_tell(
        self, batch: Sequence[QueuedAppend], held: HeldConnection, begun: _Begun | None = None
    ) -> None:
        """Store a batch, and notify workers of the flows that are due at once."""
        for appends in await self._attempt(batch, held, PATIENCE_SECONDS, begun):
            self._held_flows.wait(appends)
        due = hinted_definitions([append.request for append in batch])
        if due and held.connection is not None:  # unless it was lost
            await send_hints(held.connection, due)

    async def _more_come(self, held: HeldConnection) -> bool:
        """Wait a moment for more appends; return whether some have come."""
        while isinstance(begun := await self._woken(held), _Begun):
            await self._store_and_tell([begun.append], held, begun)
            if self._queue:
                return True
        return begun

    async def _woken(self, held: HeldConnection) -> _Begun | bool:
        idle = _Idle(held)
        self._idle.append(idle)
        try:
            return await idle.woken
        finally:
            idle.end()
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
            self._queue.one_flow_each = await look_at_log(connection)
            self._looked_for_distribution = True

    async def _attempt(
        self,
        batch: Sequence[QueuedAppend],
        provider: ConnectionProvider,
        patience: float,
        begun: _Begun | None = None,
    ) -> list[list[QueuedAppend]]:
        """Store a batch and answer its callers; return what a lock holds up, by flow."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._under_way[task] = batch
        outcomes: Outcomes = {}
        try:
            storing: Awaitable[Outcomes] = self._store(batch, provider, patience, begun)
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
        self,
        batch: Sequence[QueuedAppend],
        provider: ConnectionProvider,
        patience: float,
        begun: _Begun | None,
    ) -> Outcomes:
        """Append a batch on the connection of a writer; what fails is retried or divided."""
        first = None
        if begun is not None and isinstance(provider, HeldConnection):
            await provider.give_back(begun.error)
            if not isinstance(begun.error, Exception):  # the caller was cancelled
                return {}
            first = FailedAttempt(begun.connection, begun.error, begun.seconds)
        elif isinstance(provider, HeldConnection) and (connection := provider.connection):
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

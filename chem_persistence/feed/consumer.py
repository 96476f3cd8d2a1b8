"""Durable consumers: each event's effect exactly once, in the order of its flow.

A consumer has a name, and a position in the log for each of its parts, which is stored in the
database. Its handler gets the events of one page, and the transaction in which the position is
moved: what it writes there is committed with the position, or not at all.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any, Generic, NoReturn, TypeVar
from uuid import UUID

from chem_persistence.domain.events import EVENT_KINDS, FlowEventKind
from chem_persistence.errors import InvalidArgument, StoreUnavailable
from chem_persistence.feed.lag import Lag
from chem_persistence.feed.part_work import ConsumeOptions, Handler, PartWork
from chem_persistence.feed.parts import ConsumerAdmin, ConsumerParts, ConsumerStatus
from chem_persistence.store.checks import check_flow_id, check_poll_interval, check_position
from chem_persistence.store.feed_position import FeedPosition

__all__ = ["MOST_PARTS", "Consumer", "check_consumer", "consumed_types"]

MOST_PARTS = 256
"""The parts are told apart by one byte of a hash."""

LONGEST_NAME = 100

FEWEST_TRIES = 2
"""The first try may have been with other events; only from the second on an event is alone."""

LEASE = timedelta(seconds=30)
SHORTEST_LEASE = timedelta(milliseconds=100)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""The seconds before the database is asked again after a failure; the pause doubles."""

Transaction = TypeVar("Transaction")
Found = TypeVar("Found")

_logger = logging.getLogger("chem_persistence.consumers")


def check_consumer(name: str, parts: int) -> None:
    """Check the name and the number of parts of a consumer.

    Raises:
        InvalidArgument: the name has not 1 to 100 printable characters, or the number of parts is
            not 1 to 256.
    """
    if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
        raise InvalidArgument(
            "name", f"must have 1 to {LONGEST_NAME} printable characters, not {name!r}"
        )
    if not 1 <= parts <= MOST_PARTS:
        raise InvalidArgument("parts", f"must be 1 to {MOST_PARTS}, not {parts}")


def consumed_types(kinds: Iterable[type[FlowEventKind]] | None) -> list[str] | None:
    """Return the event types of the classes of facts that a consumer gets; None means all.

    Raises:
        InvalidArgument: there are none, or one is no class of `FlowEventKind`.
    """
    if kinds is None:
        return None
    wanted = list(kinds)
    known = {kind: name for name, kind in EVENT_KINDS.items()}
    if not wanted or any(kind not in known for kind in wanted):
        raise InvalidArgument("kinds", f"must be classes of FlowEventKind, not {wanted}")
    return sorted(known[kind] for kind in wanted)


class Consumer(Generic[Transaction]):
    """A durable consumer, of `PgEventStore.consumer`: it goes on where it was, whatever dies.

    Any number of processes may `run` the same consumer: each works on one part at a time, and takes
    over the parts of one that has died when its lease ends. The first one creates the consumer.
    """

    def __init__(
        self,
        name: str,
        parts: ConsumerParts[Any, Transaction],
        admin: ConsumerAdmin,
        position: Callable[[int | None], Awaitable[FeedPosition]],
        *,
        count: int,
        after_seq: int | FeedPosition,
    ) -> None:
        self.name = name
        self._parts = parts
        self._admin = admin
        self._position = position
        self._count = count
        self._after = after_seq
        self._lag = Lag()

    async def run(
        self,
        handler: Handler[Transaction],
        *,
        lease: timedelta = LEASE,
        page: int = 500,
        tries: int = 5,
        poll_interval: float = 0.25,
    ) -> NoReturn:
        """Consume events for ever: await `handler(events, transaction)` for each page, in order.

        A page has 1 to `page` events of one part. What the handler writes in the transaction, by
        `transaction.connection` or appends, is committed with the position: exactly once. What it
        does elsewhere may be done again. If it raises, nothing is stored, and the page is tried
        again, from then on with one event, then with two, and so on. An event that has failed
        `tries` times is parked with its flow: all that follows in that flow waits until you
        `release` it, and the other flows go on. A handler that raises `StoreUnavailable`,
        `ConnectionError` or `TimeoutError`, or a failure of the database that passes by itself, is
        tried again for as long as it takes.

        A part is held for `lease`, which is renewed while the handler runs; another process takes
        it over when the lease has ended. The handler must not leave its transaction idle for longer
        than that, or the server ends it. Appends take a lock that holds back the feed of everybody
        until the commit, so append last. The log is read again each `poll_interval` seconds. While
        the database is unavailable it is asked again after growing pauses. It needs two
        connections.

        Cancel the task to stop: the transaction is rolled back, and the part is released.

        Raises:
            InvalidArgument: an argument is out of range.
            HistoryLost: the log does not hold what was consumed: it is another one, or was
                restored without the consumer's position.
            StoreError: the server is a standby, or the role may not write the tables of consumers.
            StoreClosed: the store was closed.
        """
        work = self._work(handler, lease, page, tries)
        check_poll_interval(poll_interval)

        async def consume() -> bool:
            await self._lag.read(self._admin)
            if not await work.consume_one():
                await asyncio.sleep(poll_interval)
            return False

        try:
            await _until_done(self._create)
            while True:
                await _until_done(consume)
        finally:
            self._lag.end()

    async def run_to_end(
        self,
        handler: Handler[Transaction],
        *,
        lease: timedelta = LEASE,
        page: int = 500,
        tries: int = 5,
        poll_interval: float = 0.25,
    ) -> int:
        """Consume what the log holds now, and return how many events this call has consumed.

        It returns when every part is past the end that the feed had when it was called, whichever
        process has consumed it, and when no flow is left that was released. Otherwise like `run`.

        Raises what `run` raises.
        """
        work = self._work(handler, lease, page, tries)
        check_poll_interval(poll_interval)
        end: int | None = None

        async def consume() -> bool:
            nonlocal end
            if end is None:
                end = await self._parts.feed_end()
            if await self._parts.count_behind(end) == 0:
                return True
            if not await work.consume_one():
                await asyncio.sleep(poll_interval)
            return False

        await _until_done(self._create)
        while not await _until_done(consume):
            pass
        return work.consumed

    async def status(self) -> ConsumerStatus:
        """Return the position and lag of each part, and the parked flows.

        Raises:
            InvalidArgument: there is no such consumer: nobody has run it yet.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        return self._found(await self._admin.status())

    async def release(self, flow_id: UUID) -> None:
        """Release a parked flow: its events are consumed from the failed one on, in order.

        If it fails again, it is parked again.

        Raises:
            InvalidArgument: the flow is not parked.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        check_flow_id(flow_id)
        if not await self._admin.release_flow(flow_id):
            raise InvalidArgument("flow_id", f"consumer {self.name!r} has not parked {flow_id}")

    async def reset(self, to: int | FeedPosition) -> None:
        """Set all parts to a position: 0 is the beginning, a `seq` is that after its event.

        Events after it are consumed again, so delete their effects first; events before it that
        were not consumed yet are skipped. What a process has under way is not committed.

        Raises:
            InvalidArgument: `to` is negative, or there is no such consumer.
            HistoryLost: the log never gave out this `seq`.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        check_position(to)
        at = await self._position(to) if isinstance(to, int) else to
        self._found(await self._admin.reset(at) or None)

    async def resize(self, parts: int) -> None:
        """Change the number of parts, once all have reached the position of the foremost one.

        Until then they stop there; the processes that run the consumer do the rest. The order of
        each flow is kept.

        Raises:
            InvalidArgument: the number is not 1 to 256, or there is no such consumer.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        check_consumer(self.name, parts)
        self._found(await self._admin.resize(parts) or None)
        await self._parts.finish_resize()

    async def remove(self) -> None:
        """Delete the consumer's positions and parked flows; the next run creates it anew.

        Stop the processes that run it first.

        Raises:
            InvalidArgument: there is no such consumer.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        self._found(await self._admin.remove() or None)

    async def _create(self) -> bool:
        """Create the consumer, unless it exists."""
        if not await self._admin.exists():
            after = self._after
            at = await self._position(after) if isinstance(after, int) else after
            await self._admin.create(self._count, at)
        return True

    def _work(
        self, handler: Handler[Transaction], lease: timedelta, page: int, tries: int
    ) -> PartWork[Any, Transaction]:
        for name, number, least in (("page", page, 1), ("tries", tries, FEWEST_TRIES)):
            if number < least:
                raise InvalidArgument(name, f"must be at least {least}, not {number}")
        if lease < SHORTEST_LEASE:
            raise InvalidArgument("lease", f"must be at least {SHORTEST_LEASE}, not {lease}")
        return PartWork(self._parts, handler, ConsumeOptions(lease, page, tries))

    def _found(self, found: Found | None) -> Found:
        if found is None:
            raise InvalidArgument(
                "name", f"there is no consumer {self.name!r}: the first run of it creates it"
            )
        return found


async def _until_done(work: Callable[[], Awaitable[bool]]) -> bool:
    """Await `work` until the database is available, with growing pauses; return its answer."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await work()
        except StoreUnavailable as error:
            _logger.warning("a consumer tries again in %.3g s: %s", pause, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)

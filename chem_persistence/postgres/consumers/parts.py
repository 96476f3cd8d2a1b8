"""The parts of a durable consumer on PostgreSQL: claims, pages, and the transaction with the fence.

The part of a flow is `get_byte(sha256(uuid_send(flow_id)), 0) % parts`, which is the same in every
version of PostgreSQL, and in other languages.
"""

import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import HistoryLost
from chem_persistence.feed.parts import HeldPart, PartLost, PartPosition
from chem_persistence.postgres.append.transaction import PgTransaction
from chem_persistence.postgres.connection.failures import (
    cause_on,
    is_lost,
    is_transient,
    library_errors,
    translated,
)
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.flows import SizedPages
from chem_persistence.postgres.read.rows import Row, stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import decode_event

__all__ = ["PgConsumerParts", "PgPartPage"]

CLAIM_PART = statement("consumers/claim_part")
COUNT_BEHIND = statement("consumers/count_behind")
CREATE_CONSUMER = statement("consumers/create_consumer")
DELETE_PARTS = statement("consumers/delete_parts")
FIND_FEED_END = statement("feed/find_feed_end")
FIND_POSITION = statement("consumers/find_position")
FIND_RELEASED = statement("consumers/find_released")
FIND_SPAN = statement("consumers/find_span")
FINISH_PARKED = statement("consumers/finish_parked")
LIST_PARKED_IN_PART = statement("consumers/list_parked_in_part")
LOCK_PARTS = statement("consumers/lock_parts")
MOVE_PARKED = statement("consumers/move_parked")
MOVE_PART = statement("consumers/move_part")
PARK_AGAIN = statement("consumers/park_again")
PARK_FLOW = statement("consumers/park_flow")
READ_HELD_PART = statement("consumers/read_held_part")
READ_PART_PAGE = statement("consumers/read_part_page")
READ_RELEASED_PAGE = statement("consumers/read_released_page")
RELEASE_PART = statement("consumers/release_part")
RENEW_PART = statement("consumers/renew_part")
SET_TIMEOUT = statement("consumers/set_timeout")

EVENTS_PER_SPAN = 1_000
"""A page is looked for among so many events of the whole log, of which a part may have none.

A limit on the events of the part alone might read the whole log for a type that is rare, and a span
of numbers may be empty.
"""

LARGEST_PAGE = 1_000_000

_ENDED_IDLE = frozenset({"25P03", "25P04"})
"""idle_in_transaction_session_timeout, transaction_timeout: it was the handler's fault."""


class PgPartPage(msgspec.Struct, frozen=True):
    """Rows of a part, or of a flow that was released with the `seq` it waits from; see `PartPage`.

    A page of a released flow is the last one if it reaches the part's position.
    """

    rows: Sequence[Row]
    then: HeldPart
    released: tuple[UUID, int] | None = None
    is_last: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it has no events; see `PartPage.is_empty`."""
        return not self.rows

    @property
    def flow_id(self) -> UUID:
        """The flow of its first event; see `PartPage.flow_id`."""
        return UUID(int=self.rows[0]["flow_id"].int)

    def events(self) -> list[FlowEvent]:
        """Decode the events; see `PartPage.events`."""
        return [decode_event(stored_event(row)) for row in self.rows]


class PgConsumerParts:
    """The parts of the consumer `name`, with events of some types or of all; see `ConsumerParts`.

    `transaction` opens a transaction of the store.
    """

    def __init__(
        self,
        provider: ConnectionProvider,
        transaction: Callable[[], AbstractAsyncContextManager[PgTransaction]],
        name: str,
        event_types: Sequence[str] | None,
    ) -> None:
        self._session = Session(provider)
        self._transaction = transaction
        self._name = name
        self._types = None if event_types is None else list(event_types)
        self._holder = f"{socket.gethostname()}:{os.getpid()}"

    async def feed_end(self) -> int:
        """Return the end of the feed; see `ConsumerParts.feed_end`."""
        (row,) = await self._session.fetch(FIND_FEED_END)
        end: int = row["seq"]
        return end

    async def claim(self, end: int, lease: timedelta) -> HeldPart | None:
        """Claim a part, and check its position; see `ConsumerParts.claim`."""
        token, is_sent = uuid4(), False

        async def attempt(connection: Connection) -> HeldPart | None:
            nonlocal is_sent
            rows = await connection.fetch(READ_HELD_PART, self._name, token) if is_sent else []
            is_sent = True
            if not rows:
                asked = (CLAIM_PART, self._name, token, self._holder, lease, end)
                rows = await connection.fetch(*asked)
            if not rows:
                return None
            part = _held(self._name, token, rows[0])
            at = part.at.flow_id, part.at.seq, part.at.link
            own = await connection.fetch(FIND_POSITION, *at)
            if part.at.seq and [row["link"] for row in own] != [part.at.link]:
                raise _position_lost(part, end)
            return part

        return await self._session.run(attempt)

    async def find(self, part: HeldPart) -> HeldPart | None:
        """Return the part as it is now; see `ConsumerParts.find`."""
        rows = await self._session.fetch(READ_HELD_PART, part.name, part.token)
        return _held(part.name, part.token, rows[0]) if rows else None

    async def renew(self, part: HeldPart, lease: timedelta) -> bool:
        """Renew the lease; see `ConsumerParts.renew`."""
        asked = (RENEW_PART, part.name, part.part, part.token, lease)
        return bool(await self._session.fetch(*asked))

    async def release(
        self,
        part: HeldPart,
        *,
        due_in: timedelta,
        tries: int,
        passed: int | None = None,
        error: str | None = None,
    ) -> bool:
        """Release a part; see `ConsumerParts.release`."""
        rows = await self._session.fetch(RELEASE_PART, *_fence(part), due_in, tries, passed, error)
        return bool(rows)

    async def next_page(self, part: HeldPart, end: int, most: int) -> PgPartPage | None:
        """Return the next page; see `ConsumerParts.next_page`."""
        until = end if part.until is None else min(end, part.until)
        most = min(most, part.page)

        async def read(connection: Connection) -> PgPartPage | None:
            for released in await connection.fetch(FIND_RELEASED, part.name, part.parts, part.part):
                return await self._released_page(connection, part, released, most)
            return await self._next_page(connection, part, until, most)

        return await self._session.run(read)

    async def _next_page(
        self, connection: Connection, part: HeldPart, end: int, most: int
    ) -> PgPartPage | None:
        for span in await connection.fetch(FIND_SPAN, part.at.seq, end, EVENTS_PER_SPAN):
            own = (part.parts, part.part)
            parked = await connection.fetch(LIST_PARKED_IN_PART, part.name, *own)
            flows = [row["flow_id"] for row in parked]
            pages = SizedPages(most)
            asked = (READ_PART_PAGE, part.at.seq, span["seq"], *own, flows, self._types)
            rows = await pages.read(connection.fetch, asked)
            at = _position(span, span["link"]) if pages.is_last else _at(rows[-1])
            return PgPartPage(rows, _moved(part, at))
        return None

    async def _released_page(
        self, connection: Connection, part: HeldPart, released: Row, most: int
    ) -> PgPartPage:
        pages = SizedPages(most)
        flow_id, since = UUID(int=released["flow_id"].int), released["seq"]
        asked = (READ_RELEASED_PAGE, flow_id, since, part.at.seq, self._types)
        rows = await pages.read(connection.fetch, asked)
        return PgPartPage(rows, _moved(part, part.at), (flow_id, since), pages.is_last)

    @asynccontextmanager
    async def consuming(
        self, part: HeldPart, page: PgPartPage, lease: timedelta
    ) -> AsyncIterator[PgTransaction]:
        """Open the transaction of a page; see `ConsumerParts.consuming`.

        If this process is stopped in it, the server ends it after the time of the lease. Else the
        part's row could stay locked for ever, and no other process could claim it.
        """
        async with self._transaction() as opened:
            connection = opened.connection
            try:
                with library_errors(connection):
                    await connection.fetch(SET_TIMEOUT, str(round(lease.total_seconds() * 1_000)))
                yield opened
                await _move(connection, part, page, lease)
            except Exception as error:
                cause = cause_on(connection, error)
                if _passes_by_itself(cause):
                    raise translated(cause) from error
                raise

    def is_lost(self, transaction: PgTransaction) -> bool:
        """Return whether the connection is closed; see `ConsumerParts.is_lost`."""
        return is_lost(transaction.connection)

    async def pass_by(self, part: HeldPart, page: PgPartPage, lease: timedelta) -> None:
        """Move the position behind a page without events; see `ConsumerParts.pass_by`."""

        async def move(connection: Connection) -> None:
            await _move(connection, part, page, lease)

        await self._session.transaction(move, isolation="read_committed")

    async def park(
        self, part: HeldPart, page: PgPartPage, error: str, lease: timedelta
    ) -> HeldPart:
        """Park the flow of a page's first event; see `ConsumerParts.park`."""
        first = page.rows[0]
        event = (first["seq"], first["event_id"], error)

        async def put_aside(connection: Connection) -> HeldPart:
            if page.released is None:
                await connection.fetch(PARK_FLOW, part.name, page.flow_id, *event)
                then = _moved(part, _at(first))
            else:
                await _check(connection, PARK_AGAIN, part.name, *page.released, *event)
                then = _moved(part, part.at)
            await _move_part(connection, part, then, lease)
            return then

        return await self._session.transaction(put_aside, isolation="read_committed")

    async def finish_resize(self) -> bool:
        """Change the number of parts if all have stopped; see `ConsumerParts.finish_resize`."""

        async def replace(connection: Connection) -> bool:
            rows = await connection.fetch(LOCK_PARTS, self._name)
            wanted = rows[0]["next_parts"] if rows else None
            if wanted is None or any(row["seq"] != row["until_seq"] for row in rows):
                return False
            at = _position(rows[0], rows[0]["link"])
            await connection.fetch(DELETE_PARTS, self._name)
            await connection.fetch(CREATE_CONSUMER, self._name, wanted, at.seq, at.flow_id, at.link)
            return True

        return await self._session.transaction(replace, isolation="read_committed")

    async def count_behind(self, seq: int) -> int:
        """Count the parts that have not passed a `seq`; see `ConsumerParts.count_behind`."""
        (row,) = await self._session.fetch(COUNT_BEHIND, self._name, seq)
        behind: int = row["behind"]
        return behind


async def _move(connection: Connection, part: HeldPart, page: PgPartPage, lease: timedelta) -> None:
    """Move the position behind a page, and the event that a released flow waits from.

    A released flow leaves the part where it is, so its own row tells two attempts apart.
    """
    if page.released is not None:
        if page.is_last:
            await _check(connection, FINISH_PARKED, part.name, *page.released)
        else:
            after = page.rows[-1]["seq"] + 1
            await _check(connection, MOVE_PARKED, part.name, *page.released, after)
    await _move_part(connection, part, page.then, lease)


async def _move_part(
    connection: Connection, part: HeldPart, then: HeldPart, lease: timedelta
) -> None:
    """Move the position of a part that is still held, and has not moved: the fence.

    It comes last: the row is locked from then on, and the lease cannot be renewed.
    """
    at = then.at
    moved = (at.seq, at.flow_id, at.link, then.page, lease)
    await _check(connection, MOVE_PART, *_fence(part), *moved)


async def _check(connection: Connection, change: str, *arguments: object) -> None:
    """Run a statement that returns a row if it has changed one.

    Raises:
        PartLost: it has changed nothing.
    """
    if not await connection.fetch(change, *arguments):
        raise PartLost


def _fence(part: HeldPart) -> tuple[str, int, int, UUID]:
    return part.name, part.part, part.at.seq, part.token


def _held(name: str, token: UUID, row: Row) -> HeldPart:
    return HeldPart(
        name=name,
        token=token,
        part=row["part"],
        parts=row["parts"],
        at=_position(row, row["link"]),
        until=row["until_seq"],
        tries=row["tries"],
        page=row["page"],
        error=row["error"],
    )


def _moved(part: HeldPart, at: PartPosition) -> HeldPart:
    """Return a part that has been consumed up to a position: the next page may have more events."""
    page = min(2 * part.page, LARGEST_PAGE)
    return msgspec.structs.replace(part, at=at, tries=1, page=page, error=None)


def _at(row: Row) -> PartPosition:
    return _position(row, row["chain_hash"])


def _position(row: Row, link: bytes | None) -> PartPosition:
    flow_id = row["flow_id"]
    return PartPosition(row["seq"], flow_id and UUID(int=flow_id.int), link)


def _position_lost(part: HeldPart, end: int) -> HistoryLost:
    return HistoryLost(
        f"consumer {part.name!r}, part {part.part}: the log does not hold event {part.at.seq} of "
        f"flow {part.at.flow_id}, up to which it has consumed; the log ends at {end} now. Reset "
        "the consumer to a position that its own data agree with",
        flow_id=part.at.flow_id,
        known=part.at.seq,
        found=end,
    )


def _passes_by_itself(error: Exception) -> bool:
    """Return whether a handler may succeed a moment later, whatever its event is."""
    match error:
        case asyncpg.PostgresError():
            return is_transient(error) and error.sqlstate not in _ENDED_IDLE
        case OSError():  # such as of another server, but not that of a file
            return isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
        case _:
            return is_transient(error)

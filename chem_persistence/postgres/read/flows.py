"""Flows: read in pages, with no connection held between two pages, or several in one query.

Each page after the first begins with the last event of the page before, which shows that it follows
what was read: between two pages the flow may be archived, or the log go back to an earlier state.

Every function raises, besides what it lists:
    UnreadableEvent: a stored event does not decode, or is missing.
    FlowArchived: the flow was archived, before it was read or meanwhile.
    HistoryLost: events that were read are gone.
    StoreUnavailable, StoreError: the log could not be read.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias
from uuid import UUID

import anyio
import msgspec

from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.errors import FlowArchived, HistoryLost, StoreUnavailable, UnreadableEvent
from chem_persistence.postgres.connection.held_connection import HeldConnection
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import NO_EVENT_ID, NO_TIME, Row, stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import MAX_VERSION, check_flow_id
from chem_persistence.store.codec import (
    StoredEvent,
    decode_kind,
    decode_metadata,
    decode_replayed,
)
from chem_persistence.telemetry.hooks import watched_read

__all__ = [
    "PAGE_BYTES",
    "Reached",
    "SizedPages",
    "fact_pages",
    "fact_pages_ahead",
    "iterate_events",
    "iterate_stored",
    "list_events",
    "list_flows",
    "pages_ahead",
    "raise_if_vanished",
]

FIND_ARCHIVED = statement("events/find_archived")
PROBE_FLOW = statement("events/probe_flow")
READ_EVENT_PAGE = statement("events/read_event_page")
READ_EVENTS_OF_FLOWS = statement("events/read_events_of_flows")
READ_FACT_PAGE = statement("events/read_fact_page")
READ_STORED_EVENT_PAGE = statement("events/read_stored_event_page")

EVENTS_PER_PAGE = 5_000
"""As fast as one query for the whole flow, in bounded memory."""

EVENTS_PER_PAGE_AHEAD = 1_000
"""A page of usual events fits into the socket's buffers, so the server need not wait for us."""

_Page: TypeAlias = tuple[int, list[Any]]
_Facts: TypeAlias = Iterator[tuple[FlowEventKind, datetime | None]]


PAGE_BYTES = 8 * 2**20
"""Bytes of JSON in one page at most, unless a single row has more (8 MiB)."""

NO_LIMIT = 2**40
"""More bytes than a row can have; 16 times as much still fits into 64 bits."""

GROWTH = 4

_LEFT_OUT = itemgetter("left_out")


class SizedPages(msgspec.Struct):
    """Reads pages that are bounded by bytes, each of at most `most` rows.

    A statement that reads such a page takes as its last two parameters a number of rows and the
    bytes of JSON of one row; a row with more comes without its JSON, and with its size as
    `left_out`. A page ends before the first such row, and the next page asks for fewer rows, which
    may have more bytes each.
    """

    most: int
    rows: int = 2**62
    is_last: bool = False

    async def read(
        self,
        fetch: Callable[..., Awaitable[list[Any]]],
        arguments: tuple[Any, ...],
        limit: int | None = None,
    ) -> list[Any]:
        """Return the next rows, at most `limit`; `is_last` then tells whether no more follow.

        `fetch` is called with the arguments, a number of rows and the bytes of one row. No rows
        mean that there are none.
        """
        asked = min(self.rows, self.most if limit is None else min(self.most, limit))
        while True:
            each = NO_LIMIT if asked <= 1 else PAGE_BYTES // asked
            found = await fetch(*arguments, asked, each)
            left_out = [*map(_LEFT_OUT, found)] if asked > 1 else []
            self.is_last = len(found) < asked
            if not any(left_out):
                self.rows = max(min(self.rows, self.most), asked * GROWTH)
                return found
            count, size = next((index, size) for index, size in enumerate(left_out) if size)
            self.rows = asked = min(max(1, PAGE_BYTES // size), asked - 1)
            if count:
                self.is_last = False
                return found[:count]


class Reached(msgspec.Struct):
    """How far a flow was read: the number of its events, and an event (version, link) that it has.

    The event is None if only the number is known, since the caller named it.
    """

    version: int = 0
    known: tuple[int, bytes] | None = None

    async def read(
        self,
        session: Session,
        pages: SizedPages,
        statement: str,
        flow_id: UUID,
        limit: int | None,
    ) -> list[Any]:
        """Read the next page of a flow, at most `limit` rows."""
        first = self.version = min(self.version, MAX_VERSION)
        found: list[Any] = []

        async def fetch(count: int, bytes_each: int) -> list[Any]:
            nonlocal found
            found = await session.fetch(statement, flow_id, first, count + (first > 0), bytes_each)
            if (first or not found) and not self._is_continued_by(found):
                version, link = self.known or (first - 1, None)
                await raise_if_vanished(session, flow_id, version + 1, link)
            if found and found[0]["version"] < first:
                del found[0]
            return found[:count]

        rows = await pages.read(fetch, (), limit)
        mark = min(len(rows), len(found) - 1)  # the last row, or the first one that was left out
        self.known = None
        if found and found[mark]["version"] == first + mark:  # else an event is missing
            link = found[mark]["chain_hash"]
            self.known = None if link is None else (first + mark, link)
        self.version += len(rows)
        return rows

    def _is_continued_by(self, rows: Sequence[Any]) -> bool:
        if not rows or rows[0]["version"] != self.version - 1:
            return False
        if self.known is None:
            return True
        version, link = self.known
        place = version - self.version + 1
        return len(rows) > place and rows[place]["chain_hash"] == link


async def raise_if_vanished(
    session: Session, flow_id: UUID, version: int, link: bytes | None
) -> None:
    """Raise for a flow that lacks the last of `version` events, or has another one in its place.

    Return if the link of that event is None, since it was not read, and no archive has taken it.
    """
    (row,) = await session.fetch(PROBE_FLOW, flow_id, version)
    is_there = row["known_hash"] is not None if link is None else row["known_hash"] == link
    is_back = is_there or version == 0  # it was archived when it was read, and imported since then
    if row["bundle_sha256"] is not None and (row["version"] == 0 or is_back):
        raise FlowArchived(flow_id, row["bundle_sha256"])
    if link is None:
        return
    if row["is_standby"] or is_there:
        raise StoreUnavailable(
            f"flow {flow_id} was read from a standby, which has not received all of its "
            f"{version} events: read from the primary"
        )
    raise HistoryLost(
        f"flow {flow_id} had {version} events when it was read; it has {row['version']} now, and "
        "not the same ones: the log went back to an earlier state, after a failover or a restore",
        flow_id=flow_id,
        known=version,
        found=row["version"],
    )


# ---- what callers read


async def list_events(
    provider: ConnectionProvider, flow_id: UUID, after_version: int, limit: int | None
) -> list[FlowEvent]:
    """Read a flow's events at once; see `EventReader.list`."""
    reached = Reached(max(after_version + 1, 0))
    reading = pages_ahead(provider, READ_EVENT_PAGE, flow_id, reached, limit)
    async with aclosing(reading) as pages:
        return [event async for first, rows in pages for event in _events(rows, flow_id, first)]


async def iterate_events(
    provider: ConnectionProvider, flow_id: UUID, after_version: int
) -> AsyncGenerator[FlowEvent]:
    """Yield a flow's events one by one; see `EventReader.iterate`."""
    reached = Reached(max(after_version + 1, 0))
    async with aclosing(_pages(provider, READ_EVENT_PAGE, flow_id, reached)) as pages:
        async for first, rows in pages:
            for event in _events(rows, flow_id, first):
                yield event


async def iterate_stored(
    provider: ConnectionProvider, flow_id: UUID
) -> AsyncGenerator[StoredEvent]:
    """Yield a flow's events as they are stored; see `TransferStore.stored_events`."""
    async with aclosing(_pages(provider, READ_STORED_EVENT_PAGE, flow_id, Reached())) as pages:
        async for first, rows in pages:
            for version, row in enumerate(rows, start=first):
                if row["version"] != version:
                    raise UnreadableEvent(flow_id, version, _MISSING)
                yield stored_event({**row, "flow_id": flow_id})


async def list_flows(
    provider: ConnectionProvider, flow_ids: Iterable[UUID]
) -> dict[UUID, list[FlowEvent]]:
    """Read the events of whole flows in one query; see `EventReader.list_many`."""
    events: dict[UUID, list[FlowEvent]] = {}
    for flow_id in flow_ids:
        check_flow_id(flow_id)
        events[flow_id] = []
    if events:
        session = Session(provider)
        rows = await watched_read(session.fetch(READ_EVENTS_OF_FLOWS, list(events)))
        for flow_id, own in groupby(rows, key=lambda row: row["flow_id"]):
            events[flow_id] = list(_events(own, flow_id, 0))
        if empty := [flow_id for flow_id, own in events.items() if not own]:
            for row in await session.fetch(FIND_ARCHIVED, empty):
                raise FlowArchived(row["flow_id"], row["bundle_sha256"])
    return events


async def fact_pages(
    provider: ConnectionProvider, flow_id: UUID, reached: Reached, limit: int | None = None
) -> AsyncGenerator[_Facts]:
    """Yield what `replay_facts` needs of a flow's next events, page by page."""
    async with aclosing(_pages(provider, READ_FACT_PAGE, flow_id, reached, limit)) as pages:
        async for first, rows in pages:
            yield _facts(rows, flow_id, first)


async def fact_pages_ahead(
    provider: ConnectionProvider, flow_id: UUID, reached: Reached, limit: int | None = None
) -> AsyncGenerator[_Facts]:
    """Yield the same as `fact_pages`, read ahead as in `pages_ahead`."""
    reading = pages_ahead(provider, READ_FACT_PAGE, flow_id, reached, limit)
    async with aclosing(reading) as pages:
        async for first, rows in pages:
            yield _facts(rows, flow_id, first)


# ---- pages of rows, each with the version that it begins with


async def pages_ahead(
    provider: ConnectionProvider,
    statement: str,
    flow_id: UUID,
    reached: Reached,
    limit: int | None = None,
) -> AsyncGenerator[_Page]:
    """Yield a flow's next rows in pages, at most `limit` rows, and read ahead.

    A flow that fits into one page is read in one query. Of a longer one, the next pages are read
    while the caller decodes, on a connection that is borrowed until the generator is closed, but
    returned every 0.1 s. Close the generator if the loop may end early (`contextlib.aclosing`).
    """
    size = EVENTS_PER_PAGE_AHEAD
    alone = size if limit is None else min(size, limit)
    rest = None if limit is None else limit - alone
    begin = reached.version
    reading = _pages(provider, statement, flow_id, reached, alone, page_size=size)
    async with aclosing(reading) as first_pages:
        async for first, rows in first_pages:
            yield first, rows
    if reached.version - begin < size:
        return
    held = HeldConnection(provider)
    pages = _pages(held, statement, flow_id, reached, rest, page_size=size)
    ready: asyncio.Queue[_Page | Exception | None] = asyncio.Queue(maxsize=1)
    reader = asyncio.create_task(_read_ahead(ready, held, pages))
    try:
        while page := await ready.get():
            if isinstance(page, Exception):
                raise page
            yield page
    finally:
        reader.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([reader])


async def _read_ahead(
    ready: "asyncio.Queue[_Page | Exception | None]",
    held: HeldConnection,
    pages: AsyncGenerator[_Page],
) -> None:
    """Put the pages, read on the held connection, into the queue; then the error, or None."""
    last: Exception | None = None
    try:
        async with aclosing(pages):
            async for page in pages:
                await ready.put(page)
                if held.is_due:
                    await held.give_back()
    except Exception as error:  # noqa: BLE001  # the consumer of the queue raises it
        last = error
    finally:
        await held.give_back()
    await ready.put(last)


async def _pages(
    provider: ConnectionProvider,
    statement: str,
    flow_id: UUID,
    reached: Reached,
    limit: int | None = None,
    *,
    page_size: int | None = None,
) -> AsyncGenerator[_Page]:
    """Yield a flow's next rows in pages, at most `limit` rows.

    Each page, of at most `page_size` rows or `EVENTS_PER_PAGE`, is a query of its own that sees
    what has been committed by then. No connection is held between two pages.
    """
    session = Session(provider)
    pages = SizedPages(page_size or EVENTS_PER_PAGE)

    while not pages.is_last and (limit is None or limit > 0):
        first = min(reached.version, MAX_VERSION)
        reading = reached.read(session, pages, statement, flow_id, limit)
        rows = await watched_read(reading, flow_id)
        yield first, rows
        limit = None if limit is None else limit - len(rows)


# ---- rows to events and facts, each decoded when it is asked for


def _events(rows: Iterable[Row], flow_id: UUID, first: int) -> Iterator[FlowEvent]:
    """Decode the rows of a flow, whose versions follow each other from `first` on."""
    for version, row in enumerate(rows, start=first):
        if row["version"] != version:
            raise UnreadableEvent(flow_id, version, _MISSING)
        if row["ts"] is None or row["event_id"] is None:
            raise UnreadableEvent(flow_id, version, NO_TIME if row["event_id"] else NO_EVENT_ID)
        yield FlowEvent(
            seq=row["seq"],
            flow_id=flow_id,
            version=version,
            event_id=row["event_id"],
            ts=row["ts"],
            kind=decode_kind(row["payload"] or b"", flow_id, version, row["event_type"]),
            metadata=decode_metadata(row["metadata"] or b"", flow_id, version),
        )


def _facts(rows: Iterable[Sequence[Any]], flow_id: UUID, first: int) -> _Facts:
    """Decode rows of (version, has_time, ts, event_type, payload, ...) to facts with times.

    The time is None where no state shows it; see `replay_facts`.
    """
    for version, (stored_version, has_time, ts, event_type, payload, _, _) in enumerate(
        rows, start=first
    ):
        if stored_version != version:
            raise UnreadableEvent(flow_id, version, _MISSING)
        if not has_time:
            raise UnreadableEvent(flow_id, version, NO_TIME)
        yield decode_replayed(payload or b"", flow_id, version, event_type), ts


_MISSING = "is missing from the log"

"""The feed: all events of the log in the order of `seq`, including those that commit late.

A writer takes its `seq` numbers before it commits, so a larger one may become visible before a
smaller one. Each append therefore holds an advisory lock that states the number after which its own
begin (PostgreSQL manual, section 13.3.5), and a page of the feed ends before the first number that
an open transaction may still commit. The feed does not use the transaction ids of snapshots, so it
continues after a restore, and no unrelated transaction of the server can stall it.

A page begins with the event of the position that it follows, so that one statement, on whichever
server it runs, proves that the page follows what was seen. If that event was archived with its
flow, the register says so, and the page begins after its number; a window in which an archived flow
may have had events is not compared.

What a page lacks because it was archived is found by a later statement on the same connection,
which sees every archive that the page's snapshot saw. The statement before the page, which has
`feed_end()`, would be too early, and the page itself cannot have it: Citus sends it to the workers.
The later statement asks the sequence of the register and no table. The sequence may be ahead of the
register, by archives that are not committed, but is never behind it; so the register itself is read
only if something may have been archived that is not known.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from chem_persistence.errors import StoreUnavailable
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.flows import PAGE_BYTES, SizedPages
from chem_persistence.postgres.read.rows import stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.feed import EVENTS_PER_FEED_PAGE, SourcePage, history_lost, seq_lost
from chem_persistence.store.feed_position import (
    WINDOW_EVENTS,
    FeedPosition,
    FeedWindow,
    PositionState,
)

__all__ = ["PgFeedSource", "find_feed_end"]

EXAMINE_POSITION = statement("feed/examine_position")
COUNT_MISSED = statement("feed/count_missed")
FIND_ARCHIVE_AT = statement("feed/find_archive_at")
FIND_ARCHIVE_NUMBER = statement("feed/find_archive_number")
FIND_LAST_ARCHIVE = statement("feed/find_last_archive")
FIND_FEED_BOUNDS = statement("feed/find_feed_bounds")
FIND_FEED_END = statement("feed/find_feed_end")
FIND_POSITION = statement("feed/find_position")
LIST_MISSED = statement("feed/list_missed")
READ_DISTRIBUTED_FEED_PAGE = statement("feed/read_distributed_feed_page")
READ_FEED_PAGE = statement("feed/read_feed_page")
READ_LAST_LINKS = statement("feed/read_last_links")

_MAX_LIMIT = 2**63 - 1
_MOST_NAMED = 100
"""How many of the flows that a follower has missed are named."""


class PgFeedSource:
    """The feed of a log, and what the log holds at positions in it.

    A standby raises `StoreError`: it does not know what is being written, and may lack events that
    it has not received yet.
    """

    def __init__(self, provider: ConnectionProvider) -> None:
        self._session = Session(provider)
        self._pages = SizedPages(EVENTS_PER_FEED_PAGE)

    async def read_after(
        self, after: int | FeedPosition, limit: int, archived: int | None
    ) -> SourcePage:
        """Return the next events; see `FeedSource.read_after`."""
        pages = self._pages if limit <= EVENTS_PER_FEED_PAGE else SizedPages(limit)
        if isinstance(after, int) or not after.seq:
            seq = after if isinstance(after, int) else after.seq
            return await self._session.run(
                lambda connection: _page_after(connection, pages, seq, limit, archived)
            )
        position = after
        found = await self._session.run(
            lambda connection: _page_following(connection, pages, position, limit)
        )
        if found is None:
            # raises HistoryLost, unless its event was archived, or this server only lags
            await self.window(position)
            if not await self._is_archived(position):
                raise StoreUnavailable(
                    f"position {position.seq} was read from a server that lags behind the log: "
                    "read from the primary"
                )
            return await self._session.run(
                lambda connection: _page_after(
                    connection, pages, position.seq, limit, position.archived
                )
            )
        return found

    async def window(self, position: FeedPosition) -> FeedWindow:
        """Return the window behind a position; see `FeedSource.window`."""
        (end,) = await self._session.fetch(FIND_FEED_END)
        row, state = await self._examined(position)
        if state is not PositionState.HOLDS:
            raise history_lost(position, state, end["seq"])
        return _window(row, position)

    async def state(self, position: FeedPosition) -> PositionState:
        """Return what the log holds at a position; see `FeedSource.state`."""
        await self._session.fetch(FIND_FEED_END)  # fails on a standby
        return (await self._examined(position))[1]

    async def _examined(self, position: FeedPosition) -> tuple[Any, PositionState]:
        """Return what the log has at a position, and its state, which archives do not change."""
        (row,) = await self._session.fetch(EXAMINE_POSITION, *_named(position))
        state = _state(row, position)
        if state in {PositionState.GONE, PositionState.WINDOW_DIFFERS}:
            (archive,) = await self._session.fetch(FIND_ARCHIVE_AT, *_named(position))
            is_gone = state is PositionState.GONE
            if archive["is_archived"] if is_gone else archive["is_touched"]:
                state = PositionState.HOLDS
        return row, state

    async def _is_archived(self, position: FeedPosition) -> bool:
        (archive,) = await self._session.fetch(FIND_ARCHIVE_AT, *_named(position))
        is_archived: bool = archive["is_archived"]
        return is_archived

    async def position(self, seq: int | None) -> FeedPosition:
        """Return the position after the last event up to a `seq`; see `EventFeed.position`."""
        archived = await self._session.run(_last_archive)
        (bounds,) = await self._session.fetch(FIND_FEED_BOUNDS)
        if seq is not None and seq > bounds["last_seq"]:
            raise seq_lost(seq, bounds["last_seq"])
        end = bounds["seq"] if seq is None else min(seq, bounds["seq"])
        rows = await self._session.fetch(READ_LAST_LINKS, end)
        if not rows:
            return FeedPosition.start().with_archived(archived)
        since = rows[-1]["seq"] - 1 if len(rows) == WINDOW_EVENTS else 0
        window = FeedWindow(since, [(row["seq"], row["chain_hash"]) for row in reversed(rows)])
        return window.position(rows[0]["flow_id"], archived)


async def find_feed_end(provider: ConnectionProvider) -> int:
    """Return the `seq` up to which the log is complete and stays so.

    Raises:
        StoreUnavailable: the database could not be reached.
        StoreError: the server is a standby.
    """
    (end,) = await Session(provider).fetch(FIND_FEED_END)
    seq: int = end["seq"]
    return seq


async def _page_after(
    connection: Connection, pages: SizedPages, seq: int, limit: int, archived: int | None
) -> SourcePage:
    """Read the page after a number of which only the size is known."""
    known = await _last_archive(connection) if archived is None else archived
    rows = await _read_after(connection, pages, seq, limit)
    if archived is None:
        return SourcePage(map(stored_event, rows), known)
    return await _told(connection, rows, seq, known)


async def _page_following(
    connection: Connection, pages: SizedPages, position: FeedPosition, limit: int
) -> SourcePage | None:
    """Read the page after a position; return None if the position's own event is not there."""
    rows = await _read_following(connection, pages, position, limit)
    return None if rows is None else await _told(connection, rows, position.seq, position.archived)


async def _told(connection: Connection, rows: list[Any], seq: int, archived: int) -> SourcePage:
    """Return a page after `seq` with what was archived since the number `archived`.

    An archive that is committed after the page was read may be told although the page has its
    events: the page is dropped then. One that is committed later is found after the next page.
    """
    events = map(stored_event, rows)
    (last,) = await connection.fetch(FIND_ARCHIVE_NUMBER)
    number: int = last["archive_no"]
    if number == archived:
        return SourcePage(events, archived)
    # the register went back together with the log: nothing in it is known
    known = archived if number > archived else 0
    (found,) = await connection.fetch(COUNT_MISSED, known, seq)
    if not found["missed"]:
        return SourcePage(events, found["archive_no"])
    named = await connection.fetch(LIST_MISSED, known, seq, found["archive_no"], _MOST_NAMED)
    flows = [UUID(int=row["flow_id"].int) for row in named]
    return SourcePage((), found["archive_no"], found["missed"], flows)


async def _last_archive(connection: Connection) -> int:
    """Return the number of the last archive that is committed, or 0."""
    (last,) = await connection.fetch(FIND_ARCHIVE_NUMBER)
    if not last["archive_no"]:
        return 0
    (row,) = await connection.fetch(FIND_LAST_ARCHIVE)
    number: int = row["archive_no"]
    return number


async def _read_after(connection: Connection, pages: SizedPages, seq: int, limit: int) -> list[Any]:
    """Read the events after a number of which only the size is known."""
    (bounds,) = await connection.fetch(FIND_FEED_BOUNDS)
    if seq > bounds["last_seq"]:
        raise seq_lost(seq, bounds["last_seq"])
    if bounds["seq"] <= seq:
        return []
    arguments = (_page(bounds), seq, bounds["seq"], None)
    found = await pages.read(connection.fetch, arguments, limit)
    return await _filled(connection, pages, found, bounds, limit)


def _page(end: Any) -> str:
    """Return the statement that reads a page, of the log whose end was found."""
    return READ_DISTRIBUTED_FEED_PAGE if end["is_distributed"] else READ_FEED_PAGE


async def _filled(
    connection: Connection, pages: SizedPages, found: list[Any], end: Any, limit: int
) -> list[Any]:
    """Return the rows found with those that follow, until they reach the limit or `PAGE_BYTES`.

    A page ends before the first row that is larger than its share of a page, however few rows it
    has then.
    """
    rows = list(found)
    size = _json_size(rows)
    while found and not pages.is_last and len(rows) < limit and size < PAGE_BYTES:
        arguments = (_page(end), rows[-1]["seq"], end["seq"], None)
        found = await pages.read(connection.fetch, arguments, limit - len(rows))
        size += _json_size(found)
        rows += found
    return rows


def _json_size(rows: Iterable[Any]) -> int:
    return sum(len(row["payload"] or b"") + len(row["metadata"] or b"") for row in rows)


async def _read_following(
    connection: Connection, pages: SizedPages, position: FeedPosition, limit: int
) -> list[Any] | None:
    """Read the events after a position; return None if the position's own event is not there."""
    (end,) = await connection.fetch(FIND_FEED_END)
    if end["seq"] <= position.seq:
        own = await connection.fetch(FIND_POSITION, position.flow_id, position.seq)
        return [] if [row["link"] for row in own] == [position.link] else None
    replaced = False

    async def fetch(count: int, bytes_each: int) -> list[Any]:
        nonlocal replaced
        rows = await connection.fetch(
            _page(end),
            position.seq - 1,
            end["seq"],
            position.seq,
            min(count, _MAX_LIMIT - 1) + 1,
            bytes_each,
        )
        replaced = (
            not rows or rows[0]["seq"] != position.seq or rows[0]["chain_hash"] != position.link
        )
        return rows[1:]

    rows = await pages.read(fetch, (), limit)
    return None if replaced else await _filled(connection, pages, rows, end, limit)


def _named(position: FeedPosition) -> tuple[Any, ...]:
    return position.flow_id, position.seq, position.since


def _state(row: Any, position: FeedPosition) -> PositionState:
    if not position.seq:
        return PositionState.HOLDS
    if row["link"] is None:
        return PositionState.REPLACED if row["is_taken"] else PositionState.GONE
    if row["link"] != position.link:
        return PositionState.REPLACED
    if _window(row, position).digest() != position.digest:
        return PositionState.WINDOW_DIFFERS
    return PositionState.HOLDS


def _window(row: Any, position: FeedPosition) -> FeedWindow:
    links = zip(row["seqs"] or (), row["links"] or (), strict=True)
    return FeedWindow(position.since, links)

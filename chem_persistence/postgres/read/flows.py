"""Reading flows: a long one page by page, with no connection held between pages, or many whole ones at once."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import groupby
from typing import Any, TypeAlias
from uuid import UUID

import anyio

from chem_persistence.domain.events import FlowEvent
from chem_persistence.postgres.connection.held_connection import HeldConnection
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import call
from chem_persistence.postgres.read.rows import flow_events
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import MAX_VERSION, check_flow_id
from chem_persistence.telemetry.hooks import watched_read

__all__ = ["event_pages", "iterate_events", "list_flows", "pages_ahead"]

READ_EVENT_PAGE = statement("events/read_event_page")
READ_EVENTS_OF_FLOWS = statement("events/read_events_of_flows")


PAGE_SIZE = 5_000
"""Events read at a time: as fast as one big read, in a bounded part of the memory."""


async def event_pages(
    provider: ConnectionProvider,
    statement: str,
    flow_id: UUID,
    after_version: int,
    limit: int | None = None,
    *,
    page_size: int | None = None,
) -> AsyncGenerator[tuple[int, list[Any]]]:
    """Give a flow's rows after a version, at most `limit`, in pages, each with the version that it begins with.

    Each page, of `page_size` rows or `PAGE_SIZE`, is a read of its own, up to where the flow ends by then; between two of
    them no connection is held.

    Raises:
        StoreUnavailable, StoreError: a page could not be read.
    """
    first = min(max(after_version + 1, 0), MAX_VERSION)
    full = page_size or PAGE_SIZE
    while limit is None or limit > 0:
        size = full if limit is None else min(full, limit)
        rows = await watched_read(_fetch(provider, statement, flow_id, first - 1, size), flow_id)
        yield first, rows
        if len(rows) < size:
            return
        first += size
        limit = None if limit is None else limit - size


async def iterate_events(
    provider: ConnectionProvider, flow_id: UUID, after_version: int
) -> AsyncGenerator[FlowEvent]:
    """Give a flow's events one by one; see `EventReader.iterate`."""
    async with aclosing(event_pages(provider, READ_EVENT_PAGE, flow_id, after_version)) as pages:
        async for first, rows in pages:
            for event in flow_events(rows, flow_id, first):
                yield event


async def list_flows(
    provider: ConnectionProvider, flow_ids: Iterable[UUID]
) -> dict[UUID, list[FlowEvent]]:
    """Read the events of whole flows in one query; see `EventReader.list_many`."""
    events: dict[UUID, list[FlowEvent]] = {}
    for flow_id in flow_ids:
        check_flow_id(flow_id)
        events[flow_id] = []
    if events:
        rows = await watched_read(_fetch(provider, READ_EVENTS_OF_FLOWS, list(events)))
        for flow_id, own in groupby(rows, key=lambda row: row["flow_id"]):
            events[flow_id] = list(flow_events(own, flow_id, 0))
    return events


async def _fetch(provider: ConnectionProvider, statement: str, *arguments: object) -> list[Any]:
    return await call(provider, lambda connection: connection.fetch(statement, *arguments))


PAGE_SIZE = 1_000
"""Events read at a time. A page of usual ones fits into the socket's buffers, so that the server need not wait for us."""

_Page: TypeAlias = tuple[int, list[Any]]


async def pages_ahead(
    provider: ConnectionProvider,
    statement: str,
    flow_id: UUID,
    after_version: int,
    limit: int | None = None,
) -> AsyncGenerator[_Page]:
    """Give what `event_pages` gives, for who decodes page after page without a pause.

    Of a flow that is longer than a page, pages are read ahead on a connection that is lent until the generator is closed,
    but for 0.1 s at most at a time. Whoever may leave early closes it (`contextlib.aclosing`).

    Raises:
        StoreUnavailable, StoreError: a page could not be read.
    """
    alone = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit)
    rest = None if limit is None else limit - alone
    rows: list[Any] = []
    reading = event_pages(provider, statement, flow_id, after_version, alone, page_size=PAGE_SIZE)
    async with aclosing(reading) as first_page:
        async for first, rows in first_page:
            after_version = first + PAGE_SIZE - 1
            yield first, rows
    if len(rows) < PAGE_SIZE:
        return
    held = HeldConnection(provider)
    pages = event_pages(held, statement, flow_id, after_version, rest, page_size=PAGE_SIZE)
    ready: asyncio.Queue[_Page | Exception | None] = asyncio.Queue(maxsize=1)
    reader = asyncio.create_task(_read(ready, held, pages))
    try:
        while page := await ready.get():
            if isinstance(page, Exception):
                raise page
            yield page
    finally:
        reader.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([reader])


async def _read(
    ready: "asyncio.Queue[_Page | Exception | None]",
    held: HeldConnection,
    pages: AsyncGenerator[_Page],
) -> None:
    """Put the pages, which come over the connection that is held, into the queue; then None, or what went wrong."""
    last: Exception | None = None
    try:
        async with aclosing(pages):
            async for page in pages:
                await ready.put(page)
                if held.is_due:
                    await held.give_back()
    except Exception as error:  # noqa: BLE001  # it is raised where the page is asked for
        last = error
    finally:
        await held.give_back()
    await ready.put(last)

"""Reading a flow while it is decoded: the server is at work on the next page before this one is looked at."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias
from uuid import UUID

import anyio

from chem_persistence.limits import MAX_VERSION
from chem_persistence.ports import ConnectionProvider
from chem_persistence.postgres.held_connection import HeldConnection
from chem_persistence.postgres.session import call
from chem_persistence.telemetry.watched import watched_read

__all__ = ["pages_ahead"]

PAGE_SIZE = 1_000
"""Events read at a time. A page of usual ones fits into the socket's buffers, so that the server need not wait for us."""

_Page: TypeAlias = tuple[int, list[Any]]
_Fetch: TypeAlias = Callable[[ConnectionProvider, int], Awaitable[list[Any]]]


async def pages_ahead(
    provider: ConnectionProvider, statement: str, flow_id: UUID, after_version: int, limit: int | None = None
) -> AsyncGenerator[_Page]:
    """Give what `event_pages` gives, for who decodes page after page without a pause.

    Of a flow that is longer than a page, pages are read ahead on a connection that is lent until the generator is closed,
    but for 0.1 s at most at a time. Whoever may leave early closes it (`contextlib.aclosing`).

    Raises:
        StoreUnavailable, StoreError: a page could not be read.
    """
    first = min(max(after_version + 1, 0), MAX_VERSION)
    end = None if limit is None else first + limit

    async def fetch(lender: ConnectionProvider, first: int) -> list[Any]:
        size = PAGE_SIZE if end is None else min(PAGE_SIZE, end - first)
        if size <= 0:
            return []
        page = call(lender, lambda connection: connection.fetch(statement, flow_id, first - 1, size))
        return await watched_read(page, flow_id)

    rows = await fetch(provider, first)
    if rows:
        yield first, rows
    if len(rows) < PAGE_SIZE:
        return
    ready: asyncio.Queue[_Page | Exception | None] = asyncio.Queue(maxsize=1)
    reader = asyncio.create_task(_read(ready, fetch, provider, first + PAGE_SIZE))
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
    ready: "asyncio.Queue[_Page | Exception | None]", fetch: _Fetch, provider: ConnectionProvider, first: int
) -> None:
    """Put the pages from `first` on into the queue, and then None, or what went wrong."""
    held = HeldConnection(provider)
    last: Exception | None = None
    try:
        while rows := await fetch(held, first):
            await ready.put((first, rows))
            first += PAGE_SIZE
            if len(rows) < PAGE_SIZE:
                break
            if held.is_due:
                await held.give_back()
    except Exception as error:  # noqa: BLE001  # it is raised where the page is asked for
        last = error
    finally:
        await held.give_back()
    await ready.put(last)

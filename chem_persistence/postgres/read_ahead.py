"""Reading a flow while it is decoded: the server is at work on the next page before this one is looked at."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeAlias
from uuid import UUID

import anyio

from chem_persistence.ports import ConnectionProvider
from chem_persistence.postgres.event_pages import event_pages
from chem_persistence.postgres.held_connection import HeldConnection

__all__ = ["pages_ahead"]

PAGE_SIZE = 1_000
"""Events read at a time. A page of usual ones fits into the socket's buffers, so that the server need not wait for us."""

_Page: TypeAlias = tuple[int, list[Any]]


async def pages_ahead(
    provider: ConnectionProvider, statement: str, flow_id: UUID, after_version: int, limit: int | None = None
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
    ready: "asyncio.Queue[_Page | Exception | None]", held: HeldConnection, pages: AsyncGenerator[_Page]
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

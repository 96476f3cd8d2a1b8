"""Reading flows: a long one page by page, with no connection held between pages, or many whole ones at once."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import groupby
from typing import Any
from uuid import UUID

from chem_persistence.argument_checks import check_flow_id
from chem_persistence.domain.events import FlowEvent
from chem_persistence.limits import MAX_VERSION
from chem_persistence.ports import ConnectionProvider
from chem_persistence.postgres.rows import flow_events
from chem_persistence.postgres.session import call
from chem_persistence.postgres.statements import READ_EVENT_PAGE, READ_EVENTS_OF_FLOWS
from chem_persistence.telemetry.watched import watched_read

__all__ = ["event_pages", "iterate_events", "list_flows"]

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


async def list_flows(provider: ConnectionProvider, flow_ids: Iterable[UUID]) -> dict[UUID, list[FlowEvent]]:
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

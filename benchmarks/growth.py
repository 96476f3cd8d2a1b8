"""Reads from a grown log at random positions: a flow, a last event, a page of the feed."""

import random
from urllib.parse import urlsplit
from uuid import UUID

from benchmarks.grown import flow_id_of
from benchmarks.growth_database import events_of
from benchmarks.load import Load, Slice, drive
from chem_persistence import PgEventStore, PoolProvider, build_pool

__all__ = ["FeedPage", "LastEvent", "List"]

_EVENTS = 10
_PAGE = 100


class _Grown:
    """Reads one of the flows that the database was filled with."""

    async def open(self, url: str) -> None:
        self._pool = await build_pool(url)
        self._store = PgEventStore(PoolProvider(self._pool))
        self._flows = events_of(urlsplit(url).path.lstrip("/")) // _EVENTS

    async def run(self, load: Load) -> Slice:
        return await drive([self._call] * load.flows, load)

    async def close(self) -> None:
        await self._store.aclose()
        await self._pool.close()

    async def _call(self) -> int:
        raise NotImplementedError

    def _any_flow(self) -> UUID:
        return flow_id_of(random.randrange(self._flows))  # noqa: S311  # flows, not secrets


class List(_Grown):
    """All events of a flow."""

    async def _call(self) -> int:
        return len(await self._store.list(self._any_flow()))


class LastEvent(_Grown):
    """The last event of a flow whose length is known."""

    async def _call(self) -> int:
        return len(await self._store.list(self._any_flow(), after_version=_EVENTS - 2, limit=1))


class FeedPage(_Grown):
    """A page of a hundred events of all flows, at a random position in the log."""

    async def _call(self) -> int:
        after = random.randrange(self._flows * _EVENTS - _PAGE)  # noqa: S311  # positions, not secrets
        return len(await self._store.read_feed(after_seq=after, limit=_PAGE))

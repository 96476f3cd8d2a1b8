"""Reads from a grown log at random positions: a flow, a last event, a page of the feed."""

import random
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from benchmarks.contestants.load import Load, Slice, drive
from benchmarks.data.grown import flow_id_of
from benchmarks.data.growth_database import events_of
from chem_persistence import PgEventStore, PoolProvider, StepSignal, build_pool

__all__ = ["AppendWithId", "FeedPage", "LastEvent", "List"]

_EVENTS = 10
_PAGE = 100
_A_TIME = 1_000
_SIGNAL = StepSignal(0, "acquire", "more")


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


class AppendWithId(_Grown):
    """An event with an event id, at the end of a flow with a tenth of the log's events."""

    _flow_id = uuid5(NAMESPACE_URL, "a long flow")

    async def open(self, url: str) -> None:
        """Open the store, and fill the long flow unless an earlier round has."""
        await super().open(url)
        last = await self._pool.fetchrow(
            "SELECT version FROM flows WHERE flow_id = $1", self._flow_id
        )
        more = [_SIGNAL] * min(_A_TIME, self._flows)
        for _ in range(0, self._flows if last is None else 0, _A_TIME):
            await self._store.append_kinds(self._flow_id, more)

    async def _call(self) -> int:
        await self._store.append_kind(self._flow_id, _SIGNAL, event_id=uuid4())
        return 1

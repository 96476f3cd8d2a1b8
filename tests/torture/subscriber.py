"""A subscriber that follows the feed through all faults, and must have seen the whole log."""

import asyncio
from contextlib import suppress
from uuid import UUID

import asyncpg

from chem_persistence import ChemPersistenceError, PgEventStore, PoolProvider, build_pool
from tests.torture.checker.findings import Finding, Flaw

__all__ = ["Subscriber"]

READ_LOG = "SELECT seq, event_id FROM event_log ORDER BY seq"
PAUSE_SECONDS = 0.05


class Subscriber:
    """Records events in the order of the feed; the server at `url` may be down for a while."""

    def __init__(self, url: str, open_store: type[PgEventStore] = PgEventStore) -> None:
        self._url, self._open_store = url, open_store
        self._seen: list[tuple[int, UUID]] = []

    async def follow(self) -> None:
        """Follow for ever; after a disconnection, resume after the last event that was seen."""
        while True:
            with suppress(
                ChemPersistenceError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError
            ):
                async with await build_pool(self._url, min_size=0, max_size=1) as pool:
                    async for event in self._open_store(PoolProvider(pool)).follow(
                        after_seq=self._position(), poll_interval=PAUSE_SECONDS / 10
                    ):
                        self._seen.append((event.seq, event.event_id))
            await asyncio.sleep(PAUSE_SECONDS)

    async def compare(self) -> list[Finding]:
        """Read the rest of the feed, and compare with the log; nothing may write meanwhile."""
        async with await build_pool(self._url, max_size=1) as pool:
            store = self._open_store(PoolProvider(pool))
            while events := await store.read_feed(after_seq=self._position()):
                self._seen += [(event.seq, event.event_id) for event in events]
            logged = [(row["seq"], row["event_id"]) for row in await pool.fetch(READ_LOG)]
        if self._seen == logged:
            return []
        missed, extra = set(logged) - set(self._seen), set(self._seen) - set(logged)
        detail = (
            f"{len(missed)} missed, from {min(missed, default=None)}; {len(extra)} not in the log"
        )
        return [Finding(Flaw.FEED, detail)]

    @property
    def seen(self) -> int:
        """Return the number of events."""
        return len(self._seen)

    def _position(self) -> int:
        return self._seen[-1][0] if self._seen else 0

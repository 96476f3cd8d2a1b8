"""A subscriber that follows the feed through all faults, and must have seen the whole log."""

import asyncio
from uuid import UUID

import asyncpg

from chem_persistence import (
    ChemPersistenceError,
    FeedPosition,
    HistoryLost,
    PgEventStore,
    PoolProvider,
    build_pool,
)
from tests.torture.checker.findings import Finding, Flaw

__all__ = ["Subscriber"]

READ_LOG = "SELECT seq, event_id FROM event_log ORDER BY seq"
PAUSE_SECONDS = 0.05


class Subscriber:
    """Sees events in the order in which the feed gives them; `url` may be away for a while.

    Nothing of the log is lost under any fault, so that `HistoryLost` is a finding.
    """

    def __init__(self, url: str, open_store: type[PgEventStore] = PgEventStore) -> None:
        self._url, self._open_store = url, open_store
        self._seen: list[tuple[int, UUID]] = []
        self._position = FeedPosition.start()
        self._alarms: list[Finding] = []

    async def follow(self) -> None:
        """Follow for ever; who is cut off begins again after the last event that he has seen."""
        while True:
            try:
                async with await build_pool(self._url, min_size=0, max_size=1) as pool:
                    following = self._open_store(PoolProvider(pool)).follow_with_positions(
                        after_seq=self._position, poll_interval=PAUSE_SECONDS / 10
                    )
                    async for event, position in following:
                        self._seen.append((event.seq, event.event_id))
                        self._position = position
            except HistoryLost as error:
                self._alarms.append(Finding(Flaw.FEED, str(error)))
            except (
                ChemPersistenceError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                OSError,
            ):
                pass
            await asyncio.sleep(PAUSE_SECONDS)

    async def compare(self) -> list[Finding]:
        """Read the rest of the feed, and compare with the log; nothing may write meanwhile."""
        async with await build_pool(self._url, max_size=1) as pool:
            store = self._open_store(PoolProvider(pool))
            while events := await store.read_feed(after_seq=self._last_seq()):
                self._seen += [(event.seq, event.event_id) for event in events]
            if await store.newest_that_holds([self._position]) is None:
                self._alarms.append(Finding(Flaw.FEED, "the last position does not hold"))
            logged = [(row["seq"], row["event_id"]) for row in await pool.fetch(READ_LOG)]
        if self._seen == logged:
            return self._alarms
        missed, extra = set(logged) - set(self._seen), set(self._seen) - set(logged)
        detail = (
            f"{len(missed)} missed, from {min(missed, default=None)}; {len(extra)} not in the log"
        )
        return [*self._alarms, Finding(Flaw.FEED, detail)]

    @property
    def seen(self) -> int:
        """Return the number of events."""
        return len(self._seen)

    def _last_seq(self) -> int:
        return self._seen[-1][0] if self._seen else 0

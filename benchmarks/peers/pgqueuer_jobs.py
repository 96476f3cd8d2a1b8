"""pgqueuer: a job enqueued."""

import asyncpg
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.queries import Queries

from benchmarks.contestants.load import Load, Slice, drive
from benchmarks.data.history import ROWS_OF_TEN

__all__ = ["Batched", "Single"]

_PAYLOAD = ROWS_OF_TEN[2][1].encode()


class Single:
    """One job per `enqueue`, on asyncpg's default pool."""

    async def open(self, url: str) -> None:
        """Create its tables."""
        self._pool = await asyncpg.create_pool(url)
        self._queries = Queries(AsyncpgPoolDriver(self._pool))
        await self._queries.install()

    async def run(self, load: Load) -> Slice:
        """Run a slice."""

        async def append() -> int:
            await self._queries.enqueue("step", _PAYLOAD)
            return 1

        return await drive([append] * load.flows, load)

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.close()


class Batched(Single):
    """One `enqueue` for all flows, with one job of each."""

    async def run(self, load: Load) -> Slice:
        """Run a slice with one caller that acts for all flows."""
        size = load.flows

        async def append() -> int:
            await self._queries.enqueue(["step"] * size, [_PAYLOAD] * size, [0] * size)
            return size

        return await drive([append], load)

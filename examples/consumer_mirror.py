"""A copy of the log's events in another database, each of them once: a mirror by a consumer.

    python examples/consumer_mirror.py

No transaction covers two databases. So the mirror keeps in the other database how far each flow has
come, and moves that in the transaction that stores the events: what is delivered again after a
failure between the two commits is there already, and is skipped. The position is kept by flow,
since the events of a flow that was parked come later than those of others. The log is on the server
that DATABASE_URL names, else on an embedded one; the mirror is a second database of that server.
"""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import asyncpg
import msgspec
from database import open_server

from chem_persistence import (
    FlowEvent,
    PgEventStore,
    PgTransaction,
    PoolProvider,
    StepSignal,
    build_pool,
)

MIRROR = "chem_mirror"
CREATE = """
    CREATE TABLE positions (flow_id uuid PRIMARY KEY, version integer);
    CREATE TABLE events (flow_id uuid, version integer, event_id uuid, fact jsonb)
"""
MOVE = """
    INSERT INTO positions AS own VALUES ($1, $2)
    ON CONFLICT (flow_id) DO UPDATE SET version = excluded.version
        WHERE own.version < excluded.version
    RETURNING version
"""
INSERT = "INSERT INTO events VALUES ($1, $2, $3, $4)"
SUMMARY = "SELECT count(*) AS events, count(DISTINCT (flow_id, version)) AS versions FROM events"


class Mirror:
    """The handler of the consumer; `failures` is how often it fails after the mirror's commit."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", failures: int) -> None:
        self._pool = pool
        self._failures = failures
        self.skipped = 0

    async def copy(self, events: Sequence[FlowEvent], _: PgTransaction) -> None:
        """Store the events that the mirror does not have yet, and how far their flows have come."""
        async with self._pool.acquire() as target, target.transaction():
            for event in events:
                if await target.fetchval(MOVE, event.flow_id, event.version) is None:
                    self.skipped += 1
                    continue
                fact = msgspec.json.encode(event.kind).decode()
                await target.execute(INSERT, event.flow_id, event.version, event.event_id, fact)
        if self._failures:
            self._failures -= 1
            raise ConnectionResetError("lost after the commit of the mirror")


async def create_mirror(url: str) -> None:
    """Create the other database anew."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"DROP DATABASE IF EXISTS {MIRROR}")
    await connection.execute(f"CREATE DATABASE {MIRROR} TEMPLATE template0 ENCODING 'UTF8'")
    await connection.close()


async def main() -> None:
    """Append to the log, mirror it with failures, and compare."""
    async with open_server() as url:
        await create_mirror(url)
        async with (
            await build_pool(url) as pool,
            asyncpg.create_pool(url, database=MIRROR, min_size=0) as other,
        ):
            await other.execute(CREATE)
            store = PgEventStore(PoolProvider(pool))
            flow_ids = [uuid4() for _ in range(20)]
            for number in range(10):
                for flow_id in flow_ids:
                    await store.append_kind(flow_id, StepSignal(0, "scan", "progress", number))

            mirror = Mirror(other, failures=3)
            consumer = store.consumer("mirror", parts=8)
            await asyncio.gather(*(consumer.run_to_end(mirror.copy, page=25) for _ in range(3)))
            row = await other.fetchrow(SUMMARY)
            assert row is not None  # noqa: S101  # an aggregate returns one row
            print(f"the mirror has {row['events']} events, {row['versions']} of them different")
            print("some were delivered again, and skipped:", mirror.skipped > 0)
            print("lag", (await consumer.status()).lag)
            await consumer.remove()  # the mirror is made anew the next time
            await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# the mirror has 200 events, 200 of them different
# some were delivered again, and skipped: True
# lag 0

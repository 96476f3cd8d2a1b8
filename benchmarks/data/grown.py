"""Databases of a given size: flows of ten, written on the server, as valid as appended ones."""

import asyncio
import hashlib
import time
from uuid import UUID, uuid4

import asyncpg

from benchmarks.data.history import FLOW_OF_TEN, OUTPUTS_OF_TEN
from benchmarks.data.statements import read_sql
from chem_persistence import PgEventStore, PoolProvider, StepFinished, build_pool, canonical_json

__all__ = ["flow_id_of", "grow"]

_FLOWS_A_STATEMENT = 10_000
_CONNECTIONS = 2


def flow_id_of(number: int) -> UUID:
    """Return the id of a flow of `grow_events.sql`; the numbers start at 0."""
    return UUID(hashlib.md5(f"flow {number}".encode(), usedforsecurity=False).hexdigest())


async def grow(url: str, events: int) -> float:
    """Create the tables and write `events` events in flows of ten; return the seconds it took."""
    begun = time.perf_counter()
    async with await build_pool(url, max_size=_CONNECTIONS) as pool:
        store = PgEventStore(PoolProvider(pool))
        await store.append_kinds(uuid4(), FLOW_OF_TEN, artifacts=OUTPUTS_OF_TEN, expected_version=0)
        await store.aclose()
        await pool.execute(read_sql("chain_aggregate"))
        flows = range(0, events // 10, _FLOWS_A_STATEMENT)
        parts = iter(
            [(first, min(first + _FLOWS_A_STATEMENT, events // 10) - 1) for first in flows]
        )

        async def write_parts() -> None:
            async with pool.acquire() as connection:
                for first, last in parts:  # shared: each connection takes the next part
                    await _write(connection, first, last)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_CONNECTIONS):
                tasks.create_task(write_parts())
        await pool.execute("VACUUM ANALYZE", timeout=None)
        await pool.execute("CHECKPOINT", timeout=None)
    return time.perf_counter() - begun


async def _write(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", first: int, last: int
) -> None:
    types = [type(kind).__name__.lower() for kind in FLOW_OF_TEN]
    payloads = [canonical_json(kind).decode() for kind in FLOW_OF_TEN]
    finished = [kind for kind in FLOW_OF_TEN if isinstance(kind, StepFinished)]
    ids, fingerprints = [kind.step_id for kind in finished], [kind.fingerprint for kind in finished]
    async with connection.transaction():
        await connection.execute(read_sql("grow_events"), first, last, types, payloads)
        await connection.execute(read_sql("grow_executions"), first, last, ids, fingerprints)

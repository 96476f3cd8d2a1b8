"""Write a grown log on the server: rows as valid as appended ones.

The indexes that no constraint needs are dropped first, and made again at the end.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from benchmarks.data.statements import read_sql
from benchmarks.grown_log.shapes import (
    CHILD,
    DEFINITIONS,
    GATHERED,
    RARE,
    SHAPES,
    WEIGHTS,
)
from chem_persistence import FlowCompleted, FlowInitialized, PgEventStore, PoolProvider, build_pool
from chem_persistence.domain.definition import definition_artifacts
from chem_persistence.store.leasing.children import child_id

__all__ = ["build", "flow_id_of"]

_PART = 10_000
_CONNECTIONS = 2
_BLOCK = sum(WEIGHTS)
_CHILDREN_OF_BLOCK = 100
_FIRST_GATHERED, _CHILDREN_OF_GATHERED = 5_000, 10_000
_RARE = 20
_DAYS = 30

_SHAPE_OF = [shape for shape, weight in enumerate(WEIGHTS) for _ in range(weight)]
"""The shape of each flow of a block; those after the children of its map are mixed."""
_MIXED = _SHAPE_OF[: _CHILDREN_OF_BLOCK + 1] + [
    _SHAPE_OF[_CHILDREN_OF_BLOCK + 1 + (place * 361) % (_BLOCK - _CHILDREN_OF_BLOCK - 1)]
    for place in range(_BLOCK - _CHILDREN_OF_BLOCK - 1)
]


def flow_id_of(number: int) -> UUID:
    """Return the id of a flow that is not a child, as the version 7 of RFC 9562 is built."""
    return UUID(int=((number << 80) + (7 << 76) + (2 << 62) + number * 2654435761 % 2**61))


async def build(url: str, flows: int) -> float:
    """Create the tables and write `flows` flows of about ten events; return the seconds it took."""
    begun = time.perf_counter()
    async with await build_pool(url, max_size=1) as pool:
        await _store_definitions(pool)
    async with asyncpg.create_pool(url, min_size=1, max_size=_CONNECTIONS) as pool:
        await pool.execute("ALTER SYSTEM SET max_wal_size = '8GB'")
        await pool.execute("SELECT pg_reload_conf()")
        dropped = await _drop_indexes(pool)
        await pool.execute(read_sql("chain_aggregate"))
        await pool.execute(read_sql("grown_log/tables"))
        await _write_plan(pool, flows)
        parts = iter(range(0, flows, _PART))

        async def write_parts() -> None:
            async with pool.acquire() as connection:
                for first in parts:  # shared: each connection takes the next part
                    await _write(connection, first, first + _PART - 1)

        await asyncio.gather(*(write_parts() for _ in range(_CONNECTIONS)))
        print(f"{time.perf_counter() - begun:.0f} s: rows are written", flush=True)
        indexes = iter(dropped)

        async def make_indexes() -> None:
            async with pool.acquire() as connection:
                await connection.execute("SET maintenance_work_mem = '1GB'")
                for statement in indexes:
                    await connection.execute(statement, timeout=None)

        await asyncio.gather(*(make_indexes() for _ in range(_CONNECTIONS)))
        print(f"{time.perf_counter() - begun:.0f} s: indexes are made", flush=True)
        await pool.execute("SELECT add_flow_runs(1000000000)", timeout=None)
        await pool.execute(
            "DROP TABLE grown_event, grown_step, grown_flow; "
            "DROP AGGREGATE chain(text); DROP FUNCTION next_link; DROP FUNCTION filled; "
            "DROP FUNCTION grown_input; DROP FUNCTION grown_output; DROP FUNCTION grown_event_id"
        )
        await pool.execute("ALTER SYSTEM RESET max_wal_size")
        await pool.execute("SELECT pg_reload_conf()")
        await pool.execute("VACUUM ANALYZE", timeout=None)
        await pool.execute("CHECKPOINT", timeout=None)
    return time.perf_counter() - begun


async def _store_definitions(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    store = PgEventStore(PoolProvider(pool))
    for definition in DEFINITIONS:
        begun = FlowInitialized(definition.definition_hash, len(definition.steps))
        artifacts = definition_artifacts(definition)
        flow_id = uuid4()
        await store.append_kind(flow_id, begun, artifacts=artifacts)
        await store.append_kind(flow_id, FlowCompleted("0" * 64))
    await store.aclose()


async def _drop_indexes(pool: "asyncpg.Pool[asyncpg.Record]") -> list[str]:
    rows = await pool.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition "
        "FROM pg_index WHERE indrelid IN ('event_log'::regclass, "
        "'workflow_step_artifacts'::regclass) AND NOT indisunique"
    )
    for row in rows:
        await pool.execute(f"DROP INDEX {row['name']}")
    return [row["definition"] for row in rows]


async def _write_plan(pool: "asyncpg.Pool[asyncpg.Record]", flows: int) -> None:
    events = [
        (number, version, *event)
        for number, shape in enumerate(SHAPES)
        for version, event in enumerate(shape.events)
    ]
    steps = [(number, *step) for number, shape in enumerate(SHAPES) for step in shape.steps]
    async with pool.acquire() as connection:
        await connection.copy_records_to_table("grown_event", records=events)
        await connection.copy_records_to_table("grown_step", records=steps)
        records = _flows(flows)
        while part := list(itertools.islice(records, _PART)):
            await connection.copy_records_to_table("grown_flow", records=part)
        await connection.execute("CREATE INDEX ON grown_flow (number)")
        await connection.execute("ANALYZE grown_flow, grown_event, grown_step")


def _flows(flows: int) -> Iterator[tuple[Any, ...]]:
    """Yield the flows: number, id, shape, parent, item and time."""
    begun = datetime.now(UTC) - timedelta(days=_DAYS)
    between = timedelta(days=_DAYS) / flows
    gathered = range(_FIRST_GATHERED + 1, _FIRST_GATHERED + 1 + _CHILDREN_OF_GATHERED)
    for number in range(flows):
        place = number % _BLOCK
        shape, parent, item = _MIXED[place], None, 0
        if number in gathered:
            parent, item, shape = _FIRST_GATHERED, number - gathered.start, CHILD
        elif number == _FIRST_GATHERED:
            shape = GATHERED
        elif 0 < place <= _CHILDREN_OF_BLOCK:
            parent, item = number - place, place - 1
        elif _CHILDREN_OF_BLOCK < number <= _CHILDREN_OF_BLOCK + _RARE:
            shape = RARE
        parent_id = None if parent is None else flow_id_of(parent)
        flow_id = flow_id_of(number) if parent_id is None else child_id(parent_id, 1, item)
        named = None if parent_id is None else str(parent_id)
        yield number, flow_id, shape, named, item, begun + number * between


async def _write(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", first: int, last: int
) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = off; SET LOCAL work_mem = '128MB'")
        for name in ("events", "steps", "artifacts"):
            await connection.execute(read_sql(f"grown_log/{name}"), first, last, timeout=None)

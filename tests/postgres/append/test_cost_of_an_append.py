"""What an append costs, counted and not timed, so that a busy machine does not change it.

The server counts with pg_stat_statements (PostgreSQL manual, appendix F): calls, rows, buffers and
WAL bytes of the one statement that appends. The proxy counts round trips.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from chem_persistence import (
    Artifact,
    FlowClient,
    FlowEventKind,
    FlowInitialized,
    InMemoryFlowRepository,
    PgEventStore,
    PoolProvider,
    ResultOrigin,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    build_pool,
    embedded_postgres,
)
from chem_persistence.domain.definition import definition_artifacts
from tests.support.faults.proxy import Fault, Message, Strike, proxied
from tests.support.flows.flows import new_flow_id
from tests.support.flows.messages import ends_a_statement, sends_an_append
from tests.support.flows.values import Molecule, energy_flow

pytestmark = pytest.mark.slow

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

COUNTERS = """
    SELECT coalesce(sum(calls), 0)::integer AS calls, coalesce(sum(rows), 0)::integer AS rows,
        coalesce(sum(shared_blks_hit + shared_blks_read), 0)::integer AS buffers,
        coalesce(sum(wal_bytes - wal_fpi * 8192), 0)::integer AS wal_bytes
    FROM public.pg_stat_statements
    WHERE toplevel AND (query LIKE '%append_rows(%' OR query LIKE '%append_one(%')
"""


class Cost(msgspec.Struct, frozen=True):
    """The cost of appends, each figure per event."""

    calls: float
    rows: float
    buffers: float
    wal_bytes: float


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def counting_url() -> AsyncIterator[str]:
    """Yield the URL of a server that counts."""
    with tempfile.TemporaryDirectory(prefix="counting-") as path:
        directory = Path(path) / "server"
        async with embedded_postgres(directory) as url:
            connection = await asyncpg.connect(url)
            await connection.execute(
                "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'"
            )
            await connection.execute("ALTER SYSTEM SET autovacuum = off")
            await connection.execute(
                "ALTER SYSTEM SET full_page_writes = off"
            )  # they depend on the time, not on the appends
            await connection.close()
        async with embedded_postgres(directory) as url:
            connection = await asyncpg.connect(url)
            await connection.execute("CREATE EXTENSION pg_stat_statements")
            await connection.close()
            yield url


@pytest.fixture
async def counted(counting_url: str) -> AsyncIterator[Pool]:
    """Yield a pool of one connection to a new database, since indexes of a larger log are deeper.

    Warming the caches of one connection warms those of all.
    """
    parts, name = urlsplit(counting_url), f"counted_{uuid4().hex}"
    server = await asyncpg.connect(counting_url)
    await server.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
    await server.close()
    async with await build_pool(urlunsplit(parts._replace(path=f"/{name}")), max_size=1) as pool:
        await pool.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        yield pool


async def cost_of(pool: Pool, flows: int, events: list[FlowEventKind], *, size: int = 0) -> Cost:
    """Append the events one by one to this many flows at once, after some that warm the caches."""
    store = PgEventStore(PoolProvider(pool))
    await one_flow(store, ONE_OF_EACH, 0)
    await asyncio.gather(*(one_flow(store, events, size) for _ in range(flows)))
    await pool.execute("SELECT public.pg_stat_statements_reset()")
    await asyncio.gather(*(one_flow(store, events, size) for _ in range(flows)))
    row = await pool.fetchrow(COUNTERS)
    await store.aclose()
    assert row is not None
    number = flows * len(events)
    return Cost(*(row[counter] / number for counter in Cost.__struct_fields__))


async def one_flow(store: PgEventStore, events: list[FlowEventKind], size: int) -> UUID:
    flow_id = new_flow_id()
    for version, event in enumerate(events):
        artifacts = []
        if size:
            payload = {"flow": str(flow_id), "version": version, "text": "x" * size}
            artifacts.append(Artifact.from_payload(kind="Table", payload=payload))
        await store.append_kind(flow_id, event, artifacts=artifacts, expected_version=version)
    return flow_id


ONE_OF_EACH: list[FlowEventKind] = [
    FlowInitialized("d" * 64, 1, due=datetime(2026, 1, 1, tzinfo=UTC)),
    StepStarted(0, "acquire"),
    StepFailed(0, "acquire", StepError("ValueError", "no"), "f" * 64),
    StepFinished(0, "acquire", ("a" * 64, "b" * 64), "f" * 64),
    StepFinished(0, "acquire", ("a" * 64,), "f" * 64, ResultOrigin(new_flow_id(), 1)),
    StepWaits(0, "acquire", None),
]
"""An entry for every index, because the planner looks up an empty index at each call."""


def signals(count: int) -> list[FlowEventKind]:
    return [StepSignal(0, "acquire", "said", {"n": number}) for number in range(count)]


def steps(count: int) -> list[FlowEventKind]:
    return [
        kind
        for index in range(count // 2)
        for kind in (
            StepStarted(index, f"s{index}"),
            StepFinished(index, f"s{index}", ("a" * 64,), "f" * 64),
        )
    ]


async def test_one_append_at_a_time_is_one_statement_each(counted: Pool) -> None:
    cost = await cost_of(counted, 1, signals(200))
    assert cost.calls == 1
    assert cost.rows == 1


async def test_a_signal_costs_so_many_buffers_and_bytes_of_wal(counted: Pool) -> None:
    cost = await cost_of(counted, 1, signals(200))
    assert cost.buffers <= 15.8  # one of them to see that no worker has to be called
    assert cost.wal_bytes <= 632


async def test_a_step_costs_its_row_besides(counted: Pool) -> None:
    cost = await cost_of(counted, 1, steps(200))
    assert cost.calls == 1
    assert cost.buffers <= 19.6
    assert cost.wal_bytes <= 960


async def test_the_end_of_a_step_finds_room_beside_its_start(counted: Pool) -> None:
    """The update of a step's row needs no entry in the index, or it would be twice the bytes."""
    store = PgEventStore(PoolProvider(counted))
    await asyncio.gather(*(one_flow(store, steps(20), 0) for _ in range(100)))
    await store.aclose()
    await counted.execute("SELECT pg_stat_force_next_flush()")
    row = await counted.fetchrow(
        "SELECT n_tup_upd AS updates, n_tup_hot_upd AS within_their_page FROM pg_stat_user_tables "
        "WHERE relname = 'workflow_step_executions'"
    )
    assert row is not None
    assert row["updates"] == 1_000
    assert row["within_their_page"] >= 700


async def test_an_artifact_costs_its_bytes_and_little_more(counted: Pool) -> None:
    cost = await cost_of(counted, 1, signals(100), size=1_000)
    assert cost.calls == 1
    assert cost.buffers <= 33  # two of them for the index by flow
    assert cost.wal_bytes <= 2_330


async def test_flows_at_once_share_statements_and_commits(counted: Pool) -> None:
    cost = await cost_of(counted, 100, signals(20))
    assert cost.calls <= 1 / 10
    assert cost.buffers <= 13.7
    assert cost.wal_bytes <= 616


async def test_a_definition_costs_its_bytes_once_and_then_nothing(counted: Pool) -> None:
    """A flow after the first one costs what it costs if its definition is never sent."""
    store = PgEventStore(PoolProvider(counted))
    await one_flow(store, ONE_OF_EACH, 0)
    client = FlowClient(store, InMemoryFlowRepository(store))
    energy = energy_flow()
    inputs = iter(Molecule(f"C{number:06}") for number in range(400))

    async def submit(count: int) -> Cost:
        await counted.execute("SELECT public.pg_stat_statements_reset()")
        for _ in range(count):
            await client.submit(energy, next(inputs))
        row = await counted.fetchrow(COUNTERS)
        assert row is not None
        return Cost(*(row[counter] / count for counter in Cost.__struct_fields__))

    async def cheapest() -> Cost:
        """Return the least of each cost of some submissions, few of which split a page."""
        costs = [await submit(10) for _ in range(10)]
        fields = Cost.__struct_fields__
        return Cost(*(min(getattr(cost, field) for cost in costs) for field in fields))

    store.seen_definitions = frozenset({energy.definition_hash})
    await submit(100)  # warms the caches
    never_sent = await cheapest()
    store.seen_definitions = set()
    with_definition = await submit(1)
    afterwards = await cheapest()
    await store.aclose()
    sizes = [len(artifact.encoded()) for artifact in definition_artifacts(energy.definition)]
    assert with_definition.calls == afterwards.calls == never_sent.calls == 1
    assert with_definition.wal_bytes >= never_sent.wal_bytes + sum(sizes)
    assert afterwards.wal_bytes <= 1.1 * never_sent.wal_bytes
    assert afterwards.buffers <= 1.1 * never_sent.buffers


async def test_an_index_more_is_seen(counting_url: str) -> None:
    async with await build_pool(counting_url, max_size=1, schema="indexed") as pool:
        before = await cost_of(pool, 1, signals(200))
        await pool.execute("CREATE UNIQUE INDEX ON event_log (event_id)")
        after = await cost_of(pool, 1, signals(200))
    assert after.buffers >= before.buffers + 1


async def test_an_append_is_one_round_trip(counting_url: str) -> None:
    asked = appended = 0

    def count(message: Message) -> bool:
        nonlocal asked, appended
        asked += ends_a_statement(message) or (message.from_client and message.type == "Q")
        appended += sends_an_append(message)
        return False

    async with proxied(counting_url) as proxy, await build_pool(proxy.url, max_size=2) as pool:
        store = PgEventStore(PoolProvider(pool))
        await one_flow(store, signals(10), 0)
        proxy.arm(Fault(Strike.STALL, count))
        await one_flow(store, signals(100), 0)
        await store.aclose()
    assert appended == 100
    assert asked <= 150  # with the pool's resets, one each 0.1 s, which depend on the time

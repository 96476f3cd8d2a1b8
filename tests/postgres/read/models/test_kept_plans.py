"""A page of a flow or of the feed is planned once per connection, whatever the statistics are."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from uuid_utils.compat import uuid7

from chem_persistence import FlowEventKind, PgEventStore, PoolProvider, StepSignal, build_pool
from chem_persistence.postgres.schema.statements import statement
from tests.support.flows.flows import initialized
from tests.support.servers.server import TestServer

READ_EVENT_PAGE = statement("events/read_event_page")
READ_FACT_PAGE = statement("events/read_fact_page")
READ_FEED_PAGE = statement("feed/read_feed_page")
READ_FLOW_EVENTS = statement("events/read_flow_events")


Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

CALLS = 20

CUSTOM_AT_FIRST = 5
"""Calls that PostgreSQL plans before it compares (manual, PREPARE, "Notes")."""

COUNT_PLANS = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1"


class Log(msgspec.Struct, frozen=True):
    """The lengths of some flows; the first one is read."""

    flow_ids: Sequence[UUID]
    lengths: Sequence[int]


LOGS = {
    "random ids": Log([uuid4() for _ in range(50)], [200] * 50),
    "ids in the order of time": Log([uuid7() for _ in range(50)], [200] * 50),
    "small flows and a long one": Log([uuid4() for _ in range(21)], [10] * 20 + [20_000]),
}
"""Lengths for which a last event is cheap, and a page of unknown size may look expensive."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LOGS)
async def log_and_url(
    request: pytest.FixtureRequest, server: TestServer
) -> AsyncIterator[tuple[Log, str]]:
    log = LOGS[request.param]
    async with server.database() as url:
        async with await build_pool(url, max_size=2) as pool:
            store = PgEventStore(PoolProvider(pool))
            flows = zip(log.flow_ids, log.lengths, strict=True)
            await asyncio.gather(
                *(store.append_kinds(flow_id, kinds(length)) for flow_id, length in flows)
            )
            await store.aclose()
            await pool.execute("VACUUM ANALYZE")
        yield log, url


@pytest.fixture
def log(log_and_url: tuple[Log, str]) -> Log:
    return log_and_url[0]


@pytest.fixture
async def pool(log_and_url: tuple[Log, str]) -> AsyncIterator[Pool]:
    async with await build_pool(log_and_url[1], max_size=1) as pool:
        yield pool


def kinds(length: int) -> list[FlowEventKind]:
    return [initialized(), *(StepSignal(0, "acquire", "progress", {}) for _ in range(length - 1))]


BYTES_EACH = {READ_EVENT_PAGE: (2**20,), READ_FACT_PAGE: (2**20,)}
"""The last parameter of the pages that are bounded by bytes."""

every_page = pytest.mark.parametrize(
    "page", [READ_EVENT_PAGE, READ_FACT_PAGE, READ_FLOW_EVENTS], ids=["events", "facts", "rows"]
)


@every_page
async def test_the_plan_for_a_last_event_is_kept(pool: Pool, log: Log, page: str) -> None:
    for _ in range(CALLS):
        more = BYTES_EACH.get(page, ())  # these pages begin with the event before the last one
        place = (log.lengths[0] - 1, 2) if more else (log.lengths[0] - 2, 1)
        assert len(await pool.fetch(page, log.flow_ids[0], *place, *more)) == place[1]
    (count,) = await pool.fetch(COUNT_PLANS, page)
    assert dict(count) == {
        "generic_plans": CALLS - CUSTOM_AT_FIRST,
        "custom_plans": CUSTOM_AT_FIRST,
    }


@every_page
async def test_the_kept_plan_walks_the_flow_in_order(pool: Pool, log: Log, page: str) -> None:
    async with pool.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        more = page in BYTES_EACH
        types = "uuid, integer, bigint" + ", bigint" * more
        await connection.execute(f"PREPARE page ({types}) AS {page}")
        found = await connection.fetchval(
            f"EXPLAIN (FORMAT JSON) EXECUTE page ('{log.flow_ids[0]}', 8, 1{', 1000' * more})"
        )
        await connection.execute("DEALLOCATE page")
    plan: dict[str, Any] = json.loads(found)[0]["Plan"]
    if more:
        assert plan["Node Type"] == "Subquery Scan"
        (plan,) = (node for node in plan["Plans"] if node["Parent Relationship"] == "Subquery")
    (scan,) = (node for node in plan["Plans"] if node["Parent Relationship"] == "Outer")
    assert (plan["Node Type"], scan["Node Type"]) == ("Limit", "Index Scan")
    assert scan["Index Name"] == "event_log_flow_version_key"
    assert "(version >" in scan["Index Cond"]


async def test_the_plan_for_a_page_of_the_feed_is_kept(pool: Pool, log: Log) -> None:
    for call in range(CALLS):
        rows = await pool.fetch(READ_FEED_PAGE, 7 * call, sum(log.lengths), None, 101, 2**20)
        assert [row["seq"] for row in rows] == list(range(7 * call + 1, 7 * call + 102))
    (count,) = await pool.fetch(COUNT_PLANS, READ_FEED_PAGE)
    assert dict(count) == {
        "generic_plans": CALLS - CUSTOM_AT_FIRST,
        "custom_plans": CUSTOM_AT_FIRST,
    }
    await check_walk(pool)


async def test_the_plan_for_a_page_of_an_empty_feed_is_that_of_a_large_one(admin_url: str) -> None:
    """A follower keeps it while the log grows."""
    async with await build_pool(admin_url, max_size=1) as empty:
        await check_walk(empty)


async def check_walk(pool: Pool) -> None:
    """Check that the kept plan of a page of the feed walks the index of `seq`."""
    async with pool.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(
            f"PREPARE feed (bigint, bigint, bigint, bigint, bigint) AS {READ_FEED_PAGE}"
        )
        found = await connection.fetchval(
            "EXPLAIN (FORMAT JSON) EXECUTE feed (100, 900, NULL, 101, 1000)"
        )
        await connection.execute("DEALLOCATE feed")
    nodes, (plan,) = [], [json.loads(found)[0]["Plan"]]
    while True:
        nodes.append((plan["Node Type"], plan.get("Index Name")))
        inner = [each for each in plan.get("Plans", ()) if each["Node Type"] != "Result"]
        if not inner:
            break
        (plan,) = inner
    assert nodes == [
        ("Subquery Scan", None),
        ("Limit", None),
        ("Index Scan", "event_log_seq_idx"),
    ]

"""A crash of the coordinator of a Citus cluster, after which its sequence is behind the workers.

A file of its own, run by itself: the crash ends the sessions of every test on the cluster.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from chem_persistence import FlowEvent, PgEventStore, PoolProvider, build_pool, verify_log
from chem_persistence.postgres.admin.distribute import distribute_log
from chem_persistence.postgres.admin.doctor.examination import examine
from chem_persistence.postgres.admin.doctor.result import Severity
from chem_persistence.postgres.admin.roles import create_roles
from chem_persistence.postgres.connection.pool import open_pool
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.large_artifacts import SAID
from tests.support.servers.citus import DATABASES, worker_urls
from tests.support.servers.server import TEMPLATE, TestServer

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

pytestmark = pytest.mark.citus

COPY_EVENT = """
    INSERT INTO {shard} (seq, flow_id, version, event_id, ts, event_type, payload, metadata,
        chain_hash)
    SELECT {seq}, flow_id, version + 1, gen_random_uuid(), ts, event_type, payload, metadata,
        chain_hash
    FROM {shard}
"""
EARLIER = """
    DROP SEQUENCE event_log_seq_checks;
    DROP FUNCTION check_seq();
    DROP FUNCTION find_last_seq()
"""
FIND_WAL_WRITER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
FLUSHED = "SELECT pg_current_wal_flush_lsn()::text"
FORGET_CHECK = "ALTER SEQUENCE event_log_seq_checks RESTART"
LAST_NUMBER = "SELECT pg_sequence_last_value('event_log_seq_seq')"
RECORD_COMMIT = """
    INSERT INTO pg_dist_transaction (groupid, gid)
    SELECT groupid, $1 FROM pg_dist_node WHERE groupid > 0
"""
SHARDS = "SELECT relname AS shard FROM pg_class WHERE relname ~ '^event_log_[0-9]+$'"
SLEEPERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE wait_event = 'PgSleep' AND datname = current_database()
"""
NUMBERS = 100
"""More than twice the 32 numbers of one record of the write-ahead log."""


@pytest.fixture
async def own_url(server: TestServer) -> str:
    """Return the URL of a distributed database that no other test gets."""
    return server.database_url(await DATABASES.copy(server.url, TEMPLATE))


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        connection.terminate()


@asynccontextmanager
async def store_on(url: str) -> AsyncIterator[PgEventStore]:
    async with await build_pool(url) as pool:
        store = PgEventStore(PoolProvider(pool))
        yield store
        await store.aclose()


async def findings_of(url: str) -> list[str]:
    """Return what doctor and verify find that is not well; roles are the server's, and left out."""
    async with await open_pool(url, max_size=1) as pool:
        results = await examine(PoolProvider(pool), "public")
        verified = await verify_log(PoolProvider(pool))
    sound = {Severity.OK, Severity.NOTE}
    return [
        f"{result.finding}: {result.remedy}"
        for result in results
        if result.severity not in sound and result.check != "rights"
    ] + [str(finding) for finding in verified.findings]


async def until(connection: Connection, query: str, expected: int) -> None:
    async with asyncio.timeout(60):
        while await connection.fetchval(query) != expected:
            await asyncio.sleep(0.01)


async def append_unflushed(url: str) -> list[FlowEvent]:
    """Append while the coordinator writes nothing of its log to disk; end in its crash.

    The process that flushes the log is stopped, and then killed, from which the server recovers;
    these commits do not wait for it. Should another program's commit flush, more is appended.
    """
    async with session(url) as administrator, store_on(without_flush(url)) as store:
        await store.append_kind(new_flow_id(), initialized())
        process = await administrator.fetchval(FIND_WAL_WRITER)
        await administrator.execute(f"COPY (SELECT WHERE false) TO PROGRAM 'kill -STOP {process}'")
        try:
            before, flushed = None, await administrator.fetchval(FLUSHED)
            while flushed != before:
                for _ in range(NUMBERS):
                    await store.append_kind(new_flow_id(), initialized())
                before, flushed = flushed, await administrator.fetchval(FLUSHED)
            events = await store.read_feed(limit=10_000)
        finally:
            with suppress(asyncpg.PostgresConnectionError):
                await administrator.execute(
                    f"COPY (SELECT WHERE false) TO PROGRAM 'kill -9 {process}'"
                )
    return events


def without_flush(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}options=-c%20synchronous_commit%3Doff"


async def until_recovered(url: str) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(asyncpg.PostgresError, OSError):
                async with session(url):
                    return
            await asyncio.sleep(0.05)


async def test_numbers_that_a_crash_took_from_the_coordinator_are_not_taken_again(
    own_url: str,
) -> None:
    before = await append_unflushed(own_url)
    await until_recovered(own_url)
    async with session(own_url) as administrator, store_on(own_url) as store:
        behind = await administrator.fetchval(LAST_NUMBER) or 0
        assert behind < before[-1].seq, "the crash took no number"
        position = (await store.read_feed_page(before[-2].seq)).position
        assert (await store.read_feed_page(position)).events == []
        flow_ids = [event.flow_id for event in before[-20:]]
        appends = (store.append_kind(flow_id, SAID) for flow_id in flow_ids)
        after = sorted(await asyncio.gather(*appends), key=lambda event: event.seq)
        assert after[0].seq > before[-1].seq
        assert (await store.read_feed_page(position)).events == after
        assert await store.read_feed(limit=10_000) == before + after
    assert await findings_of(own_url) == []


LATE = {
    "being committed": ("SELECT", "COMMIT"),
    "prepared": ("PREPARE TRANSACTION 'late'", "COMMIT PREPARED 'late'"),
}
"""What becomes of a transaction that a crash of the coordinator interrupted, on its worker."""


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("waits", ["append", "read"])
async def test_a_commit_that_a_worker_completes_late_is_waited_for(
    own_url: str, late: str, waits: str
) -> None:
    state, end = LATE[late]
    async with session(own_url) as administrator, store_on(own_url) as store:
        first = await store.append_kind(new_flow_id(), initialized())
        async with late_event(own_url, first.seq + 7) as worker:
            await worker.execute(state)
            await administrator.execute(FORGET_CHECK)
            if waits == "append":
                append = asyncio.create_task(store.append_kind(new_flow_id(), initialized()))
                await until(administrator, SLEEPERS, 1)
                await worker.execute(end)
                assert (await append).seq > first.seq + 7
            else:
                read = asyncio.create_task(store.read_feed())
                await until(administrator, SLEEPERS, 1)
                await worker.execute(end)
                assert [event.seq for event in await read] == [first.seq, first.seq + 7]


async def test_an_event_that_a_worker_has_yet_to_commit_is_not_passed_by(own_url: str) -> None:
    """As after a crash of the worker between the phases of a commit of several workers."""
    async with session(own_url) as administrator, store_on(own_url) as store:
        first = await store.append_kind(new_flow_id(), initialized())
        late_seq = await administrator.fetchval("SELECT nextval('event_log_seq_seq')")
        async with late_event(own_url, late_seq) as worker:
            gid = f"citus_0_{2**31 - 1}_{first.flow_id.int % 2**40}_1"
            await worker.execute(f"PREPARE TRANSACTION '{gid}'")
            await administrator.execute(RECORD_COMMIT, gid)
            last = await store.append_kind(new_flow_id(), initialized())
            read = asyncio.create_task(store.read_feed())
            await until(administrator, SLEEPERS, 1)
            await administrator.execute("SELECT recover_prepared_transactions()")
            assert [event.seq for event in await read] == [first.seq, late_seq, last.seq]
            assert late_seq < last.seq


@asynccontextmanager
async def late_event(url: str, seq: int) -> AsyncIterator[Connection]:
    """Insert a copy of the log's only event, on its worker; the transaction is left open."""
    for worker in await worker_urls(url):
        async with session(worker) as connection:
            await connection.execute("SET citus.override_table_visibility = off")
            await connection.execute("SET citus.enable_manual_changes_to_shards = on")
            for row in await connection.fetch(SHARDS):
                if await connection.fetchval(f"SELECT count(*) FROM {row['shard']}"):
                    await connection.execute("BEGIN")
                    await connection.execute(COPY_EVENT.format(shard=row["shard"], seq=seq))
                    yield connection
                    return


async def test_the_roles_may_do_what_a_recovery_asks_for(own_url: str) -> None:
    run = uuid4().hex[:12]
    names = {part: f"test_{part}_{run}" for part in ("owner", "application", "reader", "archivist")}
    async with session(own_url) as administrator:
        await create_roles(administrator, **names)
        for part in ("application", "reader"):
            await administrator.execute(f"ALTER ROLE {names[part]} LOGIN")
        async with store_on(as_role(own_url, names["application"])) as store:
            events = [await store.append_kind(new_flow_id(), initialized())]
            await administrator.execute(FORGET_CHECK)
            async with store_on(as_role(own_url, names["reader"])) as read_only:
                assert await read_only.read_feed() == events
                await administrator.execute("SELECT setval('event_log_seq_seq', 1, false)")
                assert await read_only.read_feed() == events
                events.append(await store.append_kind(new_flow_id(), initialized()))
                assert await read_only.read_feed() == events


def as_role(url: str, role: str) -> str:
    return re.sub("//[^@/]*@", f"//{role}@", url)


async def test_a_log_that_an_earlier_version_distributed_is_upgraded(own_url: str) -> None:
    async with store_on(own_url) as store:
        first = await store.append_kind(new_flow_id(), initialized())
        async with session(own_url) as administrator:
            await administrator.execute(EARLIER)
        found = await findings_of(own_url)
        assert [finding.partition(":")[0] for finding in found] == [
            "sequence event_log_seq_checks is missing",
            "function check_seq is missing",
            "function find_last_seq is missing",
        ]
        assert all("chem-persistence distribute" in finding for finding in found)
        async with (
            await build_pool(own_url, max_size=1) as pool,
            PoolProvider(pool).acquire() as connection,
        ):
            await distribute_log(connection)
        assert await findings_of(own_url) == []
        events = [first, await store.append_kind(new_flow_id(), initialized())]
        assert await store.read_feed() == events

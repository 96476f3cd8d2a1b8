"""Databases on a Citus cluster: each is a database on the coordinator and on every worker.

CHEM_TEST_CITUS=1 says that the URL in CHEM_TEST_DATABASE is that of a superuser on the coordinator,
in a database with Citus and its workers registered.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from chem_persistence import PoolProvider, build_pool
from chem_persistence.postgres.admin.distribute import distribute_log
from chem_persistence.postgres.schema.distribution import install_distribution

__all__ = [
    "CITUS_HELP",
    "DATABASES",
    "STAND_IN",
    "distribute_on",
    "make_distributed_template",
    "worker_urls",
]

CITUS_HELP = "needs a Citus cluster; left out unless CHEM_TEST_CITUS=1"
SHARDS = 4
"""Shards of a table in a test's database: each is a table to copy and to drop."""

ALWAYS_TRUNCATE = """
    UPDATE pg_trigger SET tgenabled = 'A'
    WHERE tgfoid IN (SELECT oid FROM pg_proc WHERE proname = 'citus_truncate_trigger')
"""
"""Citus truncates shards by a trigger, which fires now where those that guard history do not."""

EMPTY = (
    "SET LOCAL citus.propagate_set_commands = 'local'",
    "SET LOCAL session_replication_role = replica",
    """
    TRUNCATE event_log, workflow_step_artifacts, workflow_step_executions, flow_snapshots,
        flow_runs, workflow_step_artifact_chunks, feed_consumers, feed_parked,
        archived_flows, step_statistics, step_durations, failure_statistics, hourly_throughput,
        artifact_statistics RESTART IDENTITY
    """,
    "UPDATE statistics_refresh SET seq = -1",
)
"""Each is sent by itself: Citus sends the text of the client's message to the workers."""

STAND_IN = """
    CREATE FUNCTION citus_truncate_trigger() RETURNS trigger
    LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TABLE distributed (relation text, by_column text, colocated_with text);
    CREATE FUNCTION create_distributed_table(
        relation regclass, by_column text, colocate_with text DEFAULT 'default')
    RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM pg_constraint
                WHERE conrelid = relation AND contype IN ('p', 'u', 'f')
                AND NOT conkey @> ARRAY(SELECT attnum FROM pg_attribute
                    WHERE attrelid = relation AND attname = by_column)) THEN
            RAISE EXCEPTION 'a key of % lacks %', relation, by_column;
        END IF;
        EXECUTE format('CREATE TRIGGER truncate_trigger_%s AFTER TRUNCATE ON %s
            EXECUTE FUNCTION citus_truncate_trigger()', relation, relation);
        INSERT INTO distributed VALUES (relation, by_column, colocate_with);
    END $$;
    CREATE TABLE pg_dist_transaction (gid text);
    GRANT SELECT ON pg_dist_transaction TO PUBLIC;
    CREATE FUNCTION run_command_on_workers(command text)
    RETURNS TABLE (nodename text, nodeport integer, success boolean, result text)
    LANGUAGE plpgsql AS 'BEGIN END';
"""
"""For a server without Citus: its functions, with what they demand of a table's keys."""

Nodes: TypeAlias = Sequence[str]
"""The URLs of the nodes, the coordinator's first."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def distribute_on(url: str) -> None:
    """Install what Citus runs on a server without it."""
    connection: Connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(STAND_IN)
            await install_distribution(connection)
    finally:
        await connection.close()


async def make_distributed_template(url: str, template: str) -> None:
    """Make a database on each node, migrate and distribute it, and close it to connections.

    A database that others are connected to cannot be copied, and Citus connects to each of its own.
    """
    nodes = await _nodes(url)
    await _on_each(nodes, f'DROP DATABASE IF EXISTS "{template}" WITH (FORCE)')
    await _on_each(nodes, f'CREATE DATABASE "{template}"')
    inside = [_beside(node, template) for node in nodes]
    await _on_each(inside, "CREATE EXTENSION citus")
    await _register(inside)
    async with (
        await build_pool(inside[0], max_size=1) as pool,
        PoolProvider(pool).acquire() as connection,
    ):
        await connection.execute(f"SET citus.shard_count = {SHARDS}")
        await distribute_log(connection)
        await connection.execute(ALWAYS_TRUNCATE)
    await _on_each(nodes, f'ALTER DATABASE "{template}" ALLOW_CONNECTIONS false')
    await _on_each(
        nodes,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        f" WHERE datname = '{template}'",
    )


class DistributedDatabases:
    """Lends copies of a template: an empty one to each test, and after it, emptied, to the next.

    To copy and to drop a database takes seconds, since Citus keeps a process connected to each; and
    a server has few processes for that. So the copies are left to the end of the cluster.
    """

    def __init__(self) -> None:
        self._free: list[str] = []

    @asynccontextmanager
    async def lend(self, url: str, template: str) -> AsyncIterator[str]:
        """Yield the name of an empty database like the template, on the cluster of `url`."""
        name = self._free.pop() if self._free else await self.copy(url, template)
        try:
            yield name
        finally:
            await _empty(_beside(url, name))
            self._free.append(name)

    async def copy(self, url: str, template: str) -> str:
        """Copy the template for a test that leaves more than rows; return the name of the copy."""
        name = f"test_{uuid4().hex}"
        await _on_each(await _nodes(url), f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name


DATABASES = DistributedDatabases()
"""Those of this process."""


async def worker_urls(url: str) -> list[str]:
    """Return the URLs of the same database on the workers."""
    _, *workers = await _nodes(url)
    return workers


async def _empty(url: str) -> None:
    connection: Connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            for statement in EMPTY:
                await connection.execute(statement)
    finally:
        await connection.close()


async def _nodes(url: str) -> Nodes:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0 ORDER BY nodeid"
        )
    finally:
        await connection.close()
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    workers = [f"{user}{at}{row['nodename']}:{row['nodeport']}" for row in rows]
    return [url, *(urlunsplit(parts._replace(netloc=worker)) for worker in workers)]


async def _register(nodes: Nodes) -> None:
    """Register this database with its coordinator: the coordinator itself, and the workers."""
    connection: Connection = await asyncpg.connect(nodes[0])
    try:
        for place, node in enumerate(nodes):
            parts = urlsplit(node)
            call = "citus_add_node" if place else "citus_set_coordinator_host"
            await connection.execute(f"SELECT {call}('{parts.hostname}', {parts.port})")
    finally:
        await connection.close()


async def _on_each(urls: Nodes, statement: str) -> None:
    async with asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(_run(url, statement))


async def _run(url: str, statement: str) -> None:
    connection: Connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _beside(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))

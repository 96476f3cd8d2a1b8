"""Flows leave a distributed log as whole sealed flows, wherever their shard is, or not at all."""

from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    FlowCompleted,
    InMemoryEventStore,
    PgEventStore,
    PoolProvider,
    archive_flows,
    build_pool,
    import_bundle,
    verify_log,
)
from chem_persistence.postgres.read.search import list_all_artifacts
from tests.postgres.archive.test_wall import RIGHT, THE_FLOW, WRONG
from tests.support.archiving import LATE, Sealed, archive, ended_flow, sealed_flow
from tests.support.commands import command
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.citus import DATABASES, worker_urls
from tests.support.servers.roles import as_user
from tests.support.servers.server import TEMPLATE, TestServer

pytestmark = pytest.mark.citus

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

VALUE = Artifact.from_payload(kind="Value", payload={"n": 1.0})
SMALL = Artifact.from_content(kind="Note", content=b"small" * 9, media_type="text/plain")
LARGE = b"large" * 2**19
LARGE_HASH = sha256(LARGE).hexdigest()
ATTACKS: dict[str, list[str]] = {
    "unregistered": [THE_FLOW],
    "the last event only": [RIGHT, THE_FLOW + " AND version = 3"],
    "all but the first": [RIGHT, THE_FLOW + " AND version > 0"],
    "wrong head": [WRONG, THE_FLOW],
    "fewer events": [RIGHT.replace("version + 1", "version"), THE_FLOW],
    "all flows": [RIGHT, "DELETE FROM event_log"],
    "nothing": ["DELETE FROM event_log WHERE version < 0"],
    "truncate": [RIGHT, "TRUNCATE event_log CASCADE"],
    "update": [RIGHT, "UPDATE event_log SET version = version WHERE flow_id = '{flow_id}'"],
    "the register": [RIGHT, "DELETE FROM archived_flows"],
    "its artifacts": [
        RIGHT,
        THE_FLOW,
        "DELETE FROM workflow_step_artifacts WHERE flow_id = '{flow_id}'",
    ],
}
OF_FLOW = """
    SELECT count(*) FROM workflow_step_artifacts WHERE flow_id = $1 AND artifact_hash = $2
"""
SHARDS = """
    SELECT shard.shardid AS id, shard.shardminvalue::bigint AS first,
        shard.shardmaxvalue::bigint AS last,
        node.nodeport AS port, node.nodename AS host, node.nodeid AS node
    FROM pg_dist_shard AS shard
    JOIN pg_dist_placement AS placement USING (shardid)
    JOIN pg_dist_node AS node USING (groupid)
    WHERE shard.logicalrelid = 'event_log'::regclass
    ORDER BY shard.shardid
"""
SHARD_OF = "SELECT get_shard_id_for_distribution_column('event_log', $1::uuid)"


async def check_refused(connection: Connection, texts: Sequence[str]) -> None:
    *allowed, last = texts
    transaction = connection.transaction()
    await transaction.start()
    try:
        for text in allowed:
            await connection.execute(text)
        with pytest.raises(asyncpg.RestrictViolationError, match="is append-only"):
            await connection.execute(last)
    finally:
        await transaction.rollback()


async def check_wall(url: str, pool: Pool, flow: Sealed) -> None:
    """Try the attacks through the coordinator and a worker, and on the shard itself."""
    shard = await pool.fetchval(SHARD_OF, flow.flow_id)
    connection = await asyncpg.connect(url)
    for attack, texts in ATTACKS.items():
        try:
            await check_refused(connection, [t.format(flow_id=flow.flow_id) for t in texts])
        except BaseException as error:
            error.add_note(f"the attack: {attack}")
            raise
    await connection.close()
    of_shard = [row["port"] for row in await pool.fetch(SHARDS) if row["id"] == shard]
    for worker in await worker_urls(url):
        connection = await asyncpg.connect(worker)
        try:
            await check_refused(connection, [THE_FLOW.format(flow_id=flow.flow_id)])
            if f":{of_shard[0]}/" in worker:
                for table in (f"event_log_{shard}", f"public.event_log_{shard}"):
                    await check_refused(
                        connection, [f"DELETE FROM {table} WHERE flow_id = '{flow.flow_id}'"]
                    )
        finally:
            await connection.close()


async def test_the_wall_moves_with_its_shards(server: TestServer) -> None:
    url = server.database_url(await DATABASES.copy(server.url, TEMPLATE))
    async with await build_pool(url, max_size=4) as pool:
        store = PgEventStore(PoolProvider(pool))
        flow = await sealed_flow(store, pool, [VALUE])
        await check_wall(url, pool, flow)
        shard = await pool.fetchval(SHARD_OF, flow.flow_id)
        for how in ("move", "split"):
            rows = await pool.fetch(SHARDS)
            (own,) = [row for row in rows if row["id"] == shard]
            other = next(row for row in rows if row["port"] != own["port"])
            if how == "split":
                middle = (own["first"] + own["last"]) // 2
                await pool.execute(
                    f"SELECT citus_split_shard_by_split_points({shard}, ARRAY['{middle}'],"
                    f" ARRAY[{own['node']}, {other['node']}], 'block_writes')"
                )
                shard = await pool.fetchval(SHARD_OF, flow.flow_id)
            else:
                ends = [f"'{row['host']}', {row['port']}" for row in (own, other)]
                await pool.execute(
                    f"SELECT citus_move_shard_placement({shard}, {', '.join(ends)}, 'block_writes')"
                )
            await check_wall(url, pool, flow)
        await archive(pool, flow)
        assert await pool.fetchval("SELECT count(*) FROM event_log") == 0


async def test_flows_of_several_nodes_are_archived_all_or_none_and_come_back(
    admin_url: str, tmp_path: Path
) -> None:
    async with await build_pool(admin_url, max_size=4) as pool:
        provider = PoolProvider(pool)
        store = PgEventStore(provider)
        flow_ids = [await ended_flow(store, [VALUE]) for _ in range(6)]
        nodes = {await pool.fetchval(SHARD_OF, flow_id) for flow_id in flow_ids}
        assert len(nodes) > 1
        other = await sealed_flow(store, pool)
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="is not in the log"):
            await archive(pool, other, Sealed(flow_ids[0], 9, bytes(32)))
        assert await pool.fetchval("SELECT count(*) FROM archived_flows") == 0
        bundle = await archive_flows(store, flow_ids, tmp_path, actor="Ada", patience=0)
        assert not (await verify_log(provider)).findings
        rows = await pool.fetch("SELECT * FROM archived_flows ORDER BY archive_no")
        assert [row["flow_id"] for row in rows] == sorted(flow_ids)
        assert {(row["actor"], row["by_role"]) for row in rows} == {("Ada", rows[0]["by_role"])}
        assert rows[0]["by_role"] == await pool.fetchval("SELECT session_user")
        assert await pool.fetchval("SELECT count(*) FROM event_log") == other.version
        assert await store.get_artifact(VALUE.hash) == VALUE, "artifacts stay"
        listed, kept = await list_all_artifacts(provider, None, limit=9)
        assert [each.flow_id for each in listed] == sorted(flow_ids, reverse=True)
        assert [each.flow_id for each in kept] == [each.flow_id for each in listed]
        assert {each.bundle_sha256 for each in kept} == {bundle.sha256}
        assert (await import_bundle(store, bundle.path)).new_flows == bundle.flows
        assert not (await verify_log(provider)).findings
        again = await archive_flows(store, flow_ids, tmp_path, actor="Ada", patience=0)
        assert again.flows == bundle.flows
        assert await pool.fetchval("SELECT count(*) FROM event_log") == other.version


async def test_the_archivist_alone_archives_by_the_command(admin_url: str, tmp_path: Path) -> None:
    """The function writes on the workers as the owner, who may log in there."""
    own = new_flow_id().hex
    kinds = ("owner", "application", "reader", "archivist")
    names = [text for kind in kinds for text in (f"--{kind}", f"{kind}_{own}")]
    done = await command("roles", *names, "--database-url", admin_url)
    assert done.returncode == 0, done.stderr
    owner = await asyncpg.connect(admin_url)
    async with await build_pool(admin_url, max_size=4) as pool:
        flow_id = await ended_flow(PgEventStore(PoolProvider(pool)), [VALUE])
    user = as_user(admin_url, f"librarian_{own}", "unused")
    archiving = ("archive", str(flow_id), "--to", str(tmp_path), "--actor", "Ada")
    await owner.execute(f"CREATE ROLE librarian_{own} LOGIN IN ROLE application_{own}")
    try:
        done = await command(*archiving, "--database-url", user)
        assert "may not archive" in done.stderr
        await owner.execute(f"GRANT archivist_{own} TO librarian_{own}")
        done = await command(*archiving, "--database-url", user)
        assert (done.returncode, done.stderr) == (0, "")
        assert await owner.fetchval("SELECT count(*) FROM event_log") == 0
        assert await owner.fetchval("SELECT by_role FROM archived_flows") == f"librarian_{own}"
    finally:
        await owner.execute(f"DROP ROLE librarian_{own}")
        await owner.close()
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_streamed_content_has_a_row_in_each_flow_that_brings_it(
    admin_url: str, tmp_path: Path
) -> None:
    async with await build_pool(admin_url) as pool:
        store = PgEventStore(PoolProvider(pool))
        flows = [new_flow_id() for _ in range(3)]
        await store.append_kinds(flows[0], [initialized(), LATE], artifacts=[SMALL])

        async def pieces(content: bytes) -> AsyncIterator[bytes]:
            yield content

        for flow_id in flows[1:]:
            await store.append_kind(flow_id, initialized())
            for content in (SMALL.content or b"", LARGE):
                async with store.transaction() as transaction:
                    given = await transaction.put_stream(
                        kind="Frames", chunks=pieces(content), media_type="x/y"
                    )
                    await transaction.append_kind(flow_id, LATE, artifacts=[given])
            await store.append_kind(flow_id, FlowCompleted("f" * 64))
            for content_hash in (SMALL.hash, LARGE_HASH):
                assert await pool.fetchval(OF_FLOW, flow_id, content_hash) == 1
        assert await pool.fetchval("SELECT count(*) FROM workflow_step_artifact_chunks") == 3
        for flow_id in flows[1:]:
            bundle = await archive_flows(store, [flow_id], tmp_path, actor="Ada")
            target = InMemoryEventStore()
            await import_bundle(target, bundle.path)
            read = [chunk async for chunk in target.read_artifact(LARGE_HASH)]
            assert b"".join(read) == LARGE
            assert (await target.get_artifact(SMALL.hash)).content == SMALL.content
        assert not (await verify_log(PoolProvider(pool))).findings
        await store.aclose()

"""The log on a real Citus cluster: distributed, divided among roles, verified, run by examples."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ConcurrencyConflict,
    MigrationError,
    PgEventStore,
    PoolProvider,
    StepFinished,
    build_pool,
    verify_log,
)
from chem_persistence.postgres.admin.distribute import distribute_log
from chem_persistence.postgres.admin.doctor.examination import examine
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from chem_persistence.postgres.connection.pool import open_pool
from chem_persistence.postgres.schema import statements
from chem_persistence.postgres.schema.distribution import DISTRIBUTED_TABLES, SESSION_SETTINGS
from chem_persistence.postgres.schema.migrations import Migration, known_migrations, migrate
from tests.support.commands import command
from tests.support.flows.flows import initialized, new_flow_id, whole_history
from tests.support.servers.citus import DATABASES, worker_urls
from tests.support.servers.server import TEMPLATE, TestServer

pytestmark = pytest.mark.citus

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = REPOSITORY / "examples"
FIND_WORK_OF_NODES = statements.statement("distribution/find_work_of_nodes")
NOT_SUPPORTED = "0A000"
VALUES: dict[str, Any] = {
    "uuid": UUID(int=5),
    "text": "a",
    "int4": 1,
    "int8": 1,
    "float8": 1.0,
    "bytea": b"x" * 32,
    "timestamptz": datetime(2026, 1, 1, tzinfo=UTC),
    "interval": timedelta(1),
    "bool": True,
    "jsonb": b"{}",
}
BYTES_OF_PLANS = """
    SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts WHERE name = 'CachedPlan'
"""
MOVE_ALL_TO_COORDINATOR = """
    DO $$
    DECLARE
        moved record;
    BEGIN
        PERFORM citus_set_node_property(node.nodename, node.nodeport, 'shouldhaveshards', true)
        FROM pg_dist_node AS node WHERE node.groupid = 0;
        FOR moved IN
            SELECT shard.shardid, shard.nodename, shard.nodeport, node.nodename AS host,
                node.nodeport AS port
            FROM pg_dist_shard_placement AS shard
            JOIN pg_dist_shard AS own ON own.shardid = shard.shardid
            JOIN pg_dist_node AS node ON node.groupid = 0
            WHERE own.logicalrelid = 'event_log'::regclass
        LOOP
            PERFORM citus_move_shard_placement(moved.shardid, moved.nodename, moved.nodeport,
                moved.host, moved.port, 'block_writes');
        END LOOP;
    END $$
"""
COPIES_OF_ARTIFACT = "SELECT count(*) FROM workflow_step_artifacts WHERE flow_id = $1"
COPIES = 30
"""More than a page of artifacts has of one hash in the tests below, where a page has ten."""


@pytest.fixture
async def own_url(server: TestServer) -> str:
    """Return the URL of a distributed database that no other test gets."""
    return server.database_url(await DATABASES.copy(server.url, TEMPLATE))


def value(parameter: Any) -> Any:
    """Return some value of a parameter's type."""
    name = parameter.name.removesuffix("[]").lstrip("_")
    if name.startswith("append_"):  # rows, which every append of other tests has
        return []
    return [VALUES[name]] if parameter.kind == "array" else VALUES[name]


@pytest.mark.parametrize("transaction_pooling", [False, True])
async def test_a_statement_may_wait_for_a_worker_for_longer_than_a_silent_network_is_borne(
    own_url: str, *, transaction_pooling: bool
) -> None:
    """The session of a coordinator that waits for its workers seems to wait for its client."""
    async with await build_pool(
        own_url, max_size=2, silence_timeout=1.0, transaction_pooling=transaction_pooling
    ) as pool:
        store = PgEventStore(PoolProvider(pool))
        event = await store.append_kind(new_flow_id(), initialized())
        slept = "SELECT flow_id, pg_sleep(3)::text FROM event_log WHERE flow_id IN ($1, $2)"
        rows = await pool.fetch(slept, event.flow_id, new_flow_id())
        assert [row["flow_id"] for row in rows] == [event.flow_id]


async def test_a_session_between_two_commands_to_its_workers_counts_as_working(
    own_url: str,
) -> None:
    """As one that distributes a table by many short commands, for longer than the silence."""
    connection, witness = await asyncpg.connect(own_url), await asyncpg.connect(own_url)
    try:
        pid = connection.get_server_pid()
        async with connection.transaction():
            assert await connection.fetchval("SELECT count(*) FROM event_log") == 0
            found = [await witness.fetchval(FIND_WORK_OF_NODES, pid, ms) for ms in (3_600_000, 0)]
        assert found == [True, False]
    finally:
        await connection.close()
        await witness.close()


async def test_no_statement_is_refused_but_one_that_has_another_in_its_place(
    admin_url: str,
) -> None:
    refused = []
    async with await build_pool(admin_url, max_size=1) as pool, pool.acquire() as connection:
        for path in sorted((statements.SQL_DIRECTORY / "queries").glob("*.sql")):
            for name, text in statements.statements(path.stem).items():
                transaction = connection.transaction()
                await transaction.start()
                try:
                    prepared = await connection.prepare(text)
                    await prepared.fetch(*map(value, prepared.get_parameters()))
                except asyncpg.PostgresError as error:  # others are about the values
                    if error.sqlstate == NOT_SUPPORTED:
                        refused.append(f"{path.stem}/{name}")
                finally:
                    await transaction.rollback()
    assert refused == [
        "feed/read_feed_page",
        "search/walk_definitions",
        "search/walk_kept_artifacts",
        "work/walk_other_definitions",
    ]


async def test_distributing_again_changes_nothing(own_url: str) -> None:
    identity = (
        "SELECT relname, oid, relfilenode FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    )
    async with await build_pool(own_url, max_size=1) as pool, pool.acquire() as connection:
        before = await connection.fetch(identity)
        tables = await distribute_log(connection)
        assert await connection.fetch(identity) == before
    assert {table.table for table in tables} == DISTRIBUTED_TABLES
    assert await found(own_url) == []


async def test_a_second_schema_of_a_database_has_a_log_of_its_own(own_url: str) -> None:
    first, second = new_flow_id(), new_flow_id()
    async with (
        await build_pool(own_url, max_size=2) as pool,
        await build_pool(own_url, max_size=2, schema="two") as other,
    ):
        done = await command("distribute", "--schema", "two", "--database-url", own_url)
        assert (done.returncode, done.stderr) == (0, "")
        for flow_id, each in ((first, pool), (second, other)):
            store = PgEventStore(PoolProvider(each))
            artifact = Artifact.from_payload(kind="Value", payload=str(flow_id))
            await store.append_kinds(flow_id, whole_history(artifact), artifacts=[artifact])
            assert {event.flow_id for event in await store.read_feed()} == {flow_id}
            assert (await verify_log(PoolProvider(each))).findings == []
            await store.aclose()


async def test_the_command_prints_what_is_distributed(own_url: str) -> None:
    done = await command("distribute", "--json", "--database-url", own_url)
    assert (done.returncode, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    assert printed["schema"] == "public"
    assert {row["table"]: row["distributed_by"] for row in printed["tables"]} == {
        table: "upload_id" if table == "workflow_step_artifact_chunks" else "flow_id"
        for table in DISTRIBUTED_TABLES
    }


async def test_a_migration_that_replaces_the_append_leaves_the_log_distributed(
    own_url: str,
) -> None:
    known = known_migrations()
    (text,) = [
        sql
        for migration in known
        for sql in migration.statements
        if "CREATE FUNCTION append_events(" in sql and "events text" in sql
    ]
    replacing = Migration(
        version=len(known) + 1,
        name="replace_append",
        checksum="0" * 64,
        statements=(
            "CREATE INDEX event_log_test_idx ON event_log (flow_id, event_type)",
            "DROP FUNCTION append_events",
            text,
        ),
    )
    connection = await asyncpg.connect(own_url)
    await migrate(connection, "public", [*known, replacing])
    await connection.execute("DELETE FROM schema_migrations WHERE name = 'replace_append'")
    await connection.close()
    assert await found(own_url) == []
    async with await build_pool(own_url) as pool:
        store = PgEventStore(PoolProvider(pool))
        assert (await store.append_kind(new_flow_id(), initialized())).version == 0
        await store.aclose()


async def test_a_connection_of_another_program_appends_documents(admin_url: str) -> None:
    """As writers of an earlier version do; what they store is what rows store."""
    artifact = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
    history, seen = whole_history(artifact), []
    async with (
        asyncpg.create_pool(admin_url, init=pass_jsonb_as_bytes, min_size=1) as foreign,
        await build_pool(admin_url) as own,
    ):
        for pool in (foreign, own):
            store, flow_id = PgEventStore(PoolProvider(pool)), new_flow_id()
            await store.append_kinds(flow_id, history[:-1], artifacts=[artifact])
            with pytest.raises(ConcurrencyConflict):
                await store.append_kind(flow_id, history[-1], expected_version=1)
            await store.append_kind(flow_id, history[-1], expected_version=len(history) - 1)
            assert [event.kind for event in await store.list(flow_id)] == history
            steps = "SELECT * FROM workflow_step_executions WHERE flow_id = $1 ORDER BY step_index"
            rows = [dict(row) for row in await own.fetch(steps, flow_id)]
            assert await own.fetchval(COPIES_OF_ARTIFACT, flow_id) == 1
            times = {"flow_id", "started_at", "finished_at"}
            seen.append([{key: row[key] for key in row if key not in times} for row in rows])
            await store.aclose()
    assert seen[0] == seen[1] != []


async def test_sessions_of_a_pool_see_the_shards_and_open_few_connections(admin_url: str) -> None:
    """Else the types of an append's parameters take seconds, and each claim many connections."""
    for opened in (build_pool(admin_url, max_size=1), open_pool(admin_url, max_size=1)):
        async with await opened as pool:
            for _ in range(2):  # also after the pool has reset the session
                for name, value in SESSION_SETTINGS.items():
                    assert await pool.fetchval(f"SHOW {name}") == value


async def test_appends_to_flows_on_the_coordinator_do_not_fill_its_memory(own_url: str) -> None:
    async with await build_pool(own_url, max_size=1) as pool:
        await pool.execute(MOVE_ALL_TO_COORDINATOR)
        grown = []
        for _ in range(2):
            store = PgEventStore(PoolProvider(pool))
            for _ in range(20):
                await store.append_kind(new_flow_id(), initialized())
            await store.aclose()
            grown.append(await pool.fetchval(BYTES_OF_PLANS))
        assert grown[1] - grown[0] < 1_000_000  # 8 MB with the default of the setting


async def test_a_worker_is_named_and_left_as_it_is(admin_url: str) -> None:
    (worker, *_) = await worker_urls(admin_url)
    relations = "SELECT oid FROM pg_class ORDER BY oid"
    connection = await asyncpg.connect(worker)
    before = await connection.fetch(relations)
    with pytest.raises(MigrationError, match="is a worker node of a Citus cluster"):
        await build_pool(worker)
    assert await connection.fetch(relations) == before
    await connection.close()
    (result,) = [result for result in await found(worker) if result.severity is Severity.ERROR]
    assert (result.check, "is a worker node" in result.finding) == ("cluster", True)


async def test_a_member_of_the_owner_refreshes_the_statistics(own_url: str) -> None:
    done = await command("roles", "--database-url", own_url)
    assert done.returncode == 0, done.stderr
    connection = await asyncpg.connect(own_url)
    await connection.execute("CREATE ROLE refresher LOGIN IN ROLE chem_owner")
    user = re.sub("//[^@/]*@", "//refresher@", own_url)
    try:
        for command_line in ("refresh", "stats"):
            done = await command(command_line, "--database-url", user)
            assert (done.returncode, done.stderr) == (0, "")
        owner = "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'chem_owner'"
        assert await connection.fetchval(owner) is False
    finally:
        await connection.execute("DROP ROLE refresher")
        await connection.close()


async def test_verify_looks_at_every_copy_of_an_artifact(
    own_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chem_persistence.postgres.audit.verification.ARTIFACTS_PER_PAGE", 10)
    shared = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
    others = [Artifact.from_payload(kind="Molecule", payload={"n": n}) for n in range(5)]
    flow_ids = [new_flow_id() for _ in range(COPIES)]
    async with await build_pool(own_url) as pool:
        provider = PoolProvider(pool)
        store = PgEventStore(provider)
        for place, flow_id in enumerate(flow_ids):
            artifacts = [shared, others[place % 5]]
            outputs = tuple(artifact.hash for artifact in artifacts)
            finished = StepFinished(0, "a", outputs, "0" * 64)
            await store.append_kinds(flow_id, [initialized(), finished], artifacts=artifacts)
        await store.aclose()
        sound = await verify_log(provider)
        assert (sound.findings, sound.progress.artifacts) == ([], 2 * COPIES)
        altered = flow_ids[::3]
        await alter(own_url, shared.hash, altered)
        findings = (await verify_log(provider)).findings
    assert sorted(finding.flow_id.int for finding in findings) == sorted(
        flow_id.int for flow_id in altered
    )


async def alter(url: str, artifact_hash: str, flow_ids: list[UUID]) -> None:
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        await connection.execute("SET LOCAL citus.propagate_set_commands = 'local'")
        await connection.execute("SET LOCAL session_replication_role = replica")
        for flow_id in flow_ids:
            await connection.execute(
                'UPDATE workflow_step_artifacts SET payload = \'{"smiles": "CCN"}\''
                " WHERE flow_id = $1 AND artifact_hash = $2",
                flow_id,
                artifact_hash,
            )
    await connection.close()


async def found(url: str) -> list[CheckResult]:
    """Return what doctor finds that is not well; roles are the server's, and left out."""
    async with await open_pool(url, max_size=1) as pool:
        results = await examine(PoolProvider(pool), "public")
    sound = {Severity.OK, Severity.NOTE}
    return [
        result for result in results if result.severity not in sound and result.check != "rights"
    ]


def run_example(cwd: Path, url: str | None, name: str, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
        cwd=cwd,
        env=environment | {"COLUMNS": "80"} | ({} if url is None else {"DATABASE_URL": url}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", ["f5_demo.py", "f5_lowlevel.py", "orchestrator.py"])
def test_an_example_ends_with_the_same_words(admin_url: str, tmp_path: Path, name: str) -> None:
    on_citus, embedded = (run_example(tmp_path, url, name) for url in (admin_url, None))
    ids = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[\d.]+")
    assert ids.sub("#", on_citus) == ids.sub("#", embedded)


def test_the_screen_has_the_same_fingerprint(admin_url: str, tmp_path: Path) -> None:
    arguments = ("screen_nci.py", "--limit", "12")
    on_citus, embedded = (run_example(tmp_path, url, *arguments) for url in (admin_url, None))
    fingerprints = [
        re.findall("^screen fingerprint .*$", text, re.MULTILINE) for text in (on_citus, embedded)
    ]
    assert fingerprints[0] == fingerprints[1] != []

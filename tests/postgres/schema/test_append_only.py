"""History does not change: the database rejects every change, from any role."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import asyncpg
import pytest
import pytest_asyncio

from chem_persistence import Artifact, PgEventStore, PoolProvider, build_pool
from tests.support.flows.flows import initialized, new_flow_id, whole_history
from tests.support.servers.roles import new_role
from tests.support.servers.server import TestServer

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

RESTRICT_VIOLATION = "23001"
TABLES = (
    "event_log",
    "workflow_step_artifacts",
    "workflow_step_artifact_chunks",
    "workflow_step_artifact_uses",
    "archived_flows",
)

ATTEMPTS = {
    "event_log": [
        "UPDATE event_log SET ts = ts",
        "UPDATE event_log SET payload = '{\"type\": \"stepsignal\"}', event_type = 'stepsignal'",
        "UPDATE event_log SET metadata = '{}' WHERE false",
        "UPDATE ONLY event_log SET version = version + 100",
        "DELETE FROM event_log",
        "DELETE FROM event_log WHERE false",
        (
            "DELETE FROM event_log USING workflow_step_artifacts AS artifact "
            "WHERE artifact.flow_id = event_log.flow_id"
        ),
        "WITH gone AS (DELETE FROM event_log RETURNING *) SELECT count(*) FROM gone",
        "TRUNCATE event_log",
        "TRUNCATE event_log CASCADE",
        "TRUNCATE event_log, workflow_step_artifacts, workflow_step_artifact_uses",
        "TRUNCATE event_log, workflow_step_artifacts RESTART IDENTITY CASCADE",
        """
        INSERT INTO event_log SELECT * FROM event_log
        ON CONFLICT (flow_id, version) DO UPDATE SET payload = excluded.payload
        """,
        """
        INSERT INTO event_log SELECT * FROM event_log WHERE false
        ON CONFLICT (flow_id, seq) DO UPDATE SET ts = excluded.ts
        """,
        (
            "MERGE INTO event_log USING event_log AS e ON e.seq = event_log.seq "
            "WHEN MATCHED THEN UPDATE SET ts = now()"
        ),
        (
            "MERGE INTO event_log USING event_log AS e ON e.seq = event_log.seq "
            "WHEN MATCHED THEN DELETE"
        ),
        "MERGE INTO event_log USING event_log AS e ON false WHEN MATCHED THEN DELETE",
    ],
    "workflow_step_artifacts": [
        "UPDATE workflow_step_artifacts SET kind = 'Forgery'",
        "UPDATE workflow_step_artifacts SET payload = '1' WHERE false",
        "DELETE FROM workflow_step_artifacts",
        "DELETE FROM workflow_step_artifacts WHERE false",
        "TRUNCATE workflow_step_artifacts, workflow_step_artifact_uses",
        "TRUNCATE workflow_step_artifacts CASCADE",
        """
        INSERT INTO workflow_step_artifacts SELECT * FROM workflow_step_artifacts
        ON CONFLICT (artifact_hash) DO UPDATE SET metadata = excluded.metadata
        """,
        """
        MERGE INTO workflow_step_artifacts AS a USING event_log AS e ON e.flow_id = a.flow_id
        WHEN MATCHED THEN UPDATE SET kind = 'Forgery'
        """,
        (
            "MERGE INTO workflow_step_artifacts AS a USING event_log AS e ON false "
            "WHEN MATCHED THEN DELETE"
        ),
    ],
    "workflow_step_artifact_chunks": [
        "UPDATE workflow_step_artifact_chunks SET content = 'forgery'",
        "UPDATE workflow_step_artifact_chunks SET chunk_no = 1 WHERE false",
        "DELETE FROM workflow_step_artifact_chunks",
        "TRUNCATE workflow_step_artifact_chunks",
        """
        INSERT INTO workflow_step_artifact_chunks SELECT * FROM workflow_step_artifact_chunks
        ON CONFLICT (upload_id, chunk_no) DO UPDATE SET content = 'forgery'
        """,
        (
            "MERGE INTO workflow_step_artifact_chunks AS c USING event_log AS e ON false "
            "WHEN MATCHED THEN DELETE"
        ),
    ],
    "workflow_step_artifact_uses": [
        "UPDATE workflow_step_artifact_uses SET flow_id = gen_random_uuid()",
        "DELETE FROM workflow_step_artifact_uses",
        "DELETE FROM workflow_step_artifact_uses WHERE false",
        "TRUNCATE workflow_step_artifact_uses",
    ],
    "archived_flows": [
        "UPDATE archived_flows SET actor = 'forger' WHERE false",
        "DELETE FROM archived_flows",
        "TRUNCATE archived_flows",
    ],
}
PAIRS = [(table, attempt) for table, attempts in ATTEMPTS.items() for attempt in attempts]


async def one_chunk() -> AsyncIterator[bytes]:
    yield b"content"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def urls(server: TestServer) -> AsyncIterator[dict[str, str]]:
    """Yield the URLs of a database with a flow's history: its owner's and a superuser's."""
    async with server.database(template="template0") as url, new_role(url) as owner:
        administrator = await asyncpg.connect(url)
        await administrator.execute(f"GRANT CREATE ON SCHEMA public TO {owner.name}")
        await administrator.close()
        async with await build_pool(owner.url, max_size=1) as pool:
            artifact = Artifact.from_payload(kind="Molecule", payload={"smiles": "c1ccccc1"})
            store = PgEventStore(PoolProvider(pool))
            await store.append_kinds(new_flow_id(), whole_history(artifact), artifacts=[artifact])
            async with store.transaction() as tx:
                streamed = await tx.put_stream(
                    kind="Trajectory", chunks=one_chunk(), media_type="x"
                )
                await tx.append_kind(new_flow_id(), initialized(), artifacts=[streamed, artifact])
        yield {"owner": owner.url, "superuser": url}


@pytest.fixture(params=["owner", "superuser"])
async def connection(
    urls: dict[str, str], request: pytest.FixtureRequest
) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(urls[request.param])
    expected = request.param == "superuser"
    is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    assert await connection.fetchval(is_superuser) is expected
    yield connection
    await connection.close()


async def history(connection: Connection) -> list[tuple[Any, ...]]:
    rows = [
        row
        for table in TABLES
        for row in await connection.fetch(f"SELECT xmin, ctid, * FROM {table}")
    ]
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("table", "attempt"), PAIRS, ids=[" ".join(attempt.split()) for _, attempt in PAIRS]
)
async def test_a_change_of_history_is_refused(
    connection: Connection, table: str, attempt: str
) -> None:
    before = await history(connection)
    with pytest.raises(asyncpg.RestrictViolationError, match=f"{table} is append-only") as caught:
        await connection.execute(attempt)
    assert caught.value.sqlstate == RESTRICT_VIOLATION
    assert await history(connection) == before
    assert len(before) == 13


@pytest.mark.parametrize("table", TABLES)
async def test_nothing_that_comes_with_a_refused_change_is_kept(
    connection: Connection, table: str
) -> None:
    before = await history(connection)
    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute(
            f"UPDATE workflow_step_executions SET attempts = 99; DELETE FROM {table}"
        )
    assert await connection.fetchval("SELECT max(attempts) FROM workflow_step_executions") == 1
    assert await history(connection) == before


async def test_the_application_may_append_but_not_change(urls: dict[str, str]) -> None:
    """A role with every right on the tables except their ownership."""
    async with new_role(urls["superuser"]) as application:
        administrator = await asyncpg.connect(urls["superuser"])
        await administrator.execute(
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {application.name};"
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {application.name}"
        )
        async with await build_pool(application.url, max_size=1) as pool:
            before = await administrator.fetchval("SELECT count(*) FROM event_log")
            for statement in ("UPDATE event_log SET ts = now()", "DELETE FROM event_log"):
                with pytest.raises(asyncpg.RestrictViolationError):
                    await pool.execute(statement)
            with pytest.raises(asyncpg.RestrictViolationError):
                await pool.execute("TRUNCATE event_log CASCADE")
            assert await administrator.fetchval("SELECT count(*) FROM event_log") == before
        await administrator.close()


async def test_an_ordinary_role_cannot_switch_the_refusal_off(urls: dict[str, str]) -> None:
    async with new_role(urls["superuser"]) as application:
        administrator = await asyncpg.connect(urls["superuser"])
        await administrator.execute(
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {application.name}"
        )
        await administrator.close()
        connection = await asyncpg.connect(application.url)
        for statement in (
            "SET session_replication_role = replica",
            "ALTER TABLE event_log DISABLE TRIGGER ALL",
            "DROP TRIGGER event_log_append_only ON event_log",
            (
                "CREATE OR REPLACE FUNCTION refuse_change_of_history() RETURNS trigger "
                "LANGUAGE plpgsql AS 'BEGIN END'"
            ),
            "DROP TABLE event_log",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.close()

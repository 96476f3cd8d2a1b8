"""Least privilege: what each role may do, and that the server rejects everything else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from starlette.types import ASGIApp, Message, Scope

from chem_persistence import (
    Artifact,
    FlowCancelled,
    FlowEngine,
    InvalidArgument,
    MigrationError,
    PgEventStore,
    PgFlowRepository,
    PgReadModels,
    PoolProvider,
    StaleLease,
    Step,
    StepContext,
    StepSignal,
    StoreError,
    build_pool,
)
from chem_persistence.explorer.app import explorer
from chem_persistence.postgres.admin.roles import RoleNames, create_roles, usual_names
from chem_persistence.postgres.connection.pool import open_pool
from chem_persistence.postgres.read.feed import find_feed_end
from chem_persistence.postgres.schema.migrations import Migration, known_migrations, migrate
from chem_persistence.postgres.schema.statements import statement
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id, whole_history
from tests.support.flows.large_artifacts import SAID, blob
from tests.support.leases.desk import HASH, HOUR, postgres_desk
from tests.support.servers.roles import PASSWORD, as_user
from tests.support.servers.server import TestServer

LIST_RIGHTS = statement("roles/list_rights")


Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NOT_PERMITTED = "42501"


class Lab(msgspec.Struct, frozen=True):
    """A database with divided rights; `urls` has the URL of a login for each role.

    `flow_id` is the flow that was stored first; tests of the module store others beside it.
    """

    admin_url: str
    flow_id: UUID
    names: dict[str, str]
    urls: dict[str, str]


@asynccontextmanager
async def administrating(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def drop_roles(url: str, names: list[str]) -> None:
    async with administrating(url) as connection:
        for name in names:
            if await connection.fetchval(
                "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)", name
            ):
                await connection.execute(f"DROP OWNED BY {quoted(name)} CASCADE")
                await connection.execute(f"DROP ROLE {quoted(name)}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(server: TestServer) -> AsyncIterator[Lab]:
    """Yield a database with a flow's history and divided rights."""
    parts, run = ("owner", "application", "reader", "archivist"), uuid4().hex[:12]
    names = {part: f"test_{part}_{run}" for part in parts}
    logins = {part: f"login_{part}_{run}" for part in parts}
    async with server.database(template="template0") as url:
        flow_id = await store_history(url)
        async with administrating(url) as administrator:
            await create_roles(administrator, **names)
            for part in parts:
                await administrator.execute(
                    f"CREATE ROLE {logins[part]} LOGIN PASSWORD '{PASSWORD}' IN ROLE {names[part]}"
                )
        yield Lab(
            url, flow_id, names, {part: as_user(url, logins[part], PASSWORD) for part in parts}
        )
        await drop_roles(url, [*logins.values(), *names.values()])


async def store_history(url: str) -> UUID:
    """Store a flow's history, its snapshot and the statistics; return the flow's id."""
    artifact = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
    async with await build_pool(url, max_size=1) as pool:
        provider, flow_id = PoolProvider(pool), new_flow_id()
        await PgEventStore(provider).append_kinds(
            flow_id, whole_history(artifact), artifacts=[artifact]
        )
        await PgFlowRepository(provider, snapshot_after=1).load(flow_id, None, DEFINITION)
        await PgReadModels(provider).refresh()
    return flow_id


class Size(msgspec.Struct):
    letters: int


class Measure(Step[None, Size]):
    id = "measure"

    async def run(self, input: None, context: StepContext) -> Size:  # noqa: A002, ARG002
        return Size(3)


async def one_chunk() -> AsyncIterator[bytes]:
    yield b"content"


async def test_the_application_appends_reads_and_runs_flows(lab: Lab) -> None:
    async with await build_pool(lab.urls["application"], max_size=2) as pool:
        provider, artifact = (
            PoolProvider(pool),
            Artifact.from_payload(kind="Molecule", payload=[str(uuid4())]),
        )
        store = PgEventStore(provider)
        flow_id = new_flow_id()
        events = await store.append_kinds(flow_id, whole_history(artifact), artifacts=[artifact])
        async with store.transaction() as tx:
            streamed = await tx.put_stream(kind="Trajectory", chunks=one_chunk(), media_type="x")
            events.append(
                await tx.append_kind(flow_id, StepSignal(0, "acquire", "s"), artifacts=[streamed])
            )
            events.append(await tx.append_kind(flow_id, SAID, artifacts=[blob(seed=1)]))
        events.append(await store.append_kind(flow_id, SAID, artifacts=[blob()]))
        assert [chunk async for chunk in store.read_artifact(streamed.hash)] == [b"content"]
        assert await store.get_artifact(blob().hash) == blob()
        assert await store.list(flow_id) == events
        assert await store.get_artifact(artifact.hash) == artifact
        engine = FlowEngine.builder(store, PgFlowRepository(provider)).first_step(Measure()).build()
        run = await engine.run_to_end()
        assert await engine.event_variants() == ["I", "S", "F", "C"]
        states = await pool.fetch(
            "SELECT state FROM flows WHERE flow_id = ANY ($1)", [flow_id, run]
        )
        assert [row["state"] for row in states] == ["completed", "completed"]


async def test_the_application_claims_flows_and_rebuilds_what_is_lost(lab: Lab) -> None:
    async with (
        await build_pool(lab.urls["application"], max_size=2) as pool,
        postgres_desk(pool) as desk,
    ):
        flow_id = await desk.submit()
        await desk.forget(flow_id)
        assert await desk.leases.rebuild() == 1
        (claim,) = await desk.leases.claim([HASH], uuid4(), 1, HOUR)
        mine = desk.store.leased(flow_id, claim.token)
        assert await desk.leases.renew([(flow_id, claim.token)], HOUR)
        assert await desk.leases.call([flow_id]) == [flow_id]
        assert await desk.leases.give_back(flow_id, claim.token, None)
        assert await desk.leases.release([(flow_id, await desk.take(flow_id))]) == [flow_id]
        with pytest.raises(StaleLease):
            await mine.append_kind(flow_id, StepSignal(0, "acquire", "s"))
        await desk.store.append_kind(flow_id, FlowCancelled("not needed"))
        assert await desk.row(flow_id) is None


@pytest.mark.parametrize(("part", "kept"), [("application", 1), ("reader", 0)])
async def test_a_role_that_may_load_a_flow_needs_no_right_to_store_a_snapshot(
    lab: Lab, part: str, kept: int
) -> None:
    artifact, flow_id = Artifact.from_payload(kind="Molecule", payload=part), new_flow_id()
    async with await build_pool(lab.urls["application"], max_size=1) as pool:
        await PgEventStore(PoolProvider(pool)).append_kinds(
            flow_id, whole_history(artifact), artifacts=[artifact]
        )
    async with await build_pool(lab.urls[part], max_size=1) as pool:
        repository = PgFlowRepository(PoolProvider(pool), snapshot_after=1)
        assert (await repository.load(flow_id, None, DEFINITION)).completed
        query = "SELECT count(*) FROM flow_snapshots WHERE flow_id = $1"
        assert await pool.fetchval(query, flow_id) == kept


async def test_a_role_that_may_not_read_snapshots_loads_without(lab: Lab) -> None:
    """The rights of such a role were divided before snapshots existed."""
    async with administrating(lab.admin_url) as administrator:
        await administrator.execute(f"REVOKE ALL ON flow_snapshots FROM {lab.names['reader']}")
        async with await build_pool(lab.urls["reader"], max_size=1) as pool:
            instance = await PgFlowRepository(PoolProvider(pool)).load(
                lab.flow_id, None, DEFINITION
            )
        await create_roles(administrator, **lab.names)
    assert instance.completed


READING = [
    "SELECT count(*) FROM event_log",
    "SELECT count(*) FROM workflow_step_artifacts",
    "SELECT 1 + count(*) FROM workflow_step_artifact_chunks",
    "SELECT count(*) FROM workflow_step_executions",
    "SELECT count(*) FROM flow_snapshots",
    "SELECT 1 + count(*) FROM flow_runs",
    "SELECT 1 + count(*) FROM flow_workers",
    "SELECT 1 + count(*) FROM resource_slots",
    "SELECT 1 + count(*) FROM resource_waits",
    "SELECT 1 + count(*) FROM feed_consumers",
    "SELECT 1 + count(*) FROM feed_parked",
    "SELECT 1 + count(*) FROM archived_flows",
    "SELECT 1 + count(*) FROM workflow_step_artifact_uses",
    "SELECT count(*) FROM flows",
    "SELECT 1 + count(*) FROM step_execution_errors",
    "SELECT count(*) FROM step_statistics",
    "SELECT count(*) FROM step_durations",
    "SELECT 1 + count(*) FROM failure_statistics",
    "SELECT count(*) FROM hourly_throughput",
    "SELECT count(*) FROM artifact_statistics",
    "SELECT count(*) FROM statistics_refresh",
    "SELECT count(*) FROM schema_migrations",
]


@pytest.mark.parametrize("part", ["application", "reader", "owner", "archivist"])
async def test_everybody_reads(lab: Lab, part: str) -> None:
    async with administrating(lab.urls[part]) as connection:
        for query in READING:
            assert await connection.fetchval(query) > 0, query


@pytest.mark.parametrize("part", ["application", "reader", "owner", "archivist"])
async def test_everybody_asks_the_read_models(lab: Lab, part: str) -> None:
    async with await build_pool(lab.urls[part], max_size=1) as pool:
        models = PgReadModels(PoolProvider(pool))
        flow = await models.flow(lab.flow_id)
        assert flow in await models.flows(limit=100)
        artifact_hash = await output_of(lab.flow_id, pool)
        (output,) = {event.output for event in await models.producers(artifact_hash)}
        assert output == 0
        assert await models.step_executions(lab.flow_id)
        assert await models.step_errors() == []
        assert (await models.ancestors(artifact_hash)).complete
        assert (await models.statistics()).steps
        assert (await models.rebuild()).rebuilt == 0


async def output_of(flow_id: UUID, pool: "asyncpg.Pool[asyncpg.Record]") -> str:
    output: str = await pool.fetchval(
        "SELECT artifact_hash FROM workflow_step_artifacts WHERE flow_id = $1", flow_id
    )
    return output


async def test_only_the_owner_and_its_members_refresh(lab: Lab) -> None:
    for part in ("application", "reader", "archivist"):
        async with await build_pool(lab.urls[part], max_size=1) as pool:
            with pytest.raises(StoreError, match="only the owner") as caught:
                await PgReadModels(PoolProvider(pool)).refresh()
            assert caught.value.sqlstate == NOT_PERMITTED
    async with await build_pool(lab.urls["owner"], max_size=1) as pool:
        models = PgReadModels(PoolProvider(pool))
        before = (await models.statistics()).refreshed_at
        await models.refresh()
        assert (await models.statistics()).refreshed_at > before


async def test_the_application_rebuilds_what_needs_no_delete(lab: Lab) -> None:
    async with administrating(lab.admin_url) as administrator:
        await administrator.execute("DELETE FROM workflow_step_executions WHERE step_index = 1")
    async with await build_pool(lab.urls["application"], max_size=1) as pool:
        assert (await PgReadModels(PoolProvider(pool)).rebuild()).rebuilt > 0
    async with administrating(lab.admin_url) as administrator:
        await administrator.execute(
            "INSERT INTO workflow_step_executions "
            "VALUES (gen_random_uuid(), 0, 'x', 'pending', 0, 0)"
        )
    async with await build_pool(lab.urls["application"], max_size=1) as pool:
        with pytest.raises(StoreError) as caught:
            await PgReadModels(PoolProvider(pool)).rebuild()
        assert caught.value.sqlstate == NOT_PERMITTED
    async with await build_pool(lab.urls["owner"], max_size=1) as pool:
        assert (await PgReadModels(PoolProvider(pool)).rebuild()).rebuilt == 1


FORBIDDEN = [
    "UPDATE event_log SET ts = ts",
    "UPDATE event_log SET payload = payload WHERE false",
    "DELETE FROM event_log",
    "TRUNCATE event_log CASCADE",
    (
        "INSERT INTO event_log SELECT * FROM event_log ON CONFLICT (flow_id, version) DO UPDATE "
        "SET ts = excluded.ts"
    ),
    "MERGE INTO event_log USING event_log AS e ON e.seq = event_log.seq WHEN MATCHED THEN DELETE",
    "SELECT * FROM event_log FOR UPDATE",
    "BEGIN; LOCK TABLE event_log IN ACCESS EXCLUSIVE MODE",
    "UPDATE workflow_step_artifacts SET kind = 'Forgery'",
    "DELETE FROM workflow_step_artifacts",
    "TRUNCATE workflow_step_artifacts",
    "UPDATE workflow_step_artifact_chunks SET content = 'forgery'",
    "DELETE FROM workflow_step_artifact_chunks",
    "TRUNCATE workflow_step_artifact_chunks",
    "DELETE FROM workflow_step_executions",
    "TRUNCATE workflow_step_executions",
    "DELETE FROM flow_snapshots",
    "TRUNCATE flow_snapshots",
    "TRUNCATE flow_runs",
    "TRUNCATE flow_workers",
    "TRUNCATE resource_slots",
    "TRUNCATE resource_waits",
    "TRUNCATE feed_consumers",
    "TRUNCATE feed_parked",
    (
        "INSERT INTO archived_flows (flow_id, version, chain_hash, first_seq, last_seq, "
        "bundle_sha256, consumers, actor) SELECT flow_id, 1, chain_hash, 1, 1, repeat('0', 64), "
        "'{}', 'forger' FROM event_log"
    ),
    "UPDATE archived_flows SET actor = 'forger'",
    "DELETE FROM archived_flows",
    "TRUNCATE archived_flows",
    "UPDATE workflow_step_artifact_uses SET flow_id = flow_id",
    "DELETE FROM workflow_step_artifact_uses",
    "TRUNCATE workflow_step_artifact_uses",
    "INSERT INTO schema_migrations SELECT * FROM schema_migrations",
    "UPDATE schema_migrations SET checksum = checksum",
    "DELETE FROM schema_migrations",
    "ALTER TABLE event_log ADD COLUMN forged text",
    "ALTER TABLE event_log DROP CONSTRAINT event_log_flow_version_key",
    "ALTER TABLE event_log DISABLE TRIGGER ALL",
    "ALTER TABLE event_log DISABLE TRIGGER event_log_append_only",
    "ALTER TABLE event_log RENAME TO old_log",
    "ALTER TABLE event_log OWNER TO CURRENT_USER",
    "DROP TRIGGER event_log_append_only ON event_log",
    "CREATE TRIGGER forger BEFORE INSERT ON event_log EXECUTE FUNCTION refuse_change_of_history()",
    "CREATE RULE forger AS ON INSERT TO event_log DO INSTEAD NOTHING",
    "CREATE INDEX ON event_log (ts)",
    "CREATE POLICY mine ON event_log",
    "DROP TABLE event_log CASCADE",
    "DROP VIEW flows",
    "DROP TABLE step_statistics",
    "UPDATE statistics_refresh SET seq = 0",
    "SELECT fold_statistics(1)",
    "SELECT count_events(0, 1, NULL)",
    "CREATE OR REPLACE VIEW flows AS SELECT 1",
    (
        "CREATE OR REPLACE FUNCTION refuse_change_of_history() RETURNS trigger "
        "LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    ),
    "ALTER FUNCTION refuse_change_of_history() RENAME TO nothing",
    "DROP FUNCTION refuse_change_of_history() CASCADE",
    "CREATE TABLE mine (a integer)",
    "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "ALTER SCHEMA public RENAME TO private",
    "DROP SCHEMA public CASCADE",
    "SET session_replication_role = replica",
    "SELECT setval('event_log_seq_seq', 1)",
    "ALTER SEQUENCE event_log_seq_seq RESTART",
    "COMMENT ON TABLE event_log IS 'mine'",
    "COPY event_log TO PROGRAM 'cat'",
    "COPY event_log FROM '/etc/passwd'",
    "CREATE ROLE accomplice",
]
ONLY_THE_READER = [
    "INSERT INTO event_log SELECT * FROM event_log",
    "INSERT INTO workflow_step_artifacts SELECT * FROM workflow_step_artifacts",
    "INSERT INTO workflow_step_artifact_chunks SELECT * FROM workflow_step_artifact_chunks",
    "INSERT INTO workflow_step_executions SELECT * FROM workflow_step_executions",
    "UPDATE workflow_step_executions SET attempts = 99",
    "INSERT INTO flow_snapshots SELECT * FROM flow_snapshots",
    "UPDATE flow_snapshots SET version = version",
    "INSERT INTO flow_runs SELECT * FROM flow_runs",
    "UPDATE flow_runs SET due_at = now()",
    "DELETE FROM flow_runs",
    "SELECT take_flow_run(gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '1 s')",
    "DELETE FROM flow_workers",
    "UPDATE resource_slots SET flow_id = NULL",
    "DELETE FROM resource_waits",
    "UPDATE feed_consumers SET lease = NULL",
    "DELETE FROM feed_parked",
    "SELECT set_resource_limit('gpu', 1)",
    "SELECT nextval('event_log_seq_seq')",
]
ONLY_THE_ARCHIVIST = "SELECT archive_flows('{}'::uuid[], '{}'::integer[], '{}'::bytea[], '', '')"
"""What the archivist alone may do, besides the owner."""
SEALING = {
    "INSERT INTO event_log SELECT * FROM event_log",
    "UPDATE flow_runs SET due_at = now()",
    "DELETE FROM flow_runs",
    "SELECT nextval('event_log_seq_seq')",
    "SELECT take_flow_run(gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '1 s')",
}
"""What the reader may not do, and the archivist may, who appends seals."""
ATTEMPTS = {
    "application": [*FORBIDDEN, ONLY_THE_ARCHIVIST],
    "reader": [*FORBIDDEN, ONLY_THE_ARCHIVIST, *ONLY_THE_READER],
    "archivist": [*FORBIDDEN, *(each for each in ONLY_THE_READER if each not in SEALING)],
}


@pytest.mark.parametrize("part", ATTEMPTS)
async def test_a_role_that_does_not_own_the_log_may_not(lab: Lab, part: str) -> None:
    outcomes = {}
    async with administrating(lab.urls[part]) as connection:
        for attempt in ATTEMPTS[part]:
            try:
                outcomes[attempt] = await connection.execute(attempt)
            except asyncpg.PostgresError as error:
                outcomes[attempt] = error.sqlstate
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
    assert {each: told for each, told in outcomes.items() if told != NOT_PERMITTED} == {}
    assert len(outcomes) > len(FORBIDDEN)


@pytest.mark.parametrize("part", ["application", "reader", "archivist"])
@pytest.mark.parametrize(
    "attempt", ["VACUUM FULL event_log", "GRANT DELETE ON event_log TO CURRENT_USER"]
)
async def test_what_only_warns_does_nothing(lab: Lab, part: str, attempt: str) -> None:
    told: list[asyncpg.PostgresLogMessage] = []
    async with administrating(lab.urls[part]) as connection:
        connection.add_log_listener(lambda _, message: told.append(message))
        state = "SELECT (relfilenode, relacl)::text FROM pg_class WHERE relname = 'event_log'"
        before = await connection.fetchval(state)
        await connection.execute(attempt)
        assert await connection.fetchval(state) == before
    assert [message.severity for message in told] == ["WARNING"]


@pytest.mark.parametrize("part", ["application", "reader", "archivist"])
@pytest.mark.parametrize("command", ["SET ROLE", "SET SESSION AUTHORIZATION"])
async def test_a_role_cannot_become_the_owner(lab: Lab, part: str, command: str) -> None:
    async with administrating(lab.urls[part]) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"{command} {lab.names['owner']}")


async def test_the_triggers_refuse_the_owner_too(lab: Lab) -> None:
    async with administrating(lab.urls["owner"]) as connection:
        for statement in (
            "UPDATE event_log SET ts = ts",
            "DELETE FROM event_log",
            "TRUNCATE event_log CASCADE",
        ):
            with pytest.raises(asyncpg.RestrictViolationError):
                await connection.execute(statement)


async def test_every_relation_and_function_is_the_owners_and_nothing_is_anybodys(lab: Lab) -> None:
    """A migration that adds a table must define the rights of each role on it."""
    async with administrating(lab.admin_url) as connection:
        listed = {row["relation"] for row in await connection.fetch(LIST_RIGHTS, "public")}
        relations = await connection.fetch("""
            SELECT relname, pg_get_userbyid(relowner) AS owner, relacl::text AS rights FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'S')
        """)
        functions = await connection.fetch("""
            SELECT pg_get_userbyid(proowner) AS owner FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace
        """)
    assert {row["relname"] for row in relations} == listed
    assert {row["owner"] for row in [*relations, *functions]} == {lab.names["owner"]}
    assert [
        row["relname"] for row in relations if "{=" in row["rights"] or ",=" in row["rights"]
    ] == []


@pytest.mark.parametrize(
    "path", ["/", "/failures", "/definitions", "/fleet", "/search", "/flows/{}.html"]
)
async def test_the_reader_explores(lab: Lab, path: str) -> None:
    async with await open_pool(lab.urls["reader"], max_size=1) as pool:
        app = explorer(PoolProvider(pool))
        assert await status_of(app, path.format(lab.flow_id)) == 200
        assert (await find_feed_end(PoolProvider(pool))) > 0  # a page follows the log by it


async def status_of(app: ASGIApp, path: str) -> int:
    """Return the status with which an application answers GET."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"q=abcd",
        "headers": [(b"host", b"localhost")],
    }
    await app(scope, receive, send)
    status: int = sent[0]["status"]
    return status


async def test_only_the_owner_migrates(lab: Lab) -> None:
    later = Migration(
        len(known_migrations()) + 1, "later", "1" * 64, ("CREATE TABLE later (a integer)",)
    )
    for part in ("application", "reader", "archivist"):
        async with administrating(lab.urls[part]) as connection:
            await migrate(connection, "public")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await migrate(connection, "public", [*known_migrations(), later])
    async with administrating(lab.urls["owner"]) as connection, connection.transaction():
        await migrate(connection, "public", [*known_migrations(), later])
        assert await connection.fetchval("SELECT count(*) FROM later") == 0
        await connection.execute(
            f"DROP TABLE later; DELETE FROM schema_migrations WHERE name = '{later.name}'"
        )


async def test_a_login_may_migrate_as_the_owner(lab: Lab) -> None:
    """What its migration creates belongs to the owner, not to the login."""
    url, owner = lab.urls["owner"], lab.names["owner"]
    option = f"{'&' if '?' in url else '?'}options=-c%20role%3D{owner}"
    async with await build_pool(url + option, max_size=1) as pool:
        assert await pool.fetchval("SELECT current_user") == owner


async def test_a_pool_on_a_schema_that_is_behind_says_what_the_role_may_not(
    server: TestServer,
) -> None:
    async with server.database(template="template0") as url, a_login(url) as login:
        with pytest.raises(StoreError, match="permission denied") as caught:
            await build_pool(as_user(url, login, PASSWORD), schema="lab")
        assert caught.value.sqlstate == NOT_PERMITTED


@asynccontextmanager
async def a_login(url: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    async with administrating(url) as connection:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    try:
        yield name
    finally:
        await drop_roles(url, [name])


async def rights_of(connection: Connection) -> list[Any]:
    rows = await connection.fetch("""
        SELECT oid, relacl::text, relowner FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT oid, nspacl::text, nspowner FROM pg_namespace
        WHERE nspname = 'public' ORDER BY 1
    """)
    return [tuple(row) for row in rows]


async def test_dividing_the_rights_again_changes_nothing(lab: Lab) -> None:
    async with administrating(lab.admin_url) as connection:
        before = await rights_of(connection)
        await create_roles(connection, **lab.names)
        assert await rights_of(connection) == before


async def test_rights_that_were_given_before_are_taken_away(lab: Lab) -> None:
    async with administrating(lab.admin_url) as connection:
        before = await rights_of(connection)
        await connection.execute(
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {lab.names['reader']}, PUBLIC;"
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {lab.names['application']};"
            f"GRANT UPDATE (ts) ON event_log TO {lab.names['application']};"
            f"GRANT ALL ON SCHEMA public TO {lab.names['application']}, PUBLIC"
        )
        assert await rights_of(connection) != before
        await create_roles(connection, **lab.names)
        assert await rights_of(connection) == before


@pytest.mark.parametrize(
    ("statement", "excess"),
    [
        ("ALTER ROLE {application} SUPERUSER", "superuser"),
        ("ALTER ROLE {reader} CREATEROLE", "superuser, or may bypass"),
        ("GRANT {owner} TO {application}", "is a member of"),
        ("GRANT {application} TO {reader}", "is a member of"),
        ("GRANT {archivist} TO {application}", "is a member of"),
        ("GRANT pg_write_all_data TO {application}", "may UPDATE event_log"),
    ],
)
async def test_a_role_that_could_do_more_is_refused_and_nothing_changes(
    lab: Lab, statement: str, excess: str
) -> None:
    async with administrating(lab.admin_url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(statement.format(**lab.names))
        await connection.execute(f"GRANT INSERT ON event_log TO {lab.names['reader']}")
        before = await rights_of(connection)
        with pytest.raises(InvalidArgument, match=excess):
            await create_roles(connection, **lab.names)
        assert await rights_of(connection) == before
        await transaction.rollback()


async def test_roles_for_a_schema_that_was_not_migrated_are_refused(lab: Lab) -> None:
    async with administrating(lab.admin_url) as connection:
        with pytest.raises(
            MigrationError, match=r"'elsewhere' lacks .*event_log, .*migrate it first"
        ):
            await create_roles(
                connection,
                schema="elsewhere",
                owner="a",
                application="b",
                reader="c",
                archivist="d",
            )
        assert not await connection.fetchval(
            "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'a')"
        )


async def test_a_role_that_may_not_divide_rights_is_told_so(lab: Lab) -> None:
    async with administrating(lab.urls["application"]) as connection:
        with pytest.raises(StoreError) as caught:
            await create_roles(connection, **lab.names)
    assert caught.value.sqlstate == NOT_PERMITTED


HOSTILE = [
    'a "quoted" name',
    "'; DROP TABLE event_log; --",
    '"; DROP TABLE event_log; --',
    "semi;colon, comma",
    "line\nbreak\ttab",
    "per%cent %I %s $1",
    "back\\slash",
    " spaces ",
    "分子🧪",
    "é" * 31,
    "a" * 63,
    "select",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_names_are_quoted(server: TestServer, name: str) -> None:
    ending = uuid4().hex[:6]
    names = RoleNames(
        *(f"{name.encode()[: 63 - 8].decode(errors='ignore')}{part}{ending}" for part in "oarv")
    )
    async with server.database(template="template0") as url:
        async with (
            await build_pool(url, max_size=1, schema=name) as pool,
            pool.acquire() as connection,
        ):
            await create_roles(connection, schema=name, **msgspec.structs.asdict(names))
            await connection.execute(f"SET ROLE {quoted(names.application)}")
            assert await connection.fetchval("SELECT count(*) FROM event_log") == 0
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("DELETE FROM event_log")
            await connection.execute("RESET ROLE")
            assert (
                await connection.fetchval(
                    "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'event_log'"
                )
                == names.owner
            )
        await drop_roles(url, list(msgspec.structs.astuple(names)))


@pytest.mark.parametrize("argument", ["owner", "application", "reader", "archivist"])
@pytest.mark.parametrize(
    "name", ["", "a" * 64, "é" * 32, "nul\0", "\ud800", "pg_mine", "pg_\n", "public", "none"]
)
async def test_a_name_that_the_server_cannot_keep_is_refused(
    lab: Lab, argument: str, name: str
) -> None:
    async with administrating(lab.admin_url) as connection:
        with pytest.raises(InvalidArgument) as caught:
            await create_roles(connection, **{argument: name})
    assert caught.value.name == argument


async def test_one_role_cannot_have_two_parts(lab: Lab) -> None:
    async with administrating(lab.admin_url) as connection:
        with pytest.raises(InvalidArgument, match="four different roles"):
            await create_roles(connection, owner="lab", application="lab")


async def schema_with_roles(url: str, schema: str, prefix: str) -> tuple[str, RoleNames]:
    """Store an event in a schema and divide its rights by default; return a reader's login."""
    async with await build_pool(url, schema=schema, max_size=1) as pool:
        await PgEventStore(PoolProvider(pool)).append_kind(new_flow_id(), initialized())
        async with pool.acquire() as connection:
            await create_roles(connection, schema=schema)
    login, names = f"login_{prefix}", usual_names(schema)
    async with administrating(url) as administrator:
        await administrator.execute(
            f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' IN ROLE {quoted(names.application)}"
        )
    return login, names


@pytest.mark.parametrize("endings", [["a", "b"], ["A b", "a b"], ['q"uote', "Größe", "x" * 24]])
async def test_a_login_of_one_schema_can_do_nothing_in_another(
    empty_database_url: str, endings: list[str]
) -> None:
    run, logins, roles = uuid4().hex[:8], [], list[str]()
    schemas = [f"{run}{ending}" for ending in endings]
    try:
        for number, schema in enumerate(schemas):
            login, names = await schema_with_roles(empty_database_url, schema, f"{run}_{number}")
            logins.append(login)
            roles += msgspec.structs.astuple(names)
        assert len(set(roles)) == 4 * len(schemas)
        for own, login in zip(schemas, logins, strict=True):
            url = as_user(empty_database_url, login, PASSWORD)
            connection = await asyncpg.connect(url)
            for schema in schemas:
                query = f"SELECT count(*) FROM {quoted(schema)}.event_log"
                if schema == own:
                    assert await connection.fetchval(query) == 1
                    continue
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetchval(query)
            await connection.close()
    finally:
        await drop_roles(empty_database_url, [*logins, *roles])


def test_the_roles_of_public_keep_their_names() -> None:
    assert usual_names("public") == RoleNames(
        "chem_owner", "chem_application", "chem_reader", "chem_archivist"
    )
    assert usual_names("lab").reader == "chem_reader_lab"


async def test_a_schema_whose_name_is_too_long_for_its_roles_needs_names(
    empty_database_url: str,
) -> None:
    async with administrating(empty_database_url) as administrator:
        with pytest.raises(InvalidArgument, match="must have 1 to 63 bytes") as caught:
            await create_roles(administrator, schema="x" * 60)
    assert caught.value.name == "owner"


async def test_a_role_that_may_append_still_may_after_the_migration_that_adds_the_leases(
    empty_database_url: str,
) -> None:
    known = known_migrations()
    names = [f"old_{part}_{uuid4().hex[:12]}" for part in ("application", "reader", "other")]
    async with administrating(empty_database_url) as owner:
        await migrate(owner, "public", known[:11])
        for name in names:
            await owner.execute(f"CREATE ROLE {name}")
        await owner.execute(f"GRANT SELECT, INSERT ON event_log TO {names[0]}")
        await owner.execute(f"GRANT SELECT ON event_log TO {names[1]}")
        await migrate(owner, "public", known)
        rows = await owner.fetch(
            "SELECT role, relation, ARRAY(SELECT privilege FROM"
            " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege"
            " WHERE has_table_privilege(role, relation, privilege)) AS rights"
            " FROM unnest($1::text[]) AS role,"
            " unnest(ARRAY['flow_runs', 'flow_workers', 'resource_slots',"
            " 'resource_waits', 'feed_consumers', 'feed_parked', 'imported_flows']) AS relation",
            names,
        )
    rights = {name: {tuple(row["rights"]) for row in rows if row["role"] == name} for name in names}
    await drop_roles(empty_database_url, names)
    assert list(rights.values()) == [
        {("SELECT", "INSERT", "UPDATE", "DELETE"), ("SELECT", "INSERT")},
        {("SELECT",)},
        {()},
    ]


async def readable_by(login: str, url: str, schema: str) -> bool:
    """Return whether a login may read the log of a schema of a database."""
    connection = await asyncpg.connect(as_user(url, login, PASSWORD))
    try:
        await connection.fetchval(f"SELECT count(*) FROM {quoted(schema)}.event_log")
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await connection.close()
    return True


@pytest.mark.parametrize("ending", ["lab", "A b", 'q"uote'])
async def test_26_the_roles_of_another_databases_log_are_not_taken_by_default(
    server: TestServer, ending: str
) -> None:
    run = uuid4().hex[:8]
    schema, own = f"{run}{ending}", {part: f"{part}_{run}" for part in RoleNames.__struct_fields__}
    names = usual_names(schema)
    roles, login = msgspec.structs.astuple(names), f"login_{run}_1"
    try:
        async with (
            server.database(template="template0") as url,
            server.database(template="template0") as other,
        ):
            assert await schema_with_roles(url, schema, f"{run}_1") == (login, names)
            async with (
                await build_pool(other, schema=schema, max_size=1) as pool,
                pool.acquire() as connection,
            ):
                with pytest.raises(InvalidArgument, match="has rights in database") as caught:
                    await create_roles(connection, schema=schema)
                assert caught.value.name == f"role {names.application!r}"
                await create_roles(connection, schema=schema, **own)
                assert await readable_by(login, url, schema)
                assert not await readable_by(login, other, schema)
                await create_roles(connection, schema=schema, **msgspec.structs.asdict(names))
                assert await readable_by(login, other, schema), "they were named"
            async with administrating(url) as administrator:
                await create_roles(administrator, schema=schema)  # as after a migration
    finally:
        await drop_roles(server.url, [login, *roles, *own.values()])


async def test_26_the_roles_of_a_database_that_is_gone_are_taken(server: TestServer) -> None:
    run = uuid4().hex[:8]
    names, logins = usual_names(run), [f"login_{run}_1", f"login_{run}_2"]
    try:
        for number in (1, 2):
            async with server.database(template="template0") as url:
                assert await schema_with_roles(url, run, f"{run}_{number}") == (
                    f"login_{run}_{number}",
                    names,
                )
    finally:
        await drop_roles(server.url, [*logins, *msgspec.structs.astuple(names)])

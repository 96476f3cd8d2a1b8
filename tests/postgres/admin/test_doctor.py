"""What doctor finds: each fault is really made in a database, and doctor names it and a remedy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from chem_persistence import PgEventStore, PoolProvider, build_pool
from chem_persistence.postgres.admin.doctor.examination import examine
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.admin.doctor.rights import RoleNames
from chem_persistence.postgres.admin.doctor.server import judge_server
from chem_persistence.postgres.admin.doctor.storage import check_old_transactions
from chem_persistence.postgres.admin.roles import create_roles
from chem_persistence.postgres.connection.pool import open_pool
from chem_persistence.postgres.schema.migrations import known_migrations
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.roles import new_role


class ShiftedClock:
    """A clock with a constant error."""

    def __init__(self, shift: timedelta) -> None:
        self._shift = shift

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift


async def findings(url: str, **options: object) -> list[CheckResult]:
    """Return the results of doctor that are not ok, notes included."""
    async with await open_pool(url, max_size=1) as pool:
        results = await examine(PoolProvider(pool), "public", **options)  # type: ignore[arg-type]
    return [result for result in results if result.severity is not Severity.OK]


async def bad(url: str, **options: object) -> list[CheckResult]:
    return [
        result for result in await findings(url, **options) if result.severity is not Severity.NOTE
    ]


@asynccontextmanager
async def administrator(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def named(url: str) -> str:
    return urlsplit(url).path[1:]


async def after(url: str, *statements: str) -> CheckResult:
    """Run the statements, and return the only bad result of doctor after them."""
    async with administrator(url) as connection:
        for statement in statements:
            await connection.execute(statement)
    (found,) = await bad(url)
    return found


async def cured(url: str, found: CheckResult) -> bool:
    """Run the remedy that a result names; return whether nothing is bad then."""
    assert found.remedy is not None
    async with administrator(url) as connection:
        await connection.execute(found.remedy)
    return await bad(url) == []


async def test_a_migrated_database_is_sound_but_its_superuser_is_noted(admin_url: str) -> None:
    assert await bad(admin_url) == []
    (note,) = await findings(admin_url)
    assert (note.check, note.severity) == ("rights", Severity.NOTE)
    assert "is a superuser" in note.finding


async def test_a_missing_index_is_found_and_its_statement_brings_it_back(admin_url: str) -> None:
    found = await after(admin_url, "DROP INDEX event_log_first_event_idx")
    assert (found.check, found.severity) == ("indexes", Severity.ERROR)
    assert found.finding == "index event_log_first_event_idx is missing"
    assert await cured(admin_url, found)


async def test_an_index_that_was_not_built_to_its_end_is_found(admin_url: str) -> None:
    invalid = (
        "UPDATE pg_index SET indisvalid = false "
        "WHERE indexrelid = 'event_log_completed_idx'::regclass"
    )
    found = await after(admin_url, invalid)
    assert found.finding == "index event_log_completed_idx is invalid: its build was not completed"
    assert await cured(admin_url, found)


async def test_an_index_of_other_rows_is_found(admin_url: str) -> None:
    found = await after(
        admin_url,
        "DROP INDEX event_log_first_event_idx",
        "CREATE INDEX event_log_first_event_idx ON event_log (ts)",
    )
    assert found.finding == "index event_log_first_event_idx differs from the library's"
    assert await cured(admin_url, found)


async def test_a_disabled_trigger_is_found(admin_url: str) -> None:
    found = await after(admin_url, "ALTER TABLE event_log DISABLE TRIGGER event_log_append_only")
    assert (found.check, found.severity) == ("triggers", Severity.ERROR)
    assert (
        found.finding
        == "trigger event_log_append_only is disabled: history in event_log can be changed"
    )
    assert await cured(admin_url, found)


async def test_a_trigger_that_is_gone_is_found(admin_url: str) -> None:
    found = await after(
        admin_url, "DROP TRIGGER workflow_step_artifacts_no_truncate ON workflow_step_artifacts"
    )
    assert (found.check, found.finding) == (
        "triggers",
        "trigger workflow_step_artifacts_no_truncate is missing",
    )
    assert await cured(admin_url, found)


async def test_triggers_that_a_setting_silences_are_found(admin_url: str) -> None:
    found = await after(
        admin_url, f"ALTER DATABASE {named(admin_url)} SET session_replication_role = replica"
    )
    assert found.check == "triggers"
    assert "do not fire" in found.finding
    assert await cured(admin_url, found)


async def test_a_missing_constraint_is_found(admin_url: str) -> None:
    found = await after(
        admin_url, "ALTER TABLE event_log DROP CONSTRAINT event_log_flow_version_key"
    )
    assert found.finding == "table event_log: constraint event_log_flow_version_key is missing"
    assert await cured(admin_url, found)


async def test_a_foreign_key_that_is_gone_is_found(admin_url: str) -> None:
    found = await after(
        admin_url,
        "ALTER TABLE workflow_step_artifact_uses "
        "DROP CONSTRAINT workflow_step_artifact_uses_artifact_fkey",
    )
    assert "workflow_step_artifact_uses_artifact_fkey" in found.finding
    assert await cured(admin_url, found)


async def test_a_changed_domain_is_found(admin_url: str) -> None:
    found = await after(
        admin_url,
        "ALTER DOMAIN event_type_name DROP CONSTRAINT event_type_name_check",
        "ALTER DOMAIN event_type_name ADD CONSTRAINT event_type_name_check CHECK (VALUE <> '')",
    )
    assert found.finding == "domain event_type_name differs from the library's"
    assert await cured(admin_url, found)


async def test_a_changed_column_is_found(admin_url: str) -> None:
    found = await after(admin_url, "ALTER TABLE flow_snapshots ALTER COLUMN state DROP NOT NULL")
    assert found.finding.startswith(
        "table flow_snapshots: column state is not as the migrations made it"
    )


async def test_a_changed_function_is_found(admin_url: str) -> None:
    found = await after(
        admin_url,
        "CREATE OR REPLACE FUNCTION refuse_change_of_history() RETURNS trigger LANGUAGE plpgsql "
        "AS $$BEGIN RETURN NULL; END$$",
    )
    assert found.finding == "function refuse_change_of_history differs from the library's"
    assert str(found.remedy).endswith("schema_f5.sql # run its statement")


async def test_what_others_have_in_the_schema_is_no_concern(admin_url: str) -> None:
    async with administrator(admin_url) as connection:
        await connection.execute("CREATE TABLE laboratory (bench integer PRIMARY KEY)")
    assert await bad(admin_url) == []


async def test_a_database_without_the_tables_is_said_to_have_none(empty_database_url: str) -> None:
    (found,) = await bad(empty_database_url)
    assert (found.check, found.severity) == ("schema", Severity.ERROR)
    assert (found.finding, found.remedy) == (
        "schema public has no tables of this library",
        "chem-persistence migrate",
    )


async def test_a_schema_that_is_behind_is_named_with_what_is_missing(admin_url: str) -> None:
    last = known_migrations()[-1]
    found = await after(admin_url, f"DELETE FROM schema_migrations WHERE version = {last.version}")
    assert (
        found.finding == f"schema public is behind this library by 1: {last.version:04} {last.name}"
    )
    assert found.remedy == "chem-persistence migrate"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "INSERT INTO schema_migrations VALUES (9999, 'future', repeat('a', 64), now())",
            "newer than this library",
        ),
        (
            "UPDATE schema_migrations SET checksum = repeat('b', 64) WHERE version = 2",
            "applied from a file that differs",
        ),
    ],
)
async def test_a_schema_of_another_library_is_named(
    admin_url: str, statement: str, said: str
) -> None:
    found = await after(admin_url, statement)
    assert (found.check, found.severity) == ("schema", Severity.ERROR)
    assert said in found.finding


async def test_a_setting_that_loses_acknowledged_appends_is_found(admin_url: str) -> None:
    found = await after(
        admin_url, f"ALTER DATABASE {named(admin_url)} SET synchronous_commit = off"
    )
    assert (found.check, found.severity) == ("settings", Severity.ERROR)
    assert "loses the last acknowledged appends" in found.finding
    assert await cured(admin_url, found)


async def test_a_read_only_database_is_found(admin_url: str) -> None:
    found = await after(
        admin_url, f"ALTER DATABASE {named(admin_url)} SET default_transaction_read_only = on"
    )
    assert found.finding == "transactions are read-only: appends fail"


async def test_a_database_that_cannot_hold_every_text_is_found(admin_url: str) -> None:
    name = f"latin_{uuid4().hex}"
    async with administrator(admin_url) as connection:
        await connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' "
            "LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        try:
            found = await bad(admin_url.replace(named(admin_url), name))
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert any("is encoded in LATIN1" in result.finding for result in found)


def test_a_server_that_is_too_old_is_told_nothing_else() -> None:
    (found,) = judge_server({"server_version": "14.9", "major_version": 14})
    assert (found.severity, found.finding) == (
        Severity.ERROR,
        "PostgreSQL 14.9 is too old: the library needs 15 or newer",
    )


@pytest.mark.parametrize(
    ("shift", "said"), [(timedelta(hours=1), "behind"), (-timedelta(hours=1), "ahead of")]
)
async def test_a_clock_that_is_wrong_is_found(
    database_url: str, shift: timedelta, said: str
) -> None:
    (found,) = await bad(database_url, clock=ShiftedClock(shift))
    assert (found.check, found.severity) == ("clock", Severity.WARNING)
    assert f"s {said} this machine's" in found.finding
    assert found.finding.startswith("the server's clock is 3,")


async def test_a_flow_that_begins_in_the_future_is_found(database_url: str) -> None:
    async with await build_pool(database_url) as pool:
        store = PgEventStore(PoolProvider(pool), clock=ShiftedClock(timedelta(days=1)))
        await store.append_kind(new_flow_id(), initialized())
    (found,) = await bad(database_url)
    assert (found.check, found.severity) == ("clock", Severity.WARNING)
    assert "in the future" in found.finding


async def test_dead_rows_are_found(admin_url: str) -> None:
    found = await after(
        admin_url,
        "ALTER TABLE workflow_step_executions SET (autovacuum_enabled = false)",
        "INSERT INTO workflow_step_executions "
        "(flow_id, step_index, step_id, status, attempts, retry_count) "
        "SELECT gen_random_uuid(), 0, 'weigh', 'running', 1, 0 FROM generate_series(1, 11000)",
        "UPDATE workflow_step_executions SET status = 'finished'",
        "ALTER TABLE workflow_step_executions RESET (autovacuum_enabled)",
        "SELECT pg_stat_force_next_flush()",
    )
    assert (found.check, found.severity) == ("bloat", Severity.WARNING)
    assert found.finding == "workflow_step_executions has 11,000 dead rows and 11,000 live ones"
    assert found.remedy == "VACUUM (ANALYZE) public.workflow_step_executions;"


async def test_a_transaction_that_is_open_for_long_is_found(admin_url: str) -> None:
    async with administrator(admin_url) as idle, administrator(admin_url) as connection:
        await idle.execute("BEGIN")
        (pid,) = await idle.fetchrow("SELECT pg_backend_pid()") or (None,)
        results = await check_old_transactions(connection, timedelta(0))
        (found,) = [result for result in results if f"session {pid} of" in result.finding]
        assert found.remedy == f"SELECT pg_terminate_backend({pid});"
        await idle.execute("ROLLBACK")


async def test_more_pools_than_the_server_has_connections_for_are_found(database_url: str) -> None:
    (found,) = await bad(database_url, pool_size=1_000, processes=10)
    assert (found.check, found.severity) == ("connections", Severity.ERROR)
    assert "10 pools of 1000 need 10000" in found.finding


async def test_the_connection_limit_of_a_database_is_found(
    admin_url: str, names: RoleNames
) -> None:
    async with administrator(admin_url) as connection, new_role(admin_url) as role:
        await connection.execute(f"GRANT {names.application} TO {role.name}")
        await connection.execute(f"ALTER DATABASE {named(admin_url)} CONNECTION LIMIT 4")
        (found,) = await bad(role.url, role_names=names)
        assert found.finding == "the database allows 4 connections, 1 pools of 10 need 10"
        await connection.execute(str(found.remedy))
        assert await bad(role.url, role_names=names) == []


async def test_the_connection_limit_of_a_role_is_found(admin_url: str, names: RoleNames) -> None:
    async with (
        administrator(admin_url) as connection,
        new_role(admin_url, "CONNECTION LIMIT 3") as role,
    ):
        await connection.execute(f"GRANT {names.application} TO {role.name}")
        (found,) = await bad(role.url, role_names=names)
        assert found.finding == "the role allows 3 connections, 1 pools of 10 need 10"
        await connection.execute(str(found.remedy))
        assert await findings(role.url, role_names=names) == []


@pytest.fixture
async def names(admin_url: str) -> AsyncIterator[RoleNames]:
    """Divide the rights among new roles, and drop them."""
    ending = uuid4().hex[:8]
    names = RoleNames(*(f"{part}_{ending}" for part in RoleNames.__struct_fields__))
    async with administrator(admin_url) as connection:
        await create_roles(connection, **msgspec.structs.asdict(names))
        yield names
        for role in msgspec.structs.astuple(names):
            await connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


async def test_a_role_without_rights_is_told_whose_member_to_be(
    admin_url: str, names: RoleNames
) -> None:
    async with new_role(admin_url) as role, administrator(admin_url) as connection:
        found = {result.check: result for result in await bad(role.url, role_names=names)}["rights"]
        assert found.severity is Severity.ERROR
        assert found.finding.startswith(f"role {role.name} may not SELECT ")
        assert found.remedy == f"GRANT {names.reader} TO {role.name};"
        await connection.execute(found.remedy)
        (note,) = await findings(role.url, role_names=names)
        assert note.finding == f"role {role.name} may read, and not append"
        assert note.remedy is None, "a member of the reader role is one on purpose"
        await connection.execute(f"GRANT {names.application} TO {role.name}")
        assert await findings(role.url, role_names=names) == []


async def test_a_role_that_may_read_and_is_no_reader_is_told_whose_member_to_be(
    admin_url: str, names: RoleNames
) -> None:
    async with new_role(admin_url) as role, administrator(admin_url) as connection:
        await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role.name}")
        await connection.execute(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role.name}")
        (note,) = await findings(role.url, role_names=names)
        assert note.finding == f"role {role.name} may read, and not append"
        assert note.remedy == f"GRANT {names.application} TO {role.name};"
        await connection.execute(note.remedy)
        assert await findings(role.url, role_names=names) == []


async def test_a_role_that_may_change_history_is_found(admin_url: str, names: RoleNames) -> None:
    async with new_role(admin_url) as role, administrator(admin_url) as connection:
        await connection.execute(f"GRANT {names.application} TO {role.name}")
        await connection.execute(f"GRANT DELETE ON event_log TO {role.name}")
        (found,) = await bad(role.url, role_names=names)
    assert found.finding == f"role {role.name} may DELETE event_log: it could do more than append"


async def test_a_schema_that_is_not_there_is_found_where_there_are_roles(
    admin_url: str, names: RoleNames
) -> None:
    async with await open_pool(admin_url, max_size=1, schema="nowhere") as pool:
        results = await examine(PoolProvider(pool), "nowhere", role_names=names)
    (found,) = [result for result in results if result.severity is Severity.ERROR]
    assert found.finding == "schema nowhere has no tables of this library"
    assert found.remedy == "chem-persistence migrate --schema nowhere"


async def test_what_is_typed_about_a_schema_names_it(admin_url: str) -> None:
    missing = RoleNames(*(f"missing_{part}" for part in RoleNames.__struct_fields__))
    async with await build_pool(admin_url, max_size=1, schema="my lab") as pool:
        results = await examine(PoolProvider(pool), "my lab", role_names=missing)
    (note,) = [result for result in results if result.severity is not Severity.OK]
    assert note.remedy == (
        "chem-persistence roles --database-url SUPERUSER_URL"
        " --owner missing_owner --application missing_application --reader missing_reader "
        "--archivist missing_archivist "
        "--schema 'my lab'"
        " # then let programs be members of missing_application"
    )


async def test_a_right_that_the_application_lost_is_found(admin_url: str, names: RoleNames) -> None:
    async with administrator(admin_url) as connection:
        await connection.execute(f"REVOKE INSERT ON event_log FROM {names.application}")
    (found,) = await bad(admin_url, role_names=names)
    assert found.finding == f"role {names.application} may not INSERT event_log"
    assert found.remedy == (
        "chem-persistence roles --database-url SUPERUSER_URL"
        f" --owner {names.owner} --application {names.application} --reader {names.reader}"
        f" --archivist {names.archivist}"
    )


async def test_a_right_that_the_reader_should_not_have_is_found(
    admin_url: str, names: RoleNames
) -> None:
    async with administrator(admin_url) as connection:
        await connection.execute(f"GRANT TRUNCATE ON event_log TO {names.reader}")
    (found,) = await bad(admin_url, role_names=names)
    assert (
        found.finding
        == f"role {names.reader} may TRUNCATE event_log: it could do more than its part"
    )

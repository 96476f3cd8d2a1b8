"""The one CHECK of event_log: it refuses the rows that six refused, and holds up no append."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chem_persistence import MigrationError, PgEventStore, PoolProvider
from chem_persistence.domain.events import EVENT_KINDS
from chem_persistence.postgres.admin.doctor.examination import examine
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.pool import open_pool
from chem_persistence.postgres.schema.describe import describe_schema
from chem_persistence.postgres.schema.migrations import (
    Migration,
    known_migrations,
    migrate,
    validate_constraints,
)
from tests.support.examples import examples
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.write_snapshot import HEADER, SNAPSHOT

pytestmark = pytest.mark.superuser

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Row: TypeAlias = tuple[Any, Any, Any, Any, Any]

BEFORE = next(each.version for each in known_migrations() if each.name == "one_check") - 1
KNOWN = sorted(EVENT_KINDS)
TWO_TABLES = """
    CREATE TABLE {0} (LIKE event_log INCLUDING CONSTRAINTS);
    ALTER TABLE {0} DROP COLUMN seq, DROP COLUMN flow_id, DROP COLUMN event_id, DROP COLUMN ts,
        ALTER version DROP NOT NULL, ALTER event_type DROP NOT NULL, ALTER payload DROP NOT NULL,
        ALTER metadata DROP NOT NULL, ALTER chain_hash DROP NOT NULL;
    CREATE FUNCTION {0}_refuses(version int, event_type text, payload text, metadata text,
        chain_hash bytea) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO {0} VALUES (version, event_type, payload::jsonb, metadata::jsonb, chain_hash);
        RETURN false;
    EXCEPTION WHEN check_violation THEN
        RETURN true;
    END $$
"""
"""A table with the constraints of event_log and nulls allowed, and what tries a row there."""


@pytest.fixture
async def before(empty_database_url: str) -> AsyncIterator[Connection]:
    """Connect to a log of the version that had six constraints."""
    connection = await asyncpg.connect(empty_database_url)
    await migrate(connection, "public", known_migrations()[:BEFORE])
    yield connection
    await connection.close()


@pytest.fixture
async def tables(before: Connection) -> Connection:
    """Connect to a database with a table of the old constraints, and one of the new."""
    await before.execute(TWO_TABLES.format("six"))
    await migrate(before, "public")
    await before.execute(TWO_TABLES.format("one"))
    counts = "SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND conrelid = $1::regclass"
    assert [await before.fetchval(counts, name) for name in ("six", "one")] == [6, 1]
    return before


def _of_type(name: str) -> str:
    return msgspec.json.encode({"type": name}).decode()


CHANGES: list[Callable[[str], str]] = [
    str.upper,
    str.title,
    "{}\n".format,
    " {}".format,
    "{},".format,
]
EVENT_TYPES = (
    st.sampled_from([*KNOWN, "", "stepskipped", "flowinitialized, stepstarted", "null", "{}"])
    | st.builds(lambda change, name: change(name), st.sampled_from(CHANGES), st.sampled_from(KNOWN))
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
)
JSON_TEXTS = [
    "{}",
    "[]",
    "null",
    "1",
    '"stepstarted"',
    '{"type": null}',
    '{"type": ["stepstarted"]}',
]
OTHERS = st.tuples(
    st.none() | st.integers(-2, 2) | st.sampled_from([2**31 - 1, -(2**31)]),
    st.none() | EVENT_TYPES,
    st.none() | st.sampled_from(JSON_TEXTS) | EVENT_TYPES.map(_of_type),
    st.none() | st.sampled_from(["{}", '{"a": 1}', "[]", "null", "1", '"{}"']),
    st.none() | st.sampled_from([0, 31, 32, 33]).map(bytes),
)
GOOD = EVENT_TYPES.map(lambda name: (0, name, _of_type(name), "{}", bytes(32)))


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """Return a row that may be accepted, some of whose values are replaced."""
    good, other = draw(GOOD), draw(OTHERS)
    version, name, payload, metadata, chain_hash = (
        replaced if draw(st.integers(0, 3)) == 0 else kept
        for kept, replaced in zip(good, other, strict=True)
    )
    return version, name, payload, metadata, chain_hash


@settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=examples(200),
    suppress_health_check=list(HealthCheck),
)
@given(row=rows())
@example(row=(None, None, None, None, None))
@example(row=(None, None, '{"type": "stepstarted"}', None, None))
async def test_one_constraint_refuses_the_rows_that_six_refused(
    tables: Connection, row: Row
) -> None:
    six, one = await refusals(tables, row)
    assert six == one


async def test_one_constraint_accepts_every_event_that_there_is(tables: Connection) -> None:
    for name in KNOWN:
        assert await refusals(tables, (0, name, _of_type(name), "{}", bytes(32))) == (False, False)


async def refusals(connection: Connection, row: Row) -> tuple[bool, bool]:
    """Return whether the table with six constraints refuses a row, and the one with one."""
    query = "SELECT six_refuses($1, $2, $3, $4, $5), one_refuses($1, $2, $3, $4, $5)"
    (answer,) = await connection.fetch(query, *row)
    return bool(answer[0]), bool(answer[1])


async def test_an_append_under_way_and_a_migration_do_not_wait_for_each_other(
    before: Connection, empty_database_url: str
) -> None:
    """Migrations that lock the steps and then the log begin with the log, as an append does."""
    locks_steps = Migration(
        BEFORE + 1, "locks_steps", "0" * 64, ("LOCK TABLE workflow_step_executions IN SHARE MODE",)
    )
    locks_log = Migration(
        BEFORE + 2, "locks_log", "1" * 64, ("LOCK TABLE event_log IN ACCESS EXCLUSIVE MODE",)
    )
    pending = [*known_migrations()[:BEFORE], locks_steps, locks_log]
    appending = await asyncpg.connect(empty_database_url)
    try:
        transaction = appending.transaction()
        await transaction.start()
        await appending.execute("LOCK TABLE event_log IN ROW EXCLUSIVE MODE")
        migrating = asyncio.create_task(migrate(before, "public", pending))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1"
        while not await appending.fetchval(waits, before.get_server_pid()):
            pass
        async with asyncio.timeout(60):
            await appending.execute("LOCK TABLE workflow_step_executions IN ROW EXCLUSIVE MODE")
            await transaction.commit()
            await migrating
    finally:
        await appending.close()


async def warnings(url: str) -> list[CheckResult]:
    """Return what `doctor` finds about constraints; a server may have other warnings."""
    async with await open_pool(url, max_size=1) as pool:
        results = await examine(PoolProvider(pool), "public")
    return [
        result
        for result in results
        if result.severity in {Severity.WARNING, Severity.ERROR} and "constraint" in result.finding
    ]


async def test_rows_from_before_are_checked_while_others_append_and_again_if_that_was_stopped(
    before: Connection, empty_database_url: str
) -> None:
    await before.execute(
        "ALTER TABLE event_log DROP CONSTRAINT event_log_metadata_check;"
        " INSERT INTO event_log (flow_id, version, event_id, ts, event_type, payload, metadata,"
        " chain_hash) VALUES (gen_random_uuid(), 0, gen_random_uuid(), now(), 'stepstarted',"
        """ '{"type": "stepstarted"}', '[]', sha256('x'));"""
        " ALTER TABLE event_log ADD CONSTRAINT event_log_metadata_check"
        " CHECK (jsonb_typeof(metadata) = 'object') NOT VALID"
    )
    with pytest.raises(MigrationError, match="do not satisfy event_log_check"):
        await migrate(before, "public")
    (warning,) = await warnings(empty_database_url)
    assert "rows from before constraint event_log_check are not checked" in warning.finding
    assert warning.remedy == "chem-persistence migrate"
    async with await open_pool(empty_database_url, max_size=2) as pool:
        store = PgEventStore(PoolProvider(pool))
        async with store.transaction() as transaction, asyncio.timeout(60):
            event = await transaction.append_kind(new_flow_id(), initialized())
            await before.execute(
                "SET session_replication_role = replica; DELETE FROM event_log WHERE version = 0"
            )
            assert await validate_constraints(before, "public") == ["event_log_check"]
        assert await store.list(event.flow_id) == [event]
    assert await validate_constraints(before, "public") == []
    assert await warnings(empty_database_url) == []
    described = HEADER + await describe_schema(before, "public")
    assert described == SNAPSHOT.read_text(encoding="utf-8")

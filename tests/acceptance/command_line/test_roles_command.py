"""`python -m chem_persistence roles`, as an operator types it."""

import json
import subprocess
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from chem_persistence import PgEventStore, PoolProvider, StoreError, build_pool
from tests.support.commands import command
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.roles import PASSWORD, as_user, new_role


async def roles(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return await command("roles", *arguments)


@pytest.fixture
async def names(empty_database_url: str) -> AsyncIterator[dict[str, str]]:
    """Yield names of roles that do not exist; drop the roles that got them, and their logins."""
    ending = uuid4().hex[:8]
    names = {
        part: f"test_{part}_{ending}" for part in ("owner", "application", "reader", "archivist")
    }
    yield names
    connection = await asyncpg.connect(empty_database_url)
    found = await connection.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE $1", f"%{ending}"
    )
    for row in found:
        await connection.execute(
            f"DROP OWNED BY {row['rolname']} CASCADE; DROP ROLE {row['rolname']}"
        )
    await connection.close()


def options(names: dict[str, str]) -> list[str]:
    return [word for part, name in names.items() for word in (f"--{part}", name)]


async def test_an_empty_database_gets_the_schema_and_its_roles(
    empty_database_url: str, names: dict[str, str]
) -> None:
    done = await roles("--database-url", empty_database_url, "--schema", "lab", *options(names))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"owner        {names['owner']}: owns schema lab, and migrates it",
        f"application  {names['application']}: reads and appends",
        f"reader       {names['reader']}: reads",
        f"archivist    {names['archivist']}: reads, seals and archives",
        "Nobody can log in as these: grant them to roles that can.",
    ]


async def test_a_login_that_is_granted_the_application_role_appends_and_does_no_more(
    empty_database_url: str, names: dict[str, str]
) -> None:
    await roles("--database-url", empty_database_url, *options(names))
    login = f"login_{names['application']}"
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(
        f"CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' IN ROLE {names['application']}"
    )
    await connection.close()
    async with await build_pool(as_user(empty_database_url, login, PASSWORD), max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))
        event = await store.append_kind(new_flow_id(), initialized())
        assert await store.list(event.flow_id) == [event]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("DELETE FROM event_log")
    with pytest.raises(StoreError) as caught:
        await build_pool(as_user(empty_database_url, login, PASSWORD), schema="another")
    assert caught.value.sqlstate == "42501"


async def test_json_is_one_object_and_a_second_run_changes_nothing(
    empty_database_url: str, names: dict[str, str]
) -> None:
    for _ in range(2):
        done = await roles("--database-url", empty_database_url, *options(names), "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {"schema": "public", **names}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["--database-url", "postgresql://nobody@localhost:1/none"],
            3,
            "error: the database is unavailable",
        ),
        (["--database-url", "mysql://localhost/none"], 2, "error: database URL: must begin with"),
        (
            ["--database-url", "postgresql://localhost/x?sslrootcert=/nowhere&sslmode=verify-full"],
            2,
            "sslrootcert",
        ),
    ],
)
async def test_a_mistake_is_one_clear_line(arguments: list[str], code: int, said: str) -> None:
    done = await roles(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


async def test_a_role_that_could_do_more_than_its_part_is_refused(
    empty_database_url: str, names: dict[str, str]
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    superuser = await connection.fetchval("SELECT current_user")
    await connection.close()
    done = await roles(
        "--database-url", empty_database_url, *options({**names, "application": superuser})
    )
    assert done.returncode == 2
    assert f"role {superuser!r}: is a superuser" in done.stderr


@pytest.mark.parametrize("right", ["CONNECT", "ALL"])
async def test_a_role_that_is_no_superuser_is_told_to_use_one(
    empty_database_url: str, names: dict[str, str], right: str
) -> None:
    async with new_role(empty_database_url) as role:
        connection = await asyncpg.connect(empty_database_url)
        database = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'GRANT {right} ON DATABASE "{database}" TO {role.name}')
        await connection.close()
        done = await roles("--database-url", role.url, "--schema", "lab", *options(names))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(
        "error: only a superuser may create roles and grant their rights: the database refused: "
    )
    assert done.stderr.count("\n") == 1

"""A pool that cannot be built raises quickly, hides the password, and leaves nothing behind."""

import asyncio
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from chem_persistence import (
    InvalidArgument,
    InvalidDatabaseUrl,
    MigrationError,
    StoreError,
    StoreUnavailable,
    build_dev_pool_from_env,
    build_pool,
    embedded_postgres,
)
from chem_persistence.postgres.connection.pool import open_pool
from chem_persistence.postgres.schema.migrations import known_migrations
from chem_persistence.postgres.schema.statements import statement
from tests.support.made_clusters import give_cluster
from tests.support.servers.roles import as_user, new_role
from tests.support.servers.server import TestServer

LOCK_MIGRATIONS = statement("migrations/lock_migrations")


Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Builder = Callable[..., Awaitable[Pool]]

SECRET = "benzene-ring-3141"
NOWHERE = "postgresql://ada@127.0.0.1:1/lab"


@pytest.fixture(params=["build_pool", "build_dev_pool_from_env"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """Return each of the two functions that build a pool from a URL."""

    async def from_env(url: str, **options: Any) -> Pool:
        monkeypatch.setenv("DATABASE_URL", url)
        return await build_dev_pool_from_env(**options)

    return build_pool if request.param == "build_pool" else from_env


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Yield a port that is bound but does not listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Yield a URL without a user; `guarded` needs a password there, and `outcast` is rejected."""
    directory = tmp_path_factory.mktemp("guarded")
    async with embedded_postgres(await give_cluster(directory)) as url:
        administrator = await asyncpg.connect(url)
        await administrator.execute(
            f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'; CREATE ROLE outcast LOGIN"
        )
        await administrator.execute("GRANT CREATE ON SCHEMA public TO guarded")
        await administrator.close()
    rules = directory / "cluster" / "pg_hba.conf"
    doors = "local all guarded scram-sha-256\nlocal all outcast reject\n"
    rules.write_text(doors + rules.read_text(encoding="utf-8"), encoding="utf-8")
    async with embedded_postgres(directory) as url:
        parts = urlsplit(url)
        yield urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def with_parameters(url: str, parameters: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameters}"


def everything_told(error: BaseException, log: pytest.LogCaptureFixture) -> str:
    """Return all that a log or a terminal could show of an error and its log records."""
    told = [*traceback.format_exception(error)]
    chain: BaseException | None = error
    while chain is not None:
        told += [str(chain), repr(chain), repr(chain.args), repr(vars(chain))]
        chain = chain.__cause__ or chain.__context__
    for record in log.records:
        told += [record.getMessage(), repr(vars(record))]
    return "\n".join(told)


@pytest.mark.parametrize("url", [None, ""])
async def test_a_missing_database_url_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(InvalidDatabaseUrl, match="DATABASE_URL is not set"):
        await build_dev_pool_from_env()


@pytest.mark.parametrize(
    "url",
    [
        " ",
        "lab",
        "localhost:5432/lab",
        "mysql://localhost/lab",
        "postgresql+asyncpg://localhost/lab",
        "postgresql:/localhost/lab",
        "host=localhost dbname=lab",
        "postgresql://localhost:port/lab",
        "postgresql://localhost:70000/lab",
        "postgresql://[::1/lab",
        "postgresql://localhost/lab?nonsense=1",
        "postgresql://localhost/lab?sslmode=maybe",
        "postgresql://localhost/lab?connect_timeout=soon",
        "postgresql://localhost/%zz",
    ],
)
async def test_a_malformed_url_is_refused_before_any_connection(build: Builder, url: str) -> None:
    with pytest.raises(InvalidDatabaseUrl, match=r"^database URL: "):
        await build(url)


async def test_an_empty_url_is_refused(build: Builder) -> None:
    with pytest.raises(InvalidDatabaseUrl):
        await build("")


@pytest.mark.parametrize("parameter", ["gssencmode=require", "channel_binding=require"])
async def test_a_protection_that_the_driver_cannot_give_is_refused(
    build: Builder, parameter: str
) -> None:
    with pytest.raises(InvalidDatabaseUrl, match=parameter.partition("=")[0]):
        await build(with_parameters(NOWHERE, parameter))


async def test_what_libpq_knows_and_the_driver_does_not_is_accepted(
    build: Builder, database_url: str
) -> None:
    url = with_parameters(database_url, "gssencmode=disable&application_name=x&connect_timeout=5")
    async with await build(url) as pool:
        assert await pool.fetchval("SHOW application_name") == "x"
        assert await pool.fetchval("SELECT count(*) FROM event_log") == 0


@pytest.mark.parametrize("sizes", [(-1, 1), (2, 1), (0, 0), (1, 0), (0, -1), (-2, -1)])
async def test_impossible_pool_sizes_are_refused_before_any_connection(
    build: Builder, sizes: tuple[int, int]
) -> None:
    with pytest.raises(
        InvalidArgument, match="min_size <= max_size and 1 <= max_size must hold"
    ) as caught:
        await build(NOWHERE, min_size=sizes[0], max_size=sizes[1])
    assert caught.value.name == "min_size"


async def test_a_closed_port_is_unavailable(build: Builder, closed_port: int) -> None:
    with pytest.raises(StoreUnavailable, match="unavailable") as caught:
        await build(f"postgresql://ada:{SECRET}@127.0.0.1:{closed_port}/lab")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.sqlstate is None


async def test_a_missing_socket_is_unavailable(build: Builder, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await build(f"postgresql://ada@/lab?host={tmp_path}")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".lab", "."])
async def test_a_host_that_no_host_can_be_called_is_refused(
    build: Builder, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidDatabaseUrl, match="host") as caught:
        await build(f"postgresql://ada:{SECRET}@{host}/lab")
    assert SECRET not in everything_told(caught.value, caplog)


@pytest.mark.parametrize(
    ("place", "hosts"),
    [
        ("ada:{secret}@one.invalid:5433/lab", "one.invalid"),
        ("ada@/lab?host=one.invalid&password={secret}", "one.invalid"),
        ("ada:{secret}@one.invalid,two.invalid:5433/lab", "one.invalid, two.invalid"),
        ("ada:{secret}@/lab", "variable.invalid"),
    ],
)
async def test_a_host_that_is_not_found_is_named(
    build: Builder,
    place: str,
    hosts: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PGHOST", "variable.invalid")
    with pytest.raises(StoreUnavailable) as caught:
        await build(f"postgresql://{place.format(secret=SECRET)}")
    assert caught.value.reason.endswith(f": {hosts}")
    assert isinstance(caught.value.__cause__, socket.gaierror)
    told = everything_told(caught.value, caplog)
    assert SECRET not in told
    assert "retry 3 follows" in told, "the retries were logged"


async def test_a_pool_that_opens_later_names_the_host_that_is_not_found() -> None:
    async with await open_pool("postgresql://ada@one.invalid/lab") as pool:
        with pytest.raises(socket.gaierror, match=r": one\.invalid$"):
            await pool.acquire()


@asynccontextmanager
async def other_server(answer: bytes | None) -> AsyncIterator[int]:
    """Listen as another kind of server: it sends `answer` and closes, or for None sends nothing."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await over.wait()
        else:
            await reader.read(1)
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        over.set()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"N", b"S", b"E"])
async def test_a_server_that_is_no_postgres_is_not_believed(answer: bytes) -> None:
    async with other_server(answer) as port:
        with pytest.raises(StoreError) as caught:
            await build_pool(f"postgresql://ada:{SECRET}@127.0.0.1:{port}/lab?connect_timeout=5")
    assert caught.value.__cause__ is not None


async def test_a_server_that_never_answers_is_given_up_after_the_connect_timeout() -> None:
    async with other_server(None) as port, asyncio.timeout(60):
        with pytest.raises(StoreUnavailable) as caught:
            await build_pool(f"postgresql://ada@127.0.0.1:{port}/lab?connect_timeout=1")
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_the_right_password_connects(build: Builder, guarded_url: str) -> None:
    async with await build(as_user(guarded_url, "guarded", SECRET), schema="public") as pool:
        assert await pool.fetchval("SELECT current_user") == "guarded"


async def test_a_wrong_password_is_named_and_not_repeated(
    build: Builder, guarded_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = SECRET[::-1]
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        await build(as_user(guarded_url, "guarded", wrong))
    assert caught.value.sqlstate == "28P01"
    assert not isinstance(caught.value, StoreUnavailable), "it does not pass by itself"
    assert isinstance(caught.value.__cause__, asyncpg.InvalidPasswordError)
    assert wrong not in everything_told(caught.value, caplog)


async def test_a_password_that_is_missing_is_named(build: Builder, guarded_url: str) -> None:
    with pytest.raises(StoreError, match="password") as caught:
        await build(as_user(guarded_url, "guarded", ""))
    assert not isinstance(caught.value, StoreUnavailable)


async def test_a_password_is_not_repeated_when_there_is_no_server(
    build: Builder, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(StoreUnavailable) as caught:
        await build(f"postgresql://ada:{SECRET}@127.0.0.1:{closed_port}/lab")
    told = everything_told(caught.value, caplog)
    assert SECRET not in told
    assert "retry 3 follows" in told, "the retries were logged"


@pytest.mark.parametrize(
    "ending", [":port/lab", ":5432/lab?sslmode=maybe", ":5432/lab?nope=1", "/%zz", ":1@2/lab"]
)
async def test_a_password_in_a_malformed_url_is_not_repeated(
    build: Builder, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InvalidDatabaseUrl) as caught:
        await build(f"postgresql://ada:{SECRET}@localhost{ending}&password={SECRET}")
    assert SECRET not in everything_told(caught.value, caplog)


async def test_a_role_that_the_server_turns_away_is_refused_at_once(
    build: Builder, guarded_url: str
) -> None:
    with pytest.raises(StoreError) as caught:
        await build(as_user(guarded_url, "outcast", SECRET))
    assert caught.value.sqlstate == "28000"
    assert not isinstance(caught.value, StoreUnavailable)


async def test_an_unknown_database_is_refused_at_once(build: Builder, server: TestServer) -> None:
    with pytest.raises(StoreError, match="no_such_database") as caught:
        await build(server.database_url("no_such_database"))
    assert caught.value.sqlstate == "3D000"
    assert not isinstance(caught.value, StoreUnavailable)


async def sessions(connection: "asyncpg.Connection[asyncpg.Record]", name: str) -> int:
    count: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name
    )
    return count


async def left_alone(url: str, name: str) -> None:
    """Wait until the server has noticed that a client is gone, a moment after its end."""
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(60):
        while await sessions(connection, name):
            pass
    await connection.close()


async def test_a_schema_that_is_newer_than_the_library_leaves_no_connection(
    build: Builder, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "INSERT INTO schema_migrations VALUES (9999, 'from_the_future', repeat('f', 64), now())"
    )
    await connection.close()
    with pytest.raises(MigrationError, match=r"9999 .*newer"):
        await build(with_parameters(database_url, "application_name=refused"), min_size=3)
    await left_alone(database_url, "refused")


async def test_a_pool_that_gets_some_of_its_connections_keeps_none(
    build: Builder, database_url: str
) -> None:
    async with new_role(database_url, "CONNECTION LIMIT 2") as role:
        administrator = await asyncpg.connect(database_url)
        await administrator.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role.name}")
        await administrator.close()
        with pytest.raises(StoreUnavailable) as caught:
            await build(with_parameters(role.url, "application_name=crowd"), min_size=5)
        assert caught.value.sqlstate == "53300"
        await left_alone(database_url, "crowd")


@asynccontextmanager
async def waiting_build(
    build: Builder, url: str, name: str
) -> AsyncIterator["asyncio.Future[Pool]"]:
    """Start to build a pool whose migration waits until the block ends; yield the task."""
    holder, observer = await asyncpg.connect(url), await asyncpg.connect(url)
    blocked = """
        SELECT count(*) FROM pg_stat_activity
        WHERE application_name = $1 AND wait_event = 'advisory'
    """
    async with holder.transaction():
        await holder.execute(LOCK_MIGRATIONS, "public")
        building = asyncio.ensure_future(build(with_parameters(url, f"application_name={name}")))
        while not await observer.fetchval(blocked, name):
            pass
        yield building
    await holder.close()
    await observer.close()


async def test_a_cancelled_wait_for_a_migration_leaves_no_connection(
    build: Builder, empty_database_url: str
) -> None:
    async with waiting_build(build, empty_database_url, "impatient") as building:
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
        await left_alone(empty_database_url, "impatient")


async def test_a_migration_whose_connection_is_lost_is_begun_again(
    build: Builder, empty_database_url: str
) -> None:
    async with waiting_build(build, empty_database_url, "unlucky") as building:
        administrator = await asyncpg.connect(empty_database_url)
        assert await administrator.fetchval(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            "WHERE application_name = 'unlucky'"
        )
        await administrator.close()
    async with await building as pool:
        assert await pool.fetchval("SELECT count(*) FROM schema_migrations") == len(
            known_migrations()
        )

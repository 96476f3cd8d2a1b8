"""The server of the run, named in the header, and a fresh database for each test that asks for one."""

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from chem_persistence import PoolProvider, build_pool
from tests.support.servers.backends import Backend, memory_backend, postgres_backend
from tests.support.servers.selection import (
    BROWSER_HELP,
    PGBOUNCER_HELP,
    SUPERUSER_HELP,
    TLS_HELP,
    mark_superusers,
    reasons_to_leave_out,
)
from tests.support.servers.server import TestServer, check_choices, running_server

if TYPE_CHECKING:
    import asyncpg

SERVER = pytest.StashKey[TestServer]()
LEFT_OUT = pytest.StashKey[list[str]]()
RUNNING = pytest.StashKey[AbstractContextManager[TestServer]]()


def started(config: pytest.Config) -> TestServer:
    """Start the server when it is first asked for."""
    if SERVER not in config.stash:
        running = running_server()
        config.stash[SERVER] = running.__enter__()
        config.stash[RUNNING] = running
    return config.stash[SERVER]


def pytest_configure(config: pytest.Config) -> None:
    check_choices()
    config.addinivalue_line("markers", f"superuser: {SUPERUSER_HELP}")
    config.addinivalue_line("markers", f"browser: {BROWSER_HELP}")
    config.addinivalue_line("markers", f"tls: {TLS_HELP}")
    config.addinivalue_line("markers", f"pgbouncer: {PGBOUNCER_HELP}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mark_superusers(items)
    reasons = reasons_to_leave_out()
    left = [item for item in items if any(item.get_closest_marker(marker) for marker in reasons)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]
    counts = {
        marker: sum(item.get_closest_marker(marker) is not None for item in left)
        for marker in reasons
    }
    config.stash[LEFT_OUT] = [
        f"{counts[marker]} tests left out: {reasons[marker]}" for marker in reasons
    ]


def pytest_collection_finish() -> None:
    """Leave what the imports made out of later collections, so that these cost little."""
    gc.collect()
    gc.freeze()


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    return config.stash.get(LEFT_OUT, [])


def pytest_report_header(config: pytest.Config) -> str:
    server = started(config)
    return f"database: {server.label}, as {server.role}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUNNING in config.stash:
        config.stash[RUNNING].__exit__(None, None, None)


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """Have a file's tests fail for what they left open, and not a later test during which it is collected.

    What the last test's log records held is free only when the next test begins.
    """
    gc.collect()
    yield
    gc.collect()


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> TestServer:
    return started(pytestconfig)


@pytest.fixture
async def admin_url(server: TestServer) -> AsyncIterator[str]:
    """Give a superuser's URL of a migrated, empty database."""
    async with server.database() as url:
        yield url


@pytest.fixture
def database_url(server: TestServer, admin_url: str) -> str:
    """Give the URL of the same database for the role that the tests connect as."""
    return server.as_tested(admin_url)


@pytest.fixture
async def empty_database_url(server: TestServer) -> AsyncIterator[str]:
    """Give a superuser's URL of a database without any table."""
    async with server.database(template="template0") as url:
        yield url


@pytest.fixture
async def pool(database_url: str) -> "AsyncIterator[asyncpg.Pool[asyncpg.Record]]":
    async with await build_pool(database_url, max_size=20) as pool:
        yield pool


@pytest.fixture
def provider(pool: "asyncpg.Pool[asyncpg.Record]") -> PoolProvider:
    return PoolProvider(pool)


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[Backend]:
    async with postgres_backend(database_url) as backend:
        yield backend


@pytest.fixture
def memory() -> Backend:
    return memory_backend()


@pytest.fixture(params=["memory", "postgres"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Give each store in turn."""
    backend: Backend = request.getfixturevalue(request.param)
    return backend

"""The server of the run, named in the header, and a fresh database for each test that asks for one."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

from chem_persistence import PoolProvider, build_pool
from tests.support.backends import Backend, memory_backend, postgres_backend
from tests.support.server import TestServer, running_server

if TYPE_CHECKING:
    import asyncpg

SERVER = pytest.StashKey[TestServer]()
RUNNING = pytest.StashKey[AbstractContextManager[TestServer]]()


def started(config: pytest.Config) -> TestServer:
    """Start the server when it is first asked for."""
    if SERVER not in config.stash:
        running = running_server()
        config.stash[SERVER] = running.__enter__()
        config.stash[RUNNING] = running
    return config.stash[SERVER]


def pytest_report_header(config: pytest.Config) -> str:
    return f"database: {started(config).label}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUNNING in config.stash:
        config.stash[RUNNING].__exit__(None, None, None)


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> TestServer:
    return started(pytestconfig)


@pytest.fixture
async def database_url(server: TestServer) -> AsyncIterator[str]:
    """Give the URL of a migrated, empty database."""
    async with server.database() as url:
        yield url


@pytest.fixture
async def empty_database_url(server: TestServer) -> AsyncIterator[str]:
    """Give the URL of a database without any table."""
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

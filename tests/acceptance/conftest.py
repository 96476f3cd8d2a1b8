"""The log of `logged_flows`, shared by the tests that only read it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.flows.logged_flows import logged_flows, shared_log
from tests.support.servers.server import TestServer


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def url(server: TestServer) -> AsyncIterator[str]:
    async with shared_log(server, refreshed=False) as url:
        yield url


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def refreshed_url(server: TestServer) -> AsyncIterator[str]:
    """Yield the URL of such a log whose statistics are counted."""
    async with shared_log(server, refreshed=True) as url:
        yield url


@pytest.fixture
async def own_url(database_url: str) -> str:
    """Return the URL of such a log that no other test has."""
    return (await logged_flows(database_url)).url

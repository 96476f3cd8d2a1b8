"""The stores with the leases of their flows."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tests.support.leases.desk import Desk, memory_desk, postgres_desk

if TYPE_CHECKING:
    import asyncpg


@pytest.fixture
def desk_in_memory() -> Desk:
    return memory_desk()


@pytest.fixture
async def desk_on_postgres(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture
async def desk_distributed(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        assert opened.name == "distributed"
        yield opened

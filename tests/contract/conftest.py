"""The stores with the leases of their flows."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tests.support.leases.desk import Desk, distribute_on, memory_desk, postgres_desk

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
async def desk_distributed(
    admin_url: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> AsyncIterator[Desk]:
    await distribute_on(admin_url)
    async with postgres_desk(pool) as opened:
        yield opened

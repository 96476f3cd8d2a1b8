"""Each store with the leases of its flows, in turn."""

import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tests.support.leases.desk import Desk, distribute_on, memory_desk, postgres_desk
from tests.support.leases.staff import Acts

if TYPE_CHECKING:
    import asyncpg

DESKS = ["desk_in_memory", "desk_on_postgres"]
DISTRIBUTED = [] if os.environ.get("CHEM_TEST_CITUS") else ["desk_distributed"]


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


@pytest.fixture(params=DESKS)
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture(params=[*DESKS, *DISTRIBUTED])
def every_desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn, the last one with the texts that Citus runs."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture
def acts() -> Acts:
    return Acts()

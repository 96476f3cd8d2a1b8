"""A lab with an empty log, a table of effects and one consumer."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.support.consuming import CREATE_EFFECTS, ConsumingLab

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]


@pytest.fixture
async def administrator(admin_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(admin_url)
    yield connection
    await connection.close()


@pytest.fixture
async def lab(
    pool: "Pool", administrator: "asyncpg.Connection[asyncpg.Record]"
) -> AsyncIterator[ConsumingLab]:
    await administrator.execute(CREATE_EFFECTS)
    lab = ConsumingLab(pool)
    yield lab
    await lab.store.aclose()
    await administrator.execute("DROP TABLE effects")  # databases on Citus are used again

"""What tests of the PostgreSQL store share."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def owner(admin_url: str) -> AsyncIterator["Connection"]:
    """Yield a connection of the owner of the log, beside those of its writers."""
    connection = await asyncpg.connect(admin_url)
    yield connection
    await connection.close()

"""The how-to pages go as they say, on real servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest_asyncio

from chem_persistence import embedded_postgres
from tests.support.pages.pages import follow_page
from tests.support.servers.client_programs import client_programs
from tests.support.servers.roles import as_user


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own_server() -> AsyncIterator[str]:
    """Give the URL of a server of these tests' own, since roles are the whole server's; nothing is appended there."""
    async with embedded_postgres() as url:
        yield url


async def test_write_a_step(tmp_path: Path) -> None:
    assert await follow_page("how-to/write-a-step.md", tmp_path) == 4


async def test_run_on_your_postgres(tmp_path: Path, admin_url: str) -> None:
    programs = str(client_programs(admin_url))
    assert (
        await follow_page(
            "how-to/run-on-your-postgres.md", tmp_path, DATABASE_URL=admin_url, PATH=programs
        )
        == 6
    )


async def test_secure_roles_and_tls(tmp_path: Path, own_server: str) -> None:
    urls = {
        "LAB_URL": as_user(own_server, "lab", "p"),
        "AUDITOR_URL": as_user(own_server, "auditor", "p"),
    }
    programs = str(client_programs(own_server))
    done = await follow_page(
        "how-to/secure-roles-and-tls.md", tmp_path, SUPERUSER_URL=own_server, **urls, PATH=programs
    )
    assert done == 6


async def test_upgrade(tmp_path: Path, own_server: str) -> None:
    programs = str(client_programs(own_server))
    assert (
        await follow_page("how-to/upgrade.md", tmp_path, SUPERUSER_URL=own_server, PATH=programs)
        == 2
    )
    administrator = await asyncpg.connect(own_server)
    try:
        assert await administrator.fetchval("SELECT count(*) FROM flows") == 0
    finally:
        await administrator.close()

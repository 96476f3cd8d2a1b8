"""Each how-to page prints what it shows, on real servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tests.support.made_clusters import embedded_copy
from tests.support.pages.pages import follow_page
from tests.support.servers.client_programs import client_programs
from tests.support.servers.roles import as_user


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own_server() -> AsyncIterator[str]:
    """Yield the URL of a server for these tests alone: roles belong to a whole server."""
    async with embedded_copy() as url:
        yield url


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "commands"),
    [
        ("use-it-in-a-service.md", 2),
        ("fan-out-over-many-inputs.md", 2),
        ("stream-large-artifacts.md", 1),
        ("ctrl-c-and-foreign-code.md", 2),
        ("read-and-follow-the-log.md", 1),
        ("follow-with-durable-consumers.md", 1),
        ("find-what-failed.md", 1),
        ("run-a-fleet.md", 5),
        ("ask-a-person.md", 6),
        ("choose-among-candidates.md", 1),
        ("set-parameters.md", 6),
        ("branch-and-compare.md", 8),
        ("take-flows-away.md", 7),
        ("reuse-results.md", 3),
        ("retry-and-time-out.md", 2),
        ("deploy-new-code.md", 9),
        ("run-batch-jobs.md", 1),
        ("limit-what-runs-at-once.md", 3),
        ("read-results-as-a-table.md", 8),
    ],
)
async def test_a_page_that_needs_no_server(tmp_path: Path, page: str, commands: int) -> None:
    assert await follow_page(f"how-to/{page}", tmp_path, DATABASE_URL="") == commands


async def test_write_a_step(tmp_path: Path) -> None:
    assert await follow_page("how-to/write-a-step.md", tmp_path) == 5


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

"""The how-to pages go as they say, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from chem_persistence import Artifact, PgEventStore, PoolProvider, build_pool, embedded_postgres
from tests.support.client_programs import client_programs
from tests.support.flows import new_flow_id, one_step_history
from tests.support.pages import DOCUMENTATION, follow
from tests.support.pgbouncer import pgbouncer_before
from tests.support.roles import as_user
from tests.support.standby import standby_of

HOW_TO = DOCUMENTATION / "how-to"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own_server() -> AsyncIterator[str]:
    """Give the URL of a server of these tests' own, since roles are the whole server's; nothing is appended there."""
    async with embedded_postgres() as url:
        yield url


async def followed(page: str, folder: Path, **environment: str) -> int:
    """Follow a page in a thread, so that what this loop serves goes on."""
    return await asyncio.to_thread(follow, HOW_TO / page, folder, environment)


async def test_write_a_step(tmp_path: Path) -> None:
    assert await followed("write-a-step.md", tmp_path) == 4


async def test_run_on_your_postgres(tmp_path: Path, admin_url: str) -> None:
    programs = str(client_programs(admin_url))
    assert await followed("run-on-your-postgres.md", tmp_path, DATABASE_URL=admin_url, PATH=programs) == 6


async def test_secure_roles_and_tls(tmp_path: Path, own_server: str) -> None:
    urls = {"LAB_URL": as_user(own_server, "lab", "p"), "AUDITOR_URL": as_user(own_server, "auditor", "p")}
    programs = str(client_programs(own_server))
    done = await followed(
        "secure-roles-and-tls.md", tmp_path, SUPERUSER_URL=own_server, **urls, PATH=programs
    )
    assert done == 6


async def test_upgrade(tmp_path: Path, own_server: str) -> None:
    programs = str(client_programs(own_server))
    assert await followed("upgrade.md", tmp_path, SUPERUSER_URL=own_server, PATH=programs) == 2
    administrator = await asyncpg.connect(own_server)
    try:
        assert await administrator.fetchval("SELECT count(*) FROM flows") == 0
    finally:
        await administrator.close()


@pytest.mark.pgbouncer
async def test_replicas_and_pgbouncer(tmp_path: Path) -> None:
    async with embedded_postgres() as primary:
        await store_a_flow(primary)
        async with standby_of(primary) as replica, pgbouncer_before(primary) as pooled:
            urls = {"REPLICA_URL": replica, "PGBOUNCER_URL": pooled}
            assert await followed("replicas-and-pgbouncer.md", tmp_path, **urls) == 3


async def store_a_flow(url: str) -> None:
    artifact = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
    spectrum = Artifact.from_content(kind="Spectrum", content=b"1 2 3", media_type="text/plain")
    async with await build_pool(url, max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))
        await store.append_kinds(new_flow_id(), one_step_history(artifact), artifacts=[artifact, spectrum])

"""A log that was dumped and restored into a fresh server is the same log, and goes on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from chem_persistence import (
    Artifact,
    FlowEngine,
    FlowEvent,
    FlowInstance,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    Step,
    StepContext,
    StepRaised,
    StepSignal,
    build_pool,
    embedded_postgres,
)
from chem_persistence.domain.tampering import Tampering
from chem_persistence.postgres.audit.verification import verify_log
from chem_persistence.store.transfer.anchors import Anchor
from tests.support.pages.pages import follow_page
from tests.support.servers.client_programs import client_programs
from tests.support.servers.server import TestServer

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

DONE, HALF_DONE, STREAMED = UUID(int=1), UUID(int=2), UUID(int=3)


class Smiles(msgspec.Struct):
    text: str


class Parse(Step[Smiles, Smiles]):
    id = "parse"

    async def run(self, smiles: Smiles, context: StepContext) -> Smiles:
        context.signal("parsed", {"atoms": len(smiles.text)})
        picture = Artifact.from_content(kind="picture", content=bytes(256), media_type="image/x")
        context.add_artifact(picture)
        return Smiles(smiles.text.upper())


class Judge(Step[Smiles, Smiles]):
    id = "judge"

    def __init__(self, *, can_judge: bool) -> None:
        self._can_judge = can_judge  # the world around the step, not a parameter of it

    async def run(self, smiles: Smiles, _context: StepContext) -> Smiles:
        if smiles.text == "CC=O" and not self._can_judge:
            raise RuntimeError("the spectrometer is switched off")
        return Smiles(f"{smiles.text}?")


def engine_on(pool: Pool, *, can_judge: bool) -> FlowEngine[Smiles]:
    provider = PoolProvider(pool)
    repository = PgFlowRepository(provider, snapshot_after=1)
    builder = FlowEngine.builder(PgEventStore(provider), repository)
    return builder.first_step(Parse()).add_step(Judge(can_judge=can_judge)).build()


async def chunks() -> AsyncIterator[bytes]:
    yield bytes(2**20 + 1)


async def fill(pool: Pool) -> None:
    """Store a flow that is completed, one whose last step failed, and a streamed artifact."""
    engine = engine_on(pool, can_judge=False)
    await engine.run_to_end(DONE, Smiles("cco"))
    with pytest.raises(StepRaised):
        await engine.run_to_end(HALF_DONE, Smiles("cc=o"))
    async with PgEventStore(PoolProvider(pool)).transaction() as tx:
        trajectory = await tx.put_stream(
            kind="trajectory", chunks=chunks(), media_type="chemical/x-xtc"
        )
        await tx.append_kind(STREAMED, StepSignal(0, "parse", "frames"), artifacts=[trajectory])


async def states(pool: Pool) -> tuple[list[FlowInstance], str, dict[UUID, list[FlowEvent]]]:
    """Return the replayed flows, the fingerprint of the completed one, and all events."""
    engine, store = engine_on(pool, can_judge=True), PgEventStore(PoolProvider(pool))
    instances = [await engine.load(flow_id) for flow_id in (DONE, HALF_DONE)]
    events = await store.list_many([DONE, HALF_DONE, STREAMED])
    return instances, await engine.flow_fingerprint(DONE), events


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fresh_server() -> AsyncIterator[TestServer]:
    async with embedded_postgres() as url:
        yield TestServer(url, "fresh")


@pytest.fixture
async def fresh(fresh_server: TestServer) -> AsyncIterator[str]:
    """Yield the URL of an empty database on another server than the dumped one."""
    async with fresh_server.database(template="template0") as url:
        yield url


@pytest.mark.slow
async def test_a_restored_log_is_the_same_and_goes_on(
    tmp_path: Path, admin_url: str, fresh: str
) -> None:
    page = "how-to/back-up-and-restore.md"
    async with await build_pool(admin_url, max_size=3) as pool:
        await fill(pool)
        before = await states(pool)
    urls = {"DATABASE_URL": admin_url, "NEW_DATABASE_URL": fresh}
    programs = str(client_programs(admin_url))
    assert await follow_page(page, tmp_path, **urls, PATH=programs) == 5
    async with await build_pool(fresh, max_size=3) as pool:
        assert await states(pool) == before
        engine, store = engine_on(pool, can_judge=True), PgEventStore(PoolProvider(pool))
        await engine.schedule_retry(HALF_DONE, reason="the spectrometer is on")
        await engine.run_to_end(HALF_DONE)
        completed = await store.list(DONE)
        continued = await store.list(HALF_DONE)
        assert "".join(await engine.event_trace(HALF_DONE)) == "ISGFSXRSFC"
        assert min(event.seq for event in continued[6:]) > max(event.seq for event in completed)


@pytest.mark.slow
async def test_a_dump_that_is_older_than_the_anchors_is_found_out(
    tmp_path: Path, admin_url: str, fresh: str
) -> None:
    dump, programs, heads = tmp_path / "chem.dump", client_programs(admin_url), list[Anchor]()
    async with await build_pool(admin_url, max_size=3) as pool:
        provider = PoolProvider(pool)
        store = PgEventStore(provider)
        await store.append_kind(DONE, StepSignal(0, "parse", "first"))
        await run(
            programs / "pg_dump",
            "--format=custom",
            "--no-owner",
            "--no-privileges",
            f"--file={dump}",
            admin_url,
        )
        await store.append_kind(DONE, StepSignal(0, "parse", "second"))
        await verify_log(provider, on_head=heads.append)
    await run(programs / "pg_restore", "--no-owner", f"--dbname={fresh}", dump)
    async with await build_pool(fresh, max_size=3) as pool:
        verification = await verify_log(PoolProvider(pool), anchors=heads)
    assert [finding.tampering for finding in verification.findings] == [Tampering.TRUNCATED]


async def run(*command: Path | str) -> None:
    process = await asyncio.create_subprocess_exec(*map(str, command))
    assert await process.wait() == 0

"""A standby reads as the primary does and refuses appends; the page about it is right."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from chem_persistence import (
    Artifact,
    FlowDefinition,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepDefinition,
    StepKind,
    StepSignal,
    StoreError,
    build_pool,
    embedded_postgres,
)
from chem_persistence.postgres.audit.verification import verify_log
from tests.support.flows.flows import new_flow_id, whole_history
from tests.support.pages.pages import follow_page
from tests.support.servers.pgbouncer import pgbouncer_before
from tests.support.servers.standby import standby_of

FLOW_ID = new_flow_id()
DEFINITION = FlowDefinition((StepDefinition("acquire", StepKind.SOURCE),))
READ_ONLY = "25006"


class Pair(msgspec.Struct, frozen=True):
    """A primary with a flow's history, and its standby."""

    primary: str
    standby: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    async with embedded_postgres() as primary:
        molecule = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
        spectrum = Artifact.from_content(kind="Spectrum", content=b"1 2 3", media_type="text/plain")
        async with await build_pool(primary, max_size=1) as pool:
            await PgEventStore(PoolProvider(pool)).append_kinds(
                FLOW_ID, whole_history(molecule, DEFINITION), artifacts=[molecule, spectrum]
            )
        async with standby_of(primary) as standby:
            yield Pair(primary, standby)


async def test_a_standby_is_read_as_the_primary_is(pair: Pair) -> None:
    seen = []
    for url in (pair.standby, pair.primary):
        async with await build_pool(url, max_size=2) as pool:
            provider = PoolProvider(pool)
            store, repository = PgEventStore(provider), PgFlowRepository(provider, snapshot_after=1)
            instance = await repository.load(
                FLOW_ID, None, DEFINITION
            )  # a standby keeps no snapshot
            artifact = await store.get_artifact(instance.steps[0].outputs[0])
            verification = await verify_log(provider)
            assert verification.findings == []
            seen.append((instance, artifact, await store.list(FLOW_ID), verification.progress))
    assert seen[0] == seen[1]


async def test_a_standby_takes_no_append(pair: Pair) -> None:
    async with await build_pool(pair.standby, max_size=2) as pool:
        with pytest.raises(StoreError) as refused:
            await PgEventStore(PoolProvider(pool)).append_kind(
                FLOW_ID, StepSignal(0, "acquire", "s")
            )
    assert refused.value.sqlstate == READ_ONLY


async def test_a_standby_that_is_behind_the_library_is_not_migrated(pair: Pair) -> None:
    with pytest.raises(StoreError) as refused:
        await build_pool(pair.standby, schema="lab")
    assert refused.value.sqlstate == READ_ONLY
    connection = await asyncpg.connect(pair.standby)
    try:
        assert await connection.fetchval("SELECT to_regnamespace('lab')") is None
    finally:
        await connection.close()


@pytest.mark.pgbouncer
async def test_replicas_and_pgbouncer(tmp_path: Path, pair: Pair) -> None:
    async with pgbouncer_before(pair.primary) as pooled:
        urls = {"REPLICA_URL": pair.standby, "PGBOUNCER_URL": pooled}
        assert await follow_page("how-to/replicas-and-pgbouncer.md", tmp_path, **urls) == 3

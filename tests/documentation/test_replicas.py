"""A standby reads as the primary does and refuses appends; the page about it is right."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from msgspec import structs

from chem_persistence import (
    Artifact,
    FlowDefinition,
    FlowInitialized,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepDefinition,
    StepError,
    StepFailed,
    StepKind,
    StepSignal,
    StoreError,
    build_pool,
)
from chem_persistence.postgres.audit.verification import verify_log
from tests.acceptance.explorer.conftest import ask, served
from tests.support.commands import command
from tests.support.flows.flows import new_flow_id, whole_history
from tests.support.made_clusters import embedded_copy
from tests.support.pages.pages import follow_page
from tests.support.servers.pgbouncer import pgbouncer_before
from tests.support.servers.standby import standby_of

pytestmark = pytest.mark.slow

FLOW_ID = new_flow_id()
DEFINITION = FlowDefinition((StepDefinition("acquire", StepKind.SOURCE),))
OTHER_FLOW_ID = new_flow_id()
MOLECULE = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
READ_ONLY = "25006"
READS = [
    "flows --json",
    f"show {FLOW_ID}",
    f"show {FLOW_ID} --json",
    f"show {FLOW_ID} --html page.html",
    "results mine --json",
    "results mine --csv",
    "tail --json",
    f"replay {FLOW_ID} --json",
    f"diff {FLOW_ID} {OTHER_FLOW_ID} --json",
    "stats --json",
    "artifact list --json",
    f"artifact show {MOLECULE.hash} --json",
    f"artifact lineage {MOLECULE.hash} --json",
    "waiting --json",
    "workers --json",
    "limits --json",
    "verify --json",
    "verify --write-anchors anchors",
    "verify --anchors anchors",
    "lost --anchors anchors",
    f"export {FLOW_ID} run.zip",
]
REFUSED = {
    "tail --follow": "a standby does not know who is writing",
    "consumers list": "a standby does not know who is writing",
    "refresh": "a standby does not know who is writing",
    f"seal {FLOW_ID}": "read-only transaction",
    f"retry {OTHER_FLOW_ID} --actor me --reason later": "read-only transaction",
    "limits gpu=1": "read-only transaction",
}
WHEN = re.compile(r"\d+")
"""Numbers, some of which say how long ago something was."""
PAGES = ["/", "/failures", "/definitions", "/fleet", f"/flows/{FLOW_ID}.html"]


class Pair(msgspec.Struct, frozen=True):
    """A primary with a flow's history, and its standby."""

    primary: str
    standby: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    async with embedded_copy() as primary:
        spectrum = Artifact.from_content(kind="Spectrum", content=b"1 2 3", media_type="text/plain")
        begin, *history = whole_history(MOLECULE, DEFINITION)
        assert isinstance(begin, FlowInitialized)
        begin = structs.replace(begin, name="mine")
        async with await build_pool(primary, max_size=1) as pool:
            store = PgEventStore(PoolProvider(pool))
            await store.append_kinds(FLOW_ID, [begin, *history], artifacts=[MOLECULE, spectrum])
            failed = StepFailed(0, "acquire", StepError("ValueError", "no", ""), "f" * 64)
            other = [begin, history[0], failed]
            await store.append_kinds(OTHER_FLOW_ID, other, artifacts=[MOLECULE])
            await store.aclose()
        await command("refresh", "--database-url", primary)
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


@pytest.mark.slow
async def test_a_command_that_reads_prints_the_same_on_a_standby(
    pair: Pair, tmp_path: Path
) -> None:
    printed: dict[tuple[str, str], str | bytes] = {}
    for place, url in structs.asdict(pair).items():
        folder = tmp_path / place
        folder.mkdir()
        for line in READS:
            done = await command(*line.split(), "--database-url", url, cwd=folder)
            assert done.returncode in {0, 1}, done
            printed[place, line] = done.stdout + done.stderr
        printed[place, "bundle"] = (folder / "run.zip").read_bytes()
    for line in [*READS, "bundle"]:
        assert printed["standby", line] == printed["primary", line], line


@pytest.mark.slow
async def test_a_command_that_changes_or_follows_the_log_fails_on_a_standby(pair: Pair) -> None:
    for line, said in REFUSED.items():
        done = await command(*line.split(), "--database-url", pair.standby)
        assert (done.returncode, said in done.stderr, done.stdout) == (3, True, ""), done


@pytest.mark.slow
async def test_the_explorer_serves_a_standby(pair: Pair) -> None:
    async with served(pair.standby) as (standby, _), served(pair.primary) as (primary, _):
        for path in [*PAGES, f"/artifacts/{MOLECULE.hash}", f"/search?q={FLOW_ID}"]:
            here, there = await ask(standby, path), await ask(primary, path)
            assert here.status == there.status in {200, 303}, path
            assert WHEN.sub("#", here.text) == WHEN.sub("#", there.text), path


@pytest.mark.pgbouncer
async def test_replicas_and_pgbouncer(tmp_path: Path, pair: Pair) -> None:
    async with pgbouncer_before(pair.primary) as pooled:
        urls = {"REPLICA_URL": pair.standby, "PGBOUNCER_URL": pooled}
        assert await follow_page("how-to/replicas-and-pgbouncer.md", tmp_path, **urls) == 3

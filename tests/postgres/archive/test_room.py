"""What the archive gives back: room for new events, by statements that read no table as a whole."""

import asyncio
from typing import TypeAlias

import asyncpg
import pytest

from chem_persistence import Artifact, PgEventStore, PoolProvider, StepSignal
from tests.support.archiving import Sealed, archive, ended_flow, sealed, sealed_flow

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

GROWN = """
    INSERT INTO workflow_step_artifacts
        (artifact_hash, kind, payload, media_type, metadata, flow_id, produced_in_seq)
    SELECT encode(sha256(number::text::bytea), 'hex'), 'Value', '{}', 'application/json', '{}',
        gen_random_uuid(), number
    FROM generate_series(1, $1::integer) AS number
"""
EVENTS = """
    INSERT INTO event_log
        (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
    SELECT gen_random_uuid(), 0, gen_random_uuid(), now(), 'stepsignal', '{"type": "stepsignal"}',
        '{}', sha256('')
    FROM generate_series(1, $1::integer)
"""
SCANNED = """
    SELECT relname FROM pg_stat_xact_user_tables WHERE seq_scan > 0 AND relname = ANY ($1)
"""
LARGE = ["event_log", "workflow_step_artifacts", "workflow_step_artifact_uses"]
SIZE = "SELECT pg_relation_size('event_log')"
DEAD = "SELECT pg_stat_get_dead_tuples('event_log'::regclass)"


@pytest.fixture
def store(provider: PoolProvider) -> PgEventStore:
    return PgEventStore(provider)


async def sealed_flows(store: PgEventStore, owner: Connection, count: int) -> list[Sealed]:
    """Store flows of twenty events, and seal them."""
    more = [StepSignal(0, "acquire", "progress", {"at": number}) for number in range(16)]
    flow_ids = await asyncio.gather(*(ended_flow(store, more=more) for _ in range(count)))
    return [await sealed(store, owner, flow_id) for flow_id in flow_ids]


async def vacuum(owner: Connection) -> None:
    """Vacuum until no dead row is left: sessions that are just beginning still see such rows."""
    async with asyncio.timeout(60):
        await owner.execute("VACUUM event_log")
        while await owner.fetchval(DEAD):
            await owner.execute("VACUUM event_log")


@pytest.mark.slow
async def test_no_statement_of_the_archive_reads_a_large_table_as_a_whole(
    store: PgEventStore, owner: Connection
) -> None:
    artifacts = [Artifact.from_payload(kind="Value", payload={"n": n}) for n in range(8)]
    flow = await sealed_flow(store, owner, artifacts)
    await sealed_flow(store, owner, artifacts[:4])
    await owner.execute(GROWN, 30_000)
    await owner.execute(EVENTS, 30_000)
    await owner.execute("ANALYZE event_log, workflow_step_artifacts")
    async with owner.transaction():
        await archive(owner, flow)
        scanned = [row["relname"] for row in await owner.fetch(SCANNED, LARGE)]
    assert scanned in ([], ["workflow_step_artifact_uses"]), "that one is small here"


async def test_the_table_does_not_grow_while_as_much_comes_as_goes(
    store: PgEventStore, owner: Connection
) -> None:
    await sealed_flows(store, owner, 30)
    flows = await sealed_flows(store, owner, 60)
    sizes = []
    for _ in range(4):
        await archive(owner, *flows)
        await vacuum(owner)
        flows = await sealed_flows(store, owner, 60)
        sizes.append(await owner.fetchval(SIZE))
    # writers that extend the table at one time add some pages in advance, at first
    assert sizes[-1] <= max(sizes[:2]) * 1.1
    size = sizes[-1]
    await archive(owner, *flows)
    async with asyncio.timeout(60):  # a session that begins elsewhere may see the rows for a moment
        while await owner.fetchval(SIZE) >= size * 0.6:
            await owner.execute("VACUUM FULL event_log")

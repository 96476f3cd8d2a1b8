"""The distribution to a Citus cluster; a stand-in checks keys as Citus does."""

import asyncio
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    InMemoryFlowRepository,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StoreError,
)
from chem_persistence.postgres.schema.distribution import (
    DISTRIBUTED_TABLES,
    install_distribution,
)
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id, whole_history
from tests.support.flows.large_artifacts import SAID
from tests.support.servers.citus import STAND_IN

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

pytestmark = pytest.mark.usefixtures("distributed")


@pytest.fixture
async def distributed(admin_url: str) -> None:
    connection = await asyncpg.connect(admin_url)
    try:
        async with connection.transaction():
            await connection.execute(STAND_IN)
            await install_distribution(connection)
    finally:
        await connection.close()


async def test_every_table_of_the_log_is_distributed_by_what_its_keys_contain(
    admin_url: str,
) -> None:
    connection = await asyncpg.connect(admin_url)
    rows = await connection.fetch("SELECT relation, by_column, colocated_with FROM distributed")
    tables = await connection.fetch("""
        SELECT relname AS name FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
            AND relname NOT IN ('schema_migrations', 'distributed', 'pg_dist_transaction')
    """)
    await connection.close()
    by_flow = DISTRIBUTED_TABLES - {"workflow_step_artifact_chunks"}
    on_the_coordinator = {"flow_workers", "resource_slots", "resource_waits"}
    on_the_coordinator |= {"feed_consumers", "feed_parked", "workflow_step_artifact_uses"}
    on_the_coordinator |= {"step_statistics", "step_durations", "failure_statistics"}
    on_the_coordinator |= {"hourly_throughput", "artifact_statistics", "statistics_refresh"}
    assert {row["relation"] for row in rows} == DISTRIBUTED_TABLES
    assert {row["name"] for row in tables} == DISTRIBUTED_TABLES | on_the_coordinator
    assert {row["relation"] for row in rows if row["by_column"] == "flow_id"} == by_flow
    assert {row["relation"] for row in rows if row["colocated_with"] == "event_log"} == by_flow - {
        "event_log"
    }


async def test_flows_that_share_an_artifact_are_stored_each_with_its_own(
    pool: "asyncpg.Pool[asyncpg.Record]", provider: PoolProvider
) -> None:
    store, artifact = (
        PgEventStore(provider),
        Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"}),
    )
    flow_ids = [new_flow_id(), new_flow_id()]
    for flow_id in flow_ids:
        await store.append_kinds(
            flow_id, whole_history(artifact), artifacts=[artifact], expected_version=0
        )
        await store.append_kind(flow_id, whole_history(artifact)[-1], artifacts=[artifact])
    held = await pool.fetch(
        "SELECT flow_id FROM workflow_step_artifacts WHERE artifact_hash = $1", artifact.hash
    )
    assert sorted(row["flow_id"].int for row in held) == sorted(flow_id.int for flow_id in flow_ids)
    assert await store.get_artifact(artifact.hash) == artifact
    await store.aclose()


@pytest.mark.parametrize("table", ["event_log", "workflow_step_artifacts"])
async def test_10e_an_append_of_which_a_trigger_keeps_a_row_out_fails(
    admin_url: str, provider: PoolProvider, table: str
) -> None:
    connection = await asyncpg.connect(admin_url)
    await connection.execute(f"""
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER swallow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION swallow()
    """)
    await connection.close()
    store, flow_id = PgEventStore(provider), new_flow_id()
    artifact = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
    with pytest.raises(StoreError, match="from being stored"):
        await store.append_kinds(flow_id, whole_history(artifact), artifacts=[artifact])
    assert await store.list(flow_id) == []


async def test_a_flow_is_replayed_as_ever(provider: PoolProvider) -> None:
    store, artifact = (
        PgEventStore(provider),
        Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"}),
    )
    flow_id = new_flow_id()
    await store.append_kinds(
        flow_id, whole_history(artifact), artifacts=[artifact], expected_version=0
    )
    loaded = await PgFlowRepository(provider).load(flow_id, None, DEFINITION)
    assert loaded == await InMemoryFlowRepository(store).load(flow_id, None, DEFINITION)
    await store.aclose()


async def lose_numbers(admin_url: str, seq: int) -> None:
    """Leave the sequence as a coordinator may find it that recovers from a crash."""
    connection = await asyncpg.connect(admin_url)
    await connection.execute(f"SELECT setval('event_log_seq_seq', {seq})")
    await connection.execute("ALTER SEQUENCE event_log_seq_checks RESTART")
    await connection.close()


async def test_numbers_that_a_crash_took_from_the_sequence_are_not_taken_again(
    admin_url: str, provider: PoolProvider
) -> None:
    store = PgEventStore(provider)
    flow_ids = [new_flow_id() for _ in range(5)]
    before = [await store.append_kind(flow_id, initialized()) for flow_id in flow_ids]
    assert [event.seq for event in before] == [1, 2, 3, 4, 5], "a new log takes every number"
    await lose_numbers(admin_url, 2)
    appends = (store.append_kind(flow_id, SAID) for flow_id in flow_ids)
    after = [event.seq for event in await asyncio.gather(*appends)]
    assert min(after) > before[-1].seq
    assert len(set(after)) == len(after)
    last = await store.append_kind(flow_ids[0], SAID)
    assert last.seq == max(after) + 1, "the sequence is compared once"
    assert [event.seq for event in await store.read_feed()] == [
        1,
        2,
        3,
        4,
        5,
        *sorted(after),
        last.seq,
    ]
    await store.aclose()


async def test_a_feed_of_a_log_whose_sequence_is_behind_goes_on(
    admin_url: str, provider: PoolProvider
) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    stored = await store.append_kinds(flow_id, [initialized(), SAID, SAID])
    position = (await store.read_feed_page(0)).position
    await lose_numbers(admin_url, 1)
    assert await store.read_feed() == stored
    assert await store.read_feed(after_seq=stored[-1].seq) == []
    assert (await store.read_feed_page(position)).events == []
    assert await store.position() == position
    event = await store.append_kind(flow_id, SAID)
    assert (await store.read_feed_page(position)).events == [event]
    await store.aclose()


async def test_an_upgrade_of_a_log_that_has_events_copies_the_rights_on_its_sequence(
    admin_url: str, provider: PoolProvider
) -> None:
    store, role = PgEventStore(provider), f"test_{uuid4().hex}"
    await store.append_kind(new_flow_id(), initialized())
    connection = await asyncpg.connect(admin_url)
    await connection.execute(f"CREATE ROLE {role}")
    try:
        await connection.execute("DROP SEQUENCE event_log_seq_checks")
        await connection.execute(f"GRANT USAGE ON SEQUENCE event_log_seq_seq TO {role}")
        await connection.execute(f"GRANT SELECT ON SEQUENCE event_log_seq_seq TO {role}")
        async with connection.transaction():
            await install_distribution(connection)
        rights = await connection.fetchval(
            "SELECT ARRAY(SELECT name FROM unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS name"
            " WHERE has_sequence_privilege($1, 'event_log_seq_checks', name))",
            role,
        )
        owners = await connection.fetchval(
            "SELECT count(DISTINCT relowner) FROM pg_class"
            " WHERE relname IN ('event_log', 'event_log_seq_checks')"
        )
        is_checked = await connection.fetchval(
            "SELECT pg_sequence_last_value('event_log_seq_checks') IS NOT NULL"
        )
    finally:
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")
        await connection.close()
    assert (rights, owners, is_checked) == (["USAGE", "SELECT"], 1, False)
    assert (await store.append_kind(new_flow_id(), initialized())).seq > 2
    await store.aclose()

"""Triggers, rules and temporary tables of others: an append fails, and doctor names them."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    StepStarted,
    StoreError,
    StoreUnavailable,
    build_pool,
)
from chem_persistence.postgres.admin.doctor.examination import examine
from tests.support.flows.flows import initialized, new_flow_id

SWALLOW = """
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON event_log
    FOR EACH ROW {condition} EXECUTE FUNCTION swallow()
"""
NEVER = "is always swallowed"


@pytest.mark.parametrize("condition", ["", "WHEN (NEW.version = 0)", "WHEN (NEW.version > 0)"])
@pytest.mark.parametrize("expected_version", [None, 0])
async def test_an_append_that_a_trigger_swallows_fails_and_stores_nothing(
    owner: "asyncpg.Connection[asyncpg.Record]",
    provider: PoolProvider,
    condition: str,
    expected_version: int | None,
) -> None:
    await owner.execute(SWALLOW.format(condition=condition))
    store, flow_id = PgEventStore(provider), new_flow_id()
    async with asyncio.timeout(60):
        with pytest.raises(StoreError, match="a trigger of event_log keeps") as caught:
            await store.append_kinds(
                flow_id,
                [initialized(), StepStarted(0, "acquire")],
                expected_version=expected_version,
            )
    assert not isinstance(caught.value, StoreUnavailable)
    assert await store.list(flow_id) == []


async def test_only_the_swallowed_append_of_a_batch_fails(
    owner: "asyncpg.Connection[asyncpg.Record]", provider: PoolProvider
) -> None:
    await owner.execute(SWALLOW.format(condition="WHEN (NEW.event_type = 'stepsignal')"))
    store = PgEventStore(provider)
    flows = [new_flow_id() for _ in range(6)]
    kinds = [
        initialized() if number % 2 else StepSignal(0, "acquire", NEVER) for number in range(6)
    ]
    answers = await asyncio.gather(
        *(store.append_kind(flow, kind) for flow, kind in zip(flows, kinds, strict=True)),
        return_exceptions=True,
    )
    assert [isinstance(answer, StoreError) for answer in answers] == [True, False] * 3


async def test_a_transaction_in_which_a_trigger_swallows_an_append_fails(
    owner: "asyncpg.Connection[asyncpg.Record]", provider: PoolProvider
) -> None:
    await owner.execute(SWALLOW.format(condition=""))
    async with PgEventStore(provider).transaction() as tx, asyncio.timeout(60):
        with pytest.raises(StoreError, match="a trigger of event_log keeps"):
            await tx.append_kind(new_flow_id(), initialized())


async def test_a_conflict_under_a_harmless_trigger_is_still_a_conflict(
    owner: "asyncpg.Connection[asyncpg.Record]", provider: PoolProvider
) -> None:
    await owner.execute(SWALLOW.format(condition="WHEN (NEW.event_type = 'flowcompleted')"))
    first, second, flow_id = PgEventStore(provider), PgEventStore(provider), new_flow_id()
    await first.append_kind(flow_id, initialized())
    await second.append_kind(flow_id, StepStarted(0, "acquire"))
    third = await first.append_kind(flow_id, StepFinished(0, "acquire", (), "f" * 64))
    assert third.version == 2


ARTIFACT_KEEPERS = {
    "trigger": """
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER swallow BEFORE INSERT ON workflow_step_artifacts
            FOR EACH ROW EXECUTE FUNCTION swallow()
    """,
    "trigger of one kind": """
        CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER swallow BEFORE INSERT ON workflow_step_artifacts
            FOR EACH ROW WHEN (NEW.kind = 'Lost') EXECUTE FUNCTION swallow()
    """,
    "rule": "CREATE RULE keep_out AS ON INSERT TO workflow_step_artifacts DO INSTEAD NOTHING",
}


async def _chunks() -> AsyncIterator[bytes]:
    yield b"content"


@pytest.mark.parametrize("name", ARTIFACT_KEEPERS)
async def test_10e_an_append_whose_artifact_is_kept_out_fails_and_stores_nothing(
    owner: "asyncpg.Connection[asyncpg.Record]", provider: PoolProvider, name: str
) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    kept = Artifact.from_payload(kind="Kept", payload={"name": "benzene"})
    lost = [Artifact.from_payload(kind="Lost", payload={"name": number}) for number in range(3)]
    first = await store.append_kind(flow_id, initialized(), artifacts=[kept])
    await owner.execute(ARTIFACT_KEEPERS[name])
    for artifacts in (lost, [kept, lost[0]]):
        with pytest.raises(StoreError, match="keeps artifacts from being stored") as caught:
            await store.append_kind(flow_id, StepStarted(0, "acquire"), artifacts=artifacts)
        assert not isinstance(caught.value, StoreUnavailable)
    async with store.transaction() as tx:
        with pytest.raises(StoreError, match="keeps artifacts from being stored"):
            await tx.append_kind(flow_id, StepStarted(0, "acquire"), artifacts=lost)
    second = await store.append_kind(flow_id, StepStarted(0, "acquire"), artifacts=[kept])
    assert await store.list(flow_id) == [first, second]


async def test_10e_a_streamed_artifact_that_is_kept_out_fails_its_transaction(
    owner: "asyncpg.Connection[asyncpg.Record]", provider: PoolProvider
) -> None:
    await owner.execute(ARTIFACT_KEEPERS["trigger"])
    store, flow_id = PgEventStore(provider), new_flow_id()

    async def append() -> None:
        async with store.transaction() as tx:
            artifact = await tx.put_stream(kind="Lost", chunks=_chunks(), media_type="x/y")
            await tx.append_kind(flow_id, initialized(), artifacts=[artifact])

    with pytest.raises(StoreError, match="triggers and rules that keep it out") as caught:
        await append()
    assert not isinstance(caught.value, StoreUnavailable)
    assert await store.list(flow_id) == []


@pytest.mark.parametrize(
    ("command", "finding", "remedy"),
    [
        (SWALLOW.format(condition=""), "trigger swallow", "DROP TRIGGER swallow ON event_log;"),
        (
            "CREATE RULE keep_out AS ON DELETE TO event_log DO INSTEAD NOTHING",
            "rule keep_out",
            "DROP RULE keep_out ON event_log;",
        ),
        (
            "ALTER TABLE event_log ENABLE ROW LEVEL SECURITY",
            "row security",
            "ALTER TABLE event_log DISABLE ROW LEVEL SECURITY;",
        ),
        (
            "ALTER SEQUENCE event_log_seq_seq CACHE 20",
            "sequence event_log_seq_seq differs",
            "ALTER SEQUENCE public.event_log_seq_seq AS bigint",
        ),
    ],
    ids=["trigger", "rule", "row security", "sequence cache"],
)
async def test_doctor_names_what_others_changed_with_a_remedy_that_can_be_run(
    owner: "asyncpg.Connection[asyncpg.Record]",
    admin_url: str,
    command: str,
    finding: str,
    remedy: str,
) -> None:
    await owner.execute(command)
    async with await build_pool(admin_url) as pool:
        found = [
            result
            for result in await examine(PoolProvider(pool), "public")
            if finding in result.finding
        ]
        assert len(found) == 1
        assert (found[0].remedy or "").startswith(remedy)
        await owner.execute(found[0].remedy or "")
        again = await examine(PoolProvider(pool), "public")
    assert not any(finding in result.finding for result in again)


@pytest.mark.parametrize("path", ["public", "lab, public"])
async def test_doctor_names_a_search_path_that_a_pooler_would_use(
    owner: "asyncpg.Connection[asyncpg.Record]", admin_url: str, path: str
) -> None:
    name = await owner.fetchval("SELECT current_database()")
    await owner.execute(f'ALTER DATABASE "{name}" SET search_path = {path}')
    async with await build_pool(admin_url) as pool:
        results = await examine(PoolProvider(pool), "public")
        (found,) = [result for result in results if result.check == "search path"]
        await owner.execute(found.remedy or "")
        results = await examine(PoolProvider(pool), "public")
    assert "pg_temp" in (found.remedy or "")
    assert not [result for result in results if result.check == "search path"]


@pytest.mark.parametrize(
    "table", ["event_log", "workflow_step_artifacts", "workflow_step_executions"]
)
async def test_an_append_fails_where_a_temporary_table_comes_first(
    database_url: str, pool: "asyncpg.Pool[asyncpg.Record]", table: str
) -> None:
    """A pooler's session may have the search path of its role: the append is not acknowledged."""
    async with await build_pool(database_url, max_size=1) as single:
        await single.execute(f"CREATE TEMP TABLE {table} (LIKE public.{table} INCLUDING ALL)")
        store, flow_id = PgEventStore(PoolProvider(single)), new_flow_id()
        async with store.transaction() as tx:
            await tx.connection.execute("SET LOCAL search_path = public")
            with pytest.raises(StoreError, match="temporary table hides"):
                await tx.append_kind(flow_id, initialized())
    assert await PgEventStore(PoolProvider(pool)).list(flow_id) == []

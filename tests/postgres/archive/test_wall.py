"""History leaves the log as whole sealed flows that the register names, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    FlowArchived,
    FlowSealed,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    ResultOrigin,
    StepFinished,
    StreamedArtifact,
)
from chem_persistence.domain.definition import definition_artifacts
from tests.support.archiving import (
    BUNDLE,
    LATE,
    Sealed,
    archive,
    end_of,
    ended_flow,
    sealed,
    sealed_flow,
)
from tests.support.flows.flows import DEFINITION, new_flow_id
from tests.support.servers.waiting import until_blocked

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

VALUE = Artifact.from_payload(kind="Value", payload={"n": 1.0})
OTHER = Artifact.from_payload(kind="Value", payload={"n": 2.0})

TABLES = (
    "event_log",
    "workflow_step_executions",
    "flow_snapshots",
    "flow_runs",
    "workflow_step_artifacts",
    "workflow_step_artifact_chunks",
    "workflow_step_artifact_uses",
    "archived_flows",
)

REGISTER = """
    INSERT INTO archived_flows
        (flow_id, version, chain_hash, first_seq, last_seq, bundle_sha256, consumers, actor)
    SELECT flow_id, version + 1, {head}, 1, seq, repeat('b', 64), '{{}}', 'forger' FROM event_log
    WHERE flow_id = '{flow_id}' ORDER BY version DESC LIMIT 1
"""
RIGHT = REGISTER.replace("{head}", "chain_hash")
WRONG = REGISTER.replace("{head}", "sha256('')")
THE_FLOW = "DELETE FROM event_log WHERE flow_id = '{flow_id}'"
ATTACKS = {
    "unregistered": [THE_FLOW],
    "the last event only": [RIGHT, THE_FLOW + " AND version = 3"],
    "row by row": [RIGHT, THE_FLOW + " AND version = 0"],
    "all but the first": [RIGHT, THE_FLOW + " AND version > 0"],
    "wrong head": [WRONG, THE_FLOW],
    "fewer events": [RIGHT.replace("version + 1", "version"), THE_FLOW],
    "replaced in one statement": [
        RIGHT,
        f"""
        WITH gone AS ({THE_FLOW} RETURNING *)
        INSERT INTO event_log (flow_id, version, event_id, ts, event_type, payload, metadata,
            chain_hash)
        SELECT flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash FROM gone
        """,
    ],
    "merge": [
        RIGHT,
        """
        MERGE INTO event_log AS event USING (VALUES (1)) AS one
        ON event.flow_id = '{flow_id}' AND event.version = 1 WHEN MATCHED THEN DELETE
        """,
    ],
    "cursor": [
        RIGHT,
        """
        DO $$
        DECLARE
            found record;
            events CURSOR FOR SELECT * FROM event_log WHERE flow_id = '{flow_id}';
        BEGIN
            OPEN events;
            FETCH events INTO found;
            DELETE FROM event_log WHERE CURRENT OF events;
        END $$
        """,
    ],
    "truncate": [RIGHT, "TRUNCATE event_log CASCADE"],
    "update": [RIGHT, "UPDATE event_log SET version = version WHERE flow_id = '{flow_id}'"],
    "the register": [RIGHT, "DELETE FROM archived_flows"],
    "nothing": [RIGHT, "DELETE FROM event_log WHERE false"],
    "a flow that goes on": [
        RIGHT.replace("{flow_id}", "{live}"),
        THE_FLOW.replace("flow_id}", "live}"),
    ],
    "artifacts of a flow that is there": [
        RIGHT,
        "DELETE FROM workflow_step_artifacts WHERE flow_id = '{flow_id}'",
    ],
    "artifacts that another flow uses": [
        RIGHT,
        THE_FLOW,
        "DELETE FROM workflow_step_artifacts WHERE flow_id = '{flow_id}'",
    ],
    "uses by a flow that is there": ["DELETE FROM workflow_step_artifact_uses"],
    "chunks of an artifact": [RIGHT, THE_FLOW, "DELETE FROM workflow_step_artifact_chunks"],
    "some chunks": ["DELETE FROM workflow_step_artifact_chunks WHERE chunk_no = 0"],
    "a register of one's own": [
        (
            "CREATE TEMP TABLE archived_flows (LIKE public.archived_flows INCLUDING DEFAULTS) "
            "ON COMMIT DROP"
        ),
        "SET LOCAL search_path = pg_temp, public",
        RIGHT.replace(
            "flow_id, version, chain", "archive_no, by_role, archived_at, flow_id, version, chain"
        ).replace("SELECT flow_id", "SELECT 1, 'x', now(), flow_id"),
        THE_FLOW,
    ],
}


@pytest.fixture
def store(provider: PoolProvider) -> PgEventStore:
    return PgEventStore(provider)


async def frames() -> AsyncIterator[bytes]:
    for _ in range(2):
        yield b"frame" * 300_000


async def streamed_flow(store: PgEventStore, owner: Connection) -> tuple[Sealed, StreamedArtifact]:
    """Store a sealed flow with an artifact in chunks."""
    flow_id = await ended_flow(store)
    async with store.transaction() as transaction:
        artifact = await transaction.put_stream(kind="Trajectory", chunks=frames(), media_type="x")
        await transaction.append_kind(flow_id, LATE, artifacts=[artifact])
    return await sealed(store, owner, flow_id), artifact


async def history(owner: Connection) -> dict[str, list[str]]:
    return {
        table: [
            str(row["line"])
            for row in await owner.fetch(
                f"SELECT stored::text AS line FROM {table} AS stored ORDER BY 1"
            )
        ]
        for table in TABLES
    }


async def left(owner: Connection, flow_id: UUID) -> list[str]:
    """Return the tables that have rows of a flow."""
    return [
        table
        for table in TABLES
        if table != "workflow_step_artifact_chunks"
        and await owner.fetchval(f"SELECT count(*) FROM {table} WHERE flow_id = $1", flow_id)
    ]


async def hashes(owner: Connection) -> set[str]:
    rows = await owner.fetch("SELECT artifact_hash FROM workflow_step_artifacts")
    return {row["artifact_hash"] for row in rows}


async def test_the_owner_is_refused(store: PgEventStore, owner: Connection) -> None:
    flow = await sealed_flow(store, owner, [VALUE])
    live = await ended_flow(store, [VALUE])
    await streamed_flow(store, owner)
    before = await history(owner)
    for attack, texts in ATTACKS.items():
        *allowed, last = (text.format(flow_id=flow.flow_id, live=live) for text in texts)
        transaction = owner.transaction()
        await transaction.start()
        for text in allowed:
            await owner.execute(text)
        try:
            with pytest.raises(asyncpg.RestrictViolationError, match="is append-only") as caught:
                await owner.execute(last)
        except BaseException as error:
            error.add_note(f"the attack: {attack}")
            raise
        await transaction.rollback()
        assert caught.value.sqlstate == "23001", attack
        assert await history(owner) == before, attack


async def test_a_flow_leaves_with_all_that_it_alone_has(
    store: PgEventStore, owner: Connection, provider: PoolProvider
) -> None:
    definitions = definition_artifacts(DEFINITION)
    flow_id = await ended_flow(store, [VALUE, *definitions])
    await PgFlowRepository(provider, snapshot_after=1).load(flow_id, None, DEFINITION)
    flow = await sealed(store, owner, flow_id)
    streamed, _ = await streamed_flow(store, owner)
    other = await ended_flow(store, [OTHER])
    events = await store.list(flow_id)
    assert await left(owner, flow_id) == ["event_log", "flow_snapshots", "workflow_step_artifacts"]
    first, second = await archive(owner, flow, streamed)
    assert second == first + 1
    assert await left(owner, flow_id) == ["workflow_step_artifacts", "archived_flows"]
    assert await left(owner, streamed.flow_id) == ["archived_flows"]
    assert await owner.fetchval("SELECT count(*) FROM workflow_step_artifact_chunks") == 0
    assert await hashes(owner) == {OTHER.hash, *(each.hash for each in definitions)}
    assert await left(owner, other) == ["event_log", "workflow_step_artifacts"]
    row = await owner.fetchrow("SELECT * FROM archived_flows WHERE flow_id = $1", flow_id)
    assert row is not None
    assert (row["version"], row["chain_hash"]) == (flow.version, flow.head)
    assert (row["first_seq"], row["last_seq"]) == (events[0].seq, events[-1].seq)
    assert (row["bundle_sha256"], row["consumers"], row["actor"]) == (BUNDLE, [], "Ada")
    with pytest.raises(FlowArchived) as caught:
        await store.append_kind(flow_id, LATE)
    assert caught.value.bundle_sha256 == BUNDLE
    assert await left(owner, flow_id) == ["workflow_step_artifacts", "archived_flows"]


async def test_an_artifact_leaves_with_the_last_flow_that_uses_it(
    store: PgEventStore, owner: Connection
) -> None:
    first, second = (
        await sealed_flow(store, owner, [VALUE]),
        await sealed_flow(store, owner, [VALUE]),
    )
    finished = StepFinished(
        0, "acquire", (VALUE.hash,), "f" * 64, reused_from=ResultOrigin(first.flow_id, 1)
    )
    third = await sealed(store, owner, await ended_flow(store, more=[finished]))
    for flow in (first, second):
        await archive(owner, flow)
        assert await hashes(owner) == {VALUE.hash}
        assert await store.get_artifact(VALUE.hash) == VALUE
    await archive(owner, third)
    assert await hashes(owner) == set()
    assert await left(owner, third.flow_id) == ["archived_flows"]


async def test_what_was_stored_before_uses_were_recorded_stays(
    store: PgEventStore, owner: Connection
) -> None:
    flow = await sealed_flow(store, owner, [VALUE])
    await owner.execute("ALTER TABLE workflow_step_artifacts DISABLE TRIGGER USER")
    await owner.execute("UPDATE workflow_step_artifacts SET has_all_uses = false")
    await owner.execute("ALTER TABLE workflow_step_artifacts ENABLE TRIGGER USER")
    await archive(owner, flow)
    assert await hashes(owner) == {VALUE.hash}
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.execute("DELETE FROM workflow_step_artifacts")


async def test_a_call_archives_all_flows_or_none(store: PgEventStore, owner: Connection) -> None:
    flow, other = await sealed_flow(store, owner), await sealed_flow(store, owner)
    open_flow = await ended_flow(store)
    before = await history(owner)
    for wrong in (
        await end_of(owner, open_flow),
        Sealed(other.flow_id, other.version - 1, other.head),
        Sealed(other.flow_id, other.version, bytes(32)),
        Sealed(new_flow_id(), 1, other.head),
    ):
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match=str(wrong.flow_id)):
            await archive(owner, flow, wrong)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="each once"):
        await archive(owner, flow, flow)
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await archive(owner)
    async with owner.transaction(isolation="repeatable_read"):
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="READ COMMITTED"):
            async with owner.transaction():
                await archive(owner, flow)
    assert await history(owner) == before
    numbers = await archive(owner, flow)
    assert await archive(owner, flow) == numbers, "the reply was lost"
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="is not in the log"):
        await archive(owner, flow, bundle="c" * 64)
    gone = await sealed_flow(store, owner)
    await archive(owner, gone)
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="archived already"):
        await archive(owner, gone, Sealed(new_flow_id(), 1, flow.head))
    assert await owner.fetchval("SELECT count(*) FROM archived_flows") == 2


async def test_a_consumer_that_lags_or_has_the_flow_parked_holds_it(
    store: PgEventStore, owner: Connection
) -> None:
    flow = await sealed_flow(store, owner)
    seal = (await store.list(flow.flow_id))[-1]
    await owner.execute(
        """
        INSERT INTO feed_consumers (name, part, parts, seq)
        SELECT 'mirror', part, 2, 0 FROM generate_series(0, 1) AS part
        """
    )
    await owner.execute(
        "INSERT INTO feed_parked (name, flow_id, seq, event_id, error) VALUES ($1, $2, $3, $4, $5)",
        *("mirror", flow.flow_id, seal.seq, seal.event_id, "poison"),
    )
    own_part = "part = get_byte(sha256(uuid_send($1)), 0) % 2"
    await owner.execute(
        f"UPDATE feed_consumers SET passed_seq = 1000000 WHERE NOT {own_part}", flow.flow_id
    )
    with pytest.raises(asyncpg.ObjectInUseError, match="consumer mirror has not consumed"):
        await archive(owner, flow)
    await owner.execute(
        f"UPDATE feed_consumers SET seq = $2, flow_id = $1, link = $3 WHERE {own_part}",
        *(flow.flow_id, seal.seq, flow.head),
    )
    with pytest.raises(asyncpg.ObjectInUseError, match=r"consumer mirror has flow .* parked"):
        await archive(owner, flow)
    await owner.execute("DELETE FROM feed_parked")
    await archive(owner, flow)
    assert await owner.fetchval("SELECT consumers FROM archived_flows") == ["mirror"]


LOCKED = {
    "feed_consumers": "ACCESS EXCLUSIVE",
    "feed_parked": "ACCESS EXCLUSIVE",
    "archived_flows": "SHARE",
    "event_log": "SHARE",
    "workflow_step_executions": "SHARE",
    "flow_snapshots": "SHARE",
    "flow_runs": "SHARE",
    "imported_flows": "SHARE",
    "resource_waits": "SHARE",
    "workflow_step_artifact_uses": "SHARE",
    "workflow_step_artifacts": "EXCLUSIVE",
    "workflow_step_artifact_chunks": "SHARE",
}


async def test_a_kill_at_each_statement_leaves_the_flows_whole(
    store: PgEventStore, owner: Connection, admin_url: str
) -> None:
    """Another session's lock holds the archive at the statement that comes to a table."""
    await sealed_flow(store, owner, [VALUE])
    flow = await sealed_flow(store, owner, [VALUE, OTHER])
    streamed, _ = await streamed_flow(store, owner)
    before = await history(owner)
    for table, mode in LOCKED.items():
        archivist = await asyncpg.connect(admin_url)
        pid = await archivist.fetchval("SELECT pg_backend_pid()")
        async with owner.transaction():
            await owner.execute(f"LOCK TABLE {table} IN {mode} MODE")
            archiving = asyncio.create_task(archive(archivist, flow, streamed))
            await until_blocked(owner)
            assert await owner.fetchval("SELECT pg_terminate_backend($1, 10000)", pid)
            with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
                await archiving
        assert await history(owner) == before, table
    await archive(owner, flow, streamed)
    assert await left(owner, flow.flow_id) == ["archived_flows"]


async def test_who_appends_to_a_flow_that_is_being_archived_is_refused(
    store: PgEventStore, owner: Connection
) -> None:
    flow = await sealed_flow(store, owner)
    async with owner.transaction():
        await archive(owner, flow)
        with pytest.raises(FlowSealed):
            await store.append_kind(flow.flow_id, LATE)
    for expected in (None, flow.version, 0):
        with pytest.raises(FlowArchived):
            await store.append_kind(flow.flow_id, LATE, expected_version=expected)
    assert await left(owner, flow.flow_id) == ["archived_flows"]


async def test_an_artifact_that_is_used_meanwhile_stays(
    store: PgEventStore, owner: Connection, admin_url: str
) -> None:
    flow = await sealed_flow(store, owner, [VALUE, OTHER])
    watcher = await asyncpg.connect(admin_url)
    async with store.transaction() as transaction:
        await transaction.append_kind(new_flow_id(), LATE, artifacts=[VALUE])
        archiving = asyncio.create_task(archive(owner, flow))
        await until_blocked(watcher)
    await watcher.close()
    await archiving
    assert await hashes(owner) == {VALUE.hash}


async def test_who_brings_an_artifact_that_is_leaving_stores_it_anew(
    store: PgEventStore, owner: Connection
) -> None:
    flow, other = await sealed_flow(store, owner, [VALUE, OTHER]), new_flow_id()
    async with owner.transaction():
        await archive(owner, flow)
        appending = asyncio.create_task(store.append_kind(other, LATE, artifacts=[OTHER, VALUE]))
        await until_blocked(owner)
    await appending
    assert await hashes(owner) == {VALUE.hash, OTHER.hash}
    assert await left(owner, other) == ["event_log", "workflow_step_artifacts"]


async def seal_and_archive(store: PgEventStore, owner: Connection, rounds: int) -> None:
    """Seal and archive flows that twelve writers each append to without expectation."""
    for _ in range(rounds):
        flow_ids = [await ended_flow(store) for _ in range(4)]
        acknowledged: dict[UUID, list[int]] = {flow_id: [] for flow_id in flow_ids}

        async def append_on(flow_id: UUID, versions: list[int]) -> None:
            with suppress(FlowSealed):
                while True:
                    versions.append((await store.append_kind(flow_id, LATE)).version)

        writers = [
            asyncio.create_task(append_on(flow_id, acknowledged[flow_id]))
            for flow_id in flow_ids
            for _ in range(12)
        ]
        while min(len(versions) for versions in acknowledged.values()) < 12:
            await asyncio.sleep(0)
        flows = [await sealed(store, owner, flow_id) for flow_id in flow_ids]
        await archive(owner, *flows)
        await asyncio.gather(*writers)
        for flow in flows:
            assert await left(owner, flow.flow_id) == ["archived_flows"]
            assert sorted(acknowledged[flow.flow_id]) == list(range(3, flow.version - 1))


async def test_nothing_is_acknowledged_beyond_a_seal_and_nothing_is_left(
    store: PgEventStore, owner: Connection
) -> None:
    await seal_and_archive(store, owner, 2)


@pytest.mark.slow
async def test_160_flows_are_archived_while_twelve_writers_append_to_each(
    store: PgEventStore, owner: Connection
) -> None:
    await seal_and_archive(store, owner, 40)

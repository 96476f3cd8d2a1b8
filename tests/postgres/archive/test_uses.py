"""Which artifacts of other flows a flow uses is recorded with its events, and locks them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    FlowArchived,
    FlowInitialized,
    InMemoryEventStore,
    PgEventStore,
    PoolProvider,
    ResultOrigin,
    StepFinished,
    StepSignal,
    StoreError,
    StreamedArtifact,
    export_flows,
    import_bundle,
)
from chem_persistence.domain.definition import definition_artifacts
from chem_persistence.postgres.schema.migrations import known_migrations, migrate
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.flows.large_artifacts import blob
from tests.support.servers.waiting import until_blocked

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
SAID = StepSignal(0, "acquire", "progress")
VALUE = Artifact.from_payload(kind="Value", payload={"n": 1.0})
REGISTER = """
    INSERT INTO archived_flows
        (flow_id, version, chain_hash, first_seq, last_seq, bundle_sha256, consumers, actor)
    VALUES ($1, 1, sha256(''), 1, 1, repeat('b', 64), '{}', 'Ada')
"""


@pytest.fixture
def store(provider: PoolProvider) -> PgEventStore:
    return PgEventStore(provider)


@pytest.fixture
async def owner(admin_url: str) -> AsyncIterator[Connection]:
    """Yield a connection on which no trigger and no key guards the tables."""
    connection = await asyncpg.connect(
        admin_url, server_settings={"session_replication_role": "replica"}
    )
    yield connection
    await connection.close()


async def uses(owner: Connection) -> set[tuple[str, UUID]]:
    rows = await owner.fetch("SELECT artifact_hash, flow_id FROM workflow_step_artifact_uses")
    return {(row["artifact_hash"], row["flow_id"]) for row in rows}


async def keeper(owner: Connection, artifact: Artifact | StreamedArtifact) -> UUID:
    flow_id: UUID = await owner.fetchval(
        "SELECT flow_id FROM workflow_step_artifacts WHERE artifact_hash = $1", artifact.hash
    )
    return flow_id


async def test_who_brings_an_artifact_again_uses_it(store: PgEventStore, owner: Connection) -> None:
    first, second = new_flow_id(), new_flow_id()
    own = Artifact.from_payload(kind="Value", payload=2)
    for _ in range(2):
        await store.append_kind(first, SAID, artifacts=[VALUE])
    assert await uses(owner) == set()
    for _ in range(2):
        await store.append_kind(second, SAID, artifacts=[VALUE, own])
    assert await uses(owner) == {(VALUE.hash, second)}
    assert (await keeper(owner, VALUE), await keeper(owner, own)) == (first, second)


async def test_two_flows_of_one_batch_share_an_artifact(
    store: PgEventStore, owner: Connection
) -> None:
    flows = [new_flow_id() for _ in range(3)]
    await asyncio.gather(*(store.append_kind(each, SAID, artifacts=[VALUE]) for each in flows))
    first = await keeper(owner, VALUE)
    assert await uses(owner) == {(VALUE.hash, each) for each in flows if each != first}


async def test_definitions_have_no_uses(store: PgEventStore, owner: Connection) -> None:
    for _ in range(2):
        await store.append_kind(
            new_flow_id(), initialized(), artifacts=definition_artifacts(DEFINITION)
        )
    assert await uses(owner) == set()


async def test_who_takes_a_result_over_uses_its_artifacts(
    store: PgEventStore, owner: Connection
) -> None:
    first, second = new_flow_id(), new_flow_id()
    finished = StepFinished(0, "acquire", (VALUE.hash,), "f" * 64)
    await store.append_kinds(first, [initialized(), finished], artifacts=[VALUE])
    reused = StepFinished(0, "acquire", (VALUE.hash,), "f" * 64, reused_from=ResultOrigin(first, 1))
    await store.append_kinds(second, [initialized(), reused])
    assert await uses(owner) == {(VALUE.hash, second)}


async def test_a_result_that_is_archived_meanwhile_is_not_taken_over(
    store: PgEventStore, owner: Connection
) -> None:
    gone, flow_id = new_flow_id(), new_flow_id()
    await owner.execute(REGISTER, gone)
    await store.append_kind(flow_id, initialized())
    reused = StepFinished(0, "acquire", (VALUE.hash,), "f" * 64, reused_from=ResultOrigin(gone, 1))
    with pytest.raises(StoreError, match="was archived meanwhile"):
        await store.append_kind(flow_id, reused)
    assert len(await store.list(flow_id)) == 1


async def test_large_and_streamed_artifacts_have_uses_too(
    store: PgEventStore, owner: Connection
) -> None:
    large, first, second = blob(), new_flow_id(), new_flow_id()

    async def content() -> AsyncIterator[bytes]:
        yield b"frames"

    async def stored(flow_id: UUID) -> str:
        await store.append_kind(flow_id, SAID, artifacts=[large])
        async with store.transaction() as transaction:
            streamed = await transaction.put_stream(
                kind="Trajectory", chunks=content(), media_type="x"
            )
            await transaction.append_kind(flow_id, SAID, artifacts=[streamed])
        return streamed.hash

    assert await stored(first) == (streamed := await stored(second))
    assert await uses(owner) == {(large.hash, second), (streamed, second)}


async def test_an_imported_flow_uses_what_it_names(
    store: PgEventStore, owner: Connection, tmp_path: Path
) -> None:
    elsewhere, first, second = InMemoryEventStore(), *sorted([new_flow_id(), new_flow_id()])
    finished = StepFinished(0, "acquire", (VALUE.hash,), "f" * 64)
    begin = FlowInitialized(DEFINITION.definition_hash, 3, VALUE.hash)
    await elsewhere.append_kinds(second, [begin, finished], artifacts=[VALUE])
    reused = StepFinished(
        0, "acquire", (VALUE.hash,), "f" * 64, reused_from=ResultOrigin(second, 1)
    )
    await elsewhere.append_kinds(first, [initialized(), reused])
    await export_flows(elsewhere, [first, second], tmp_path / "run.zip")
    await import_bundle(store, tmp_path / "run.zip")
    assert await keeper(owner, VALUE) == second
    assert await uses(owner) == {(VALUE.hash, first)}


@pytest.mark.parametrize("artifact", [VALUE, blob()], ids=["small", "large"])
async def test_an_artifact_that_is_deleted_meanwhile_is_stored_anew(
    store: PgEventStore, owner: Connection, artifact: Artifact
) -> None:
    first, second = new_flow_id(), new_flow_id()
    await store.append_kind(first, SAID, artifacts=[artifact])
    deletion = owner.transaction()
    await deletion.start()
    await owner.execute("SELECT FROM workflow_step_artifacts FOR UPDATE")
    appending = asyncio.create_task(store.append_kind(second, SAID, artifacts=[artifact]))
    await until_blocked(owner)
    await owner.execute("DELETE FROM workflow_step_artifacts")
    await deletion.commit()
    await appending
    assert await keeper(owner, artifact) == second
    assert await uses(owner) == set()
    assert (await store.get_artifact(artifact.hash)).hash == artifact.hash


async def test_an_artifact_that_is_used_cannot_be_deleted(
    store: PgEventStore, admin_url: str
) -> None:
    for _ in range(2):
        await store.append_kind(new_flow_id(), SAID, artifacts=[VALUE])
    connection = await asyncpg.connect(admin_url)
    await connection.execute("ALTER TABLE workflow_step_artifacts DISABLE TRIGGER USER")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await connection.execute("DELETE FROM workflow_step_artifacts")
    await connection.close()


async def test_nothing_is_appended_under_the_id_of_an_archived_flow(
    store: PgEventStore, owner: Connection
) -> None:
    flow_id, other = new_flow_id(), new_flow_id()
    await owner.execute(REGISTER, flow_id)
    for expected in (None, 0):
        refused, stored = await asyncio.gather(
            store.append_kind(flow_id, SAID, expected_version=expected),
            store.append_kind(other, SAID),
            return_exceptions=True,
        )
        assert isinstance(refused, FlowArchived)
        assert (refused.flow_id, refused.bundle_sha256) == (flow_id, "b" * 64)
        assert not isinstance(stored, BaseException)
    query = "SELECT count(*) FROM event_log WHERE flow_id = $1"
    assert await owner.fetchval(query, flow_id) == 0


async def test_a_log_that_was_distributed_before_is_migrated(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await migrate(connection, "public", known_migrations()[:20])
    await connection.execute("""
        ALTER TABLE workflow_step_artifacts
            DROP CONSTRAINT workflow_step_artifacts_pkey,
            ADD CONSTRAINT workflow_step_artifacts_pkey PRIMARY KEY (flow_id, artifact_hash)
    """)  # as sql/citus/distribute.sql does
    await migrate(connection, "public")
    referenced = await connection.fetchval("""
        SELECT count(*) FROM pg_constraint
        WHERE conrelid = 'workflow_step_artifact_uses'::regclass AND contype = 'f'
    """)
    await connection.close()
    assert referenced == 0

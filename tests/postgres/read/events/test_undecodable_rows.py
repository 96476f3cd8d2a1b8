"""Rows that a superuser has altered are never skipped and never believed."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from chem_persistence import (
    Artifact,
    ArtifactCorrupt,
    ArtifactNotFound,
    EventStore,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepFinished,
    UnreadableEvent,
)
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id, whole_history

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

CONSTRAINTS = [
    "event_log DROP CONSTRAINT IF EXISTS event_log_check",
    "workflow_step_artifacts DROP CONSTRAINT IF EXISTS workflow_step_artifacts_hash_check",
    "workflow_step_artifacts DROP CONSTRAINT IF EXISTS workflow_step_artifacts_body_check",
    "workflow_step_artifacts DROP CONSTRAINT IF EXISTS workflow_step_artifacts_metadata_check",
]
ARTIFACT = Artifact.from_payload(
    kind="Molecule", payload={"name": "benzene", "energy": 6.02214076e23}
)
CONTENT = Artifact.from_content(
    kind="Spectrum", content=b"\x00\xff", media_type="application/octet-stream"
)


class Vandal:
    """A superuser without triggers and constraints."""

    def __init__(self, connection: "PoolConnectionProxy[asyncpg.Record]") -> None:
        self._connection = connection

    async def change(self, statement: str, *values: object) -> None:
        """Run a statement that must change at least one row."""
        status = await self._connection.execute(statement, *values)
        assert int(status.split()[-1]) > 0


@pytest.fixture
def store(provider: PoolProvider) -> EventStore:
    return PgEventStore(provider)


@pytest.fixture
async def vandal(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Vandal]:
    async with pool.acquire() as connection:
        for constraint in CONSTRAINTS:
            await connection.execute(f"ALTER TABLE {constraint}")
        await connection.execute("SET session_replication_role = replica")
        yield Vandal(connection)


async def stored_flow(store: EventStore) -> UUID:
    flow_id = new_flow_id()
    await store.append_kinds(flow_id, whole_history(ARTIFACT), artifacts=[ARTIFACT])
    return flow_id


async def assert_unreadable(store: EventStore, flow_id: UUID, version: int) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        await store.list(flow_id)
    assert (caught.value.flow_id, caught.value.version) == (flow_id, version)


@pytest.mark.parametrize(
    "payload",
    [
        '{"type": "stepskipped", "step_id": "acquire", "step_index": 0}',
        '{"type": "StepStarted", "step_id": "acquire", "step_index": 0}',
        '{"type": "stepstarted", "step_id": "acquire"}',
        '{"type": "stepstarted", "step_id": "acquire", "step_index": 0, "more": 1}',
        '{"type": "stepstarted", "step_id": "acquire", "step_index": "0"}',
        '{"type": "stepstarted", "step_id": "acquire", "step_index": -1}',
        '{"type": "stepstarted", "step_id": "acquire", "step_index": 0.5}',
        '{"type": "stepstarted", "step_id": null, "step_index": 0}',
        '{"type": "flowcompleted", "flow_fingerprint": "f"}',
        '{"step_id": "acquire", "step_index": 0}',
        "{}",
        "[]",
        "null",
        '"stepstarted"',
        "7",
    ],
)
async def test_a_payload_that_is_not_the_event_its_row_names_is_unreadable(
    store: EventStore, vandal: Vandal, payload: str
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "UPDATE event_log SET payload = $2::text::jsonb WHERE flow_id = $1 AND version = 1",
        flow_id,
        payload,
    )
    await assert_unreadable(store, flow_id, 1)


@pytest.mark.parametrize("event_type", ["stepskipped", "StepStarted", "stepfinished", ""])
async def test_a_row_that_names_another_event_is_unreadable(
    store: EventStore, vandal: Vandal, event_type: str
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "UPDATE event_log SET event_type = $2 WHERE flow_id = $1 AND version = 1",
        flow_id,
        event_type,
    )
    await assert_unreadable(store, flow_id, 1)


@pytest.mark.parametrize("metadata", ["null", "[]", '"Ada"', "7", "true"])
async def test_metadata_that_is_no_object_is_unreadable(
    store: EventStore, vandal: Vandal, metadata: str
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "UPDATE event_log SET metadata = $2::text::jsonb WHERE flow_id = $1 AND version = 2",
        flow_id,
        metadata,
    )
    await assert_unreadable(store, flow_id, 2)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-" + "9" * 5000])
async def test_a_number_beyond_every_float_is_unreadable(
    store: EventStore, vandal: Vandal, number: str
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "INSERT INTO event_log "
        "(flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash) "
        "VALUES ($1, 8, gen_random_uuid(), now(), 'stepsignal', jsonb_build_object("
        "'type', 'stepsignal', 'step_index', 0, 'step_id', 'acquire', "
        "'signal', 's', 'data', $2::text::numeric), '{}', sha256('by hand'))",
        flow_id,
        number,
    )
    await assert_unreadable(store, flow_id, 8)


@pytest.mark.parametrize(
    "time", ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01", "294276-12-31"]
)
async def test_a_time_that_no_datetime_can_hold_is_unreadable(
    store: EventStore, vandal: Vandal, time: str
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "UPDATE event_log SET ts = $2::text::timestamptz WHERE flow_id = $1 AND version = 2",
        flow_id,
        time,
    )
    await assert_unreadable(store, flow_id, 2)


@pytest.mark.parametrize("version", [0, 1, 6])
async def test_a_row_that_is_missing_before_the_last_is_unreadable(
    store: EventStore, vandal: Vandal, version: int
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "DELETE FROM event_log WHERE flow_id = $1 AND version = $2", flow_id, version
    )
    await assert_unreadable(store, flow_id, version)


async def test_a_row_that_was_moved_to_a_later_version_is_unreadable(
    store: EventStore, vandal: Vandal
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "UPDATE event_log SET version = 99 WHERE flow_id = $1 AND version = 3", flow_id
    )
    await assert_unreadable(store, flow_id, 3)


async def test_a_flow_that_lost_its_last_events_is_a_shorter_flow(
    store: EventStore, vandal: Vandal
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change("DELETE FROM event_log WHERE flow_id = $1 AND version >= 5", flow_id)
    assert [event.version for event in await store.list(flow_id)] == [0, 1, 2, 3, 4]


async def test_a_page_after_the_bad_row_is_read_and_a_page_with_it_is_not(
    store: EventStore, vandal: Vandal
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change("DELETE FROM event_log WHERE flow_id = $1 AND version = 3", flow_id)
    assert [event.version for event in await store.list(flow_id, limit=3)] == [0, 1, 2]
    assert [event.version for event in await store.list(flow_id, after_version=3, limit=2)] == [
        4,
        5,
    ]
    with pytest.raises(UnreadableEvent) as caught:
        await store.list(flow_id, after_version=1, limit=2)
    assert caught.value.version == 3


async def test_a_flow_with_an_unreadable_event_does_not_load(
    store: EventStore, provider: PoolProvider, vandal: Vandal
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "UPDATE event_log SET payload = '{}' WHERE flow_id = $1 AND version = 4", flow_id
    )
    with pytest.raises(UnreadableEvent) as caught:
        await PgFlowRepository(provider).load(flow_id, None, DEFINITION)
    assert caught.value.version == 4


@pytest.mark.parametrize("time", ["infinity", "10000-01-01"])
@pytest.mark.parametrize("version", range(8))
async def test_a_flow_with_a_time_that_no_datetime_can_hold_does_not_load(
    store: EventStore, provider: PoolProvider, vandal: Vandal, version: int, time: str
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "UPDATE event_log SET ts = $2::text::timestamptz WHERE flow_id = $1 AND version = $3",
        flow_id,
        time,
        version,
    )
    with pytest.raises(UnreadableEvent, match="its time is missing or out of range") as caught:
        await PgFlowRepository(provider).load(flow_id, None, DEFINITION)
    assert caught.value.version == version


@pytest.mark.parametrize("event_type", ["stepsignal", "flowcompleted", "StepStarted", ""])
async def test_a_flow_with_a_row_that_names_another_event_does_not_load(
    store: EventStore, provider: PoolProvider, vandal: Vandal, event_type: str
) -> None:
    flow_id = await stored_flow(store)
    await vandal.change(
        "UPDATE event_log SET event_type = $2 WHERE flow_id = $1 AND version = 1",
        flow_id,
        event_type,
    )
    with pytest.raises(UnreadableEvent, match="is stored as") as caught:
        await PgFlowRepository(provider).load(flow_id, None, DEFINITION)
    assert caught.value.version == 1


async def test_other_flows_stay_readable(store: EventStore, vandal: Vandal) -> None:
    bad, good = await stored_flow(store), await stored_flow(store)
    await vandal.change("UPDATE event_log SET payload = '{}' WHERE flow_id = $1", bad)
    assert len(await store.list(good)) == 8


async def test_a_repeated_append_does_not_believe_an_altered_original(
    store: EventStore, vandal: Vandal
) -> None:
    flow_id, event_id = new_flow_id(), uuid4()
    await store.append_kind(flow_id, initialized(), event_id=event_id)
    await vandal.change("UPDATE event_log SET payload = '{}' WHERE flow_id = $1", flow_id)
    with pytest.raises(UnreadableEvent) as caught:
        await store.append_kind(flow_id, initialized(), event_id=event_id)
    assert (caught.value.flow_id, caught.value.version) == (flow_id, 0)


ALTERATIONS = [
    """payload = '{"name": "toluene", "energy": 6.02214076e23}'""",
    """payload = '{"name": "benzene", "energy": 6.02214077e23}'""",
    """payload = '{"name": "benzene"}'""",
    "payload = 'null'",
    "payload = NULL",
    "content = 'benzene'",
    """payload = NULL, content = '{"energy":6.02214076e+23,"name":"benzene"} '""",
    "metadata = '[]'",
    "metadata = 'null'",
    "payload = to_jsonb(repeat('9', 400)::numeric)",
    "payload = to_jsonb(repeat('9', 5000)::numeric)",
]


@pytest.mark.parametrize("alteration", ALTERATIONS)
async def test_an_altered_artifact_is_corrupt(
    store: EventStore, vandal: Vandal, alteration: str
) -> None:
    await stored_flow(store)
    await vandal.change(
        f"UPDATE workflow_step_artifacts SET {alteration} WHERE artifact_hash = $1", ARTIFACT.hash
    )
    with pytest.raises(ArtifactCorrupt) as caught:
        await store.get_artifact(ARTIFACT.hash)
    assert caught.value.artifact_hash == ARTIFACT.hash


@pytest.mark.parametrize(
    "alteration", ["content = ''", "content = content || ' '", "payload = '1'"]
)
async def test_altered_content_is_corrupt(
    store: EventStore, vandal: Vandal, alteration: str
) -> None:
    produced = StepFinished(0, "acquire", (CONTENT.hash,), "f" * 64)
    await store.append_kind(new_flow_id(), produced, artifacts=[CONTENT])
    await vandal.change(
        f"UPDATE workflow_step_artifacts SET {alteration} WHERE artifact_hash = $1", CONTENT.hash
    )
    with pytest.raises(ArtifactCorrupt) as caught:
        await store.get_artifact(CONTENT.hash)
    assert caught.value.artifact_hash == CONTENT.hash


async def test_an_artifact_under_another_hash_is_corrupt_and_missing_under_its_own(
    store: EventStore, vandal: Vandal
) -> None:
    await stored_flow(store)
    await vandal.change("UPDATE workflow_step_artifacts SET artifact_hash = $1", "0" * 64)
    with pytest.raises(ArtifactCorrupt):
        await store.get_artifact("0" * 64)
    with pytest.raises(ArtifactNotFound):
        await store.get_artifact(ARTIFACT.hash)


async def test_an_artifact_stored_with_other_whitespace_and_key_order_is_the_same(
    store: EventStore, vandal: Vandal
) -> None:
    await stored_flow(store)
    await vandal.change(
        """UPDATE workflow_step_artifacts
        SET payload = '{ "name" : "benzene", "energy": 602214076e15 }'"""
    )
    assert await store.get_artifact(ARTIFACT.hash) == ARTIFACT

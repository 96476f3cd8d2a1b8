"""What the database itself accepts, rejects and answers; and the statements that run on it."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from chem_persistence import (
    Artifact,
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    InMemoryFlowRepository,
    PgEventStore,
    PoolProvider,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.events import EVENT_KINDS
from chem_persistence.postgres.schema import statements
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id, whole_history
from tests.support.servers.server import TestServer

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

QUERIES = Path(__file__).resolve().parents[3] / "sql" / "queries"
QUERY_NAMES = sorted(
    f"{path.stem}/{name}"
    for path in QUERIES.glob("*.sql")
    for name in statements.statements(path.stem)
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HASH = "a" * 64
UPLOAD = UUID(int=7)

EVENT = {
    "version": 0,
    "event_type": "stepsignal",
    "payload": '{"type": "stepsignal"}',
    "metadata": "{}",
    "chain_hash": bytes(32),
}
ARTIFACT = {
    "artifact_hash": HASH,
    "kind": "Molecule",
    "payload": "{}",
    "content": None,
    "media_type": "application/json",
    "metadata": "{}",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_url(server: TestServer) -> AsyncIterator[str]:
    """Yield the URL of a migrated database for tests that leave nothing in it."""
    async with server.database() as url:
        yield url


@pytest.fixture
async def connection(shared_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(shared_url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def insert_event(connection: Connection, **changes: Any) -> tuple[UUID, int]:
    row = {"flow_id": uuid4(), "event_id": uuid4(), "ts": NOW, **EVENT, **changes}
    return row["flow_id"], await insert(connection, "event_log", row, "seq")


async def insert_artifact(connection: Connection, **changes: Any) -> None:
    flow_id, seq = await insert_event(connection)
    await insert(
        connection,
        "workflow_step_artifacts",
        {"flow_id": flow_id, "produced_in_seq": seq, **ARTIFACT, **changes},
        "artifact_hash",
    )


async def insert(connection: Connection, table: str, row: dict[str, Any], returning: str) -> Any:
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    query = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places}) RETURNING {returning}"
    return await connection.fetchval(query, *row.values())


@pytest.mark.parametrize("event_type", sorted(EVENT_KINDS))
async def test_every_kind_of_event_is_accepted(connection: Connection, event_type: str) -> None:
    _, seq = await insert_event(
        connection, event_type=event_type, payload=json.dumps({"type": event_type})
    )
    assert seq > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"event_type": "StepSignal", "payload": '{"type": "StepSignal"}'},
        {"event_type": "teatime", "payload": '{"type": "teatime"}'},
        {"event_type": "", "payload": '{"type": ""}'},
        {"event_type": "stepsignal ", "payload": '{"type": "stepsignal "}'},
        {"payload": '{"type": "stepstarted"}'},
        {"payload": '{"type": "StepSignal"}'},
        {"payload": "{}"},
        {"payload": '{"type": null}'},
        {"payload": '{"type": ["stepsignal"]}'},
        {"payload": '["stepsignal"]'},
        {"payload": '"stepsignal"'},
        {"payload": "null"},
        {"version": -1},
        {"metadata": "[]"},
        {"metadata": "null"},
        {"chain_hash": bytes(31)},
    ],
    ids=str,
)
async def test_an_event_that_makes_no_sense_is_refused(
    connection: Connection, changes: dict[str, Any]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await insert_event(connection, **changes)
    known = changes.get("event_type") is None
    assert caught.value.constraint_name == ("event_log_check" if known else "event_type_name_check")


@pytest.mark.parametrize("column", ["flow_id", "event_id", "ts", *EVENT])
async def test_every_column_of_an_event_is_needed(connection: Connection, column: str) -> None:
    with pytest.raises(asyncpg.NotNullViolationError) as caught:
        await insert_event(connection, **{column: None})
    assert caught.value.column_name == column


async def test_a_version_is_in_a_flow_once(connection: Connection) -> None:
    flow_id, _ = await insert_event(connection, version=3)
    await insert_event(connection, version=3)
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await insert_event(connection, flow_id=flow_id, version=3)
    assert caught.value.constraint_name == "event_log_flow_version_key"


async def test_a_seq_is_in_a_flow_once(connection: Connection) -> None:
    flow_id, seq = await insert_event(connection)
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await insert_event(connection, flow_id=flow_id, version=1, seq=seq)
    assert caught.value.constraint_name == "event_log_pkey"


@pytest.mark.parametrize(
    "body",
    [
        {"payload": "{}"},
        {"payload": "null"},
        {"payload": None, "content": b"\0\xff"},
        {"payload": None, "content": b""},
    ],
    ids=str,
)
async def test_an_artifact_has_a_payload_or_content(
    connection: Connection, body: dict[str, Any]
) -> None:
    await insert_artifact(connection, **body)


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"payload": None, "content": None}, "body"),
        ({"payload": "{}", "content": b""}, "body"),
        ({"payload": "null", "content": b"x"}, "body"),
        ({"upload_id": UPLOAD, "content_size": 1}, "body"),
        ({"content_size": 1}, "content_size"),
        ({"payload": None, "upload_id": UPLOAD}, "content_size"),
        ({"payload": None, "upload_id": UPLOAD, "content_size": -1}, "content_size"),
        ({"artifact_hash": ""}, "hash"),
        ({"artifact_hash": "a" * 63}, "hash"),
        ({"artifact_hash": "a" * 65}, "hash"),
        ({"artifact_hash": "A" * 64}, "hash"),
        ({"artifact_hash": "g" * 64}, "hash"),
        ({"artifact_hash": HASH + "\n"}, "hash"),
        ({"artifact_hash": "\n" + HASH}, "hash"),
        ({"metadata": "[]"}, "metadata"),
    ],
    ids=str,
)
async def test_an_artifact_that_makes_no_sense_is_refused(
    connection: Connection, changes: dict[str, Any], constraint: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await insert_artifact(connection, **changes)
    assert caught.value.constraint_name == f"workflow_step_artifacts_{constraint}_check"


async def test_an_artifact_is_stored_once_by_its_hash(connection: Connection) -> None:
    await insert_artifact(connection)
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        await insert_artifact(connection)
    assert caught.value.constraint_name == "workflow_step_artifacts_pkey"


async def test_an_artifact_may_have_its_content_in_chunks(connection: Connection) -> None:
    await insert_artifact(connection, payload=None, upload_id=uuid4(), content_size=0)


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"chunk_no": -1}, "chunk_no"),
        ({"content": b""}, "content"),
        ({"content": bytes(2**20 + 1)}, "content"),
    ],
    ids=["before the first", "empty", "too large"],
)
async def test_a_chunk_that_makes_no_sense_is_refused(
    connection: Connection, changes: dict[str, Any], constraint: str
) -> None:
    row = {"upload_id": UPLOAD, "chunk_no": 0, "content": bytes(2**20)}
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await insert(connection, "workflow_step_artifact_chunks", {**row, **changes}, "chunk_no")
    assert caught.value.constraint_name == f"workflow_step_artifact_chunks_{constraint}_check"


async def test_the_server_may_compress_every_body_by_its_own_method(connection: Connection) -> None:
    rows = await connection.fetch("""
        SELECT attrelid::regclass::text || '.' || attname AS name, attstorage::text AS storage
        FROM pg_attribute
        WHERE attrelid IN (
                'workflow_step_artifacts'::regclass, 'workflow_step_artifact_chunks'::regclass)
            AND attname IN ('payload', 'content')
    """)
    assert {row["name"]: row["storage"] for row in rows} == {
        "workflow_step_artifacts.payload": "x",
        "workflow_step_artifacts.content": "x",
        "workflow_step_artifact_chunks.content": "x",
    }


async def test_a_step_row_has_a_known_status(connection: Connection) -> None:
    row = {"flow_id": uuid4(), "step_index": 0, "step_id": "s", "attempts": 0, "retry_count": 0}
    for status in ("pending", "running", "finished", "failed", "awaiting_user_input"):
        await insert(
            connection,
            "workflow_step_executions",
            {**row, "flow_id": uuid4(), "status": status},
            "step_index",
        )
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(
            connection, "workflow_step_executions", {**row, "status": "asleep"}, "step_index"
        )


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"chain_hash": b"short"},
        {"definition_hash": "A" * 64},
        {"state_hash": bytes(31)},
    ],
)
async def test_a_snapshot_that_makes_no_sense_is_refused(
    connection: Connection, change: dict[str, Any]
) -> None:
    row = {
        "flow_id": uuid4(),
        "version": 1,
        "chain_hash": bytes(32),
        "definition_hash": HASH,
        "format": 1,
        "state": b"{}",
        "state_hash": bytes(32),
        "created_at": NOW,
    }
    await insert(connection, "flow_snapshots", row, "version")
    with pytest.raises(asyncpg.CheckViolationError):
        await insert(connection, "flow_snapshots", {**row, "flow_id": uuid4(), **change}, "version")


@pytest.mark.parametrize(
    "change",
    [
        {"holder": None},
        {"lease": None},
        {"lease": None, "holder": None, "called": True},
        {"due_at": None},
    ],
)
async def test_a_run_that_is_half_held_is_refused(
    connection: Connection, change: dict[str, Any]
) -> None:
    row = {
        "flow_id": uuid4(),
        "definition_hash": HASH,
        "due_at": NOW,
        "lease": uuid4(),
        "holder": uuid4(),
        "called": True,
    }
    await insert(connection, "flow_runs", row, "flow_id")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await insert(connection, "flow_runs", {**row, "flow_id": uuid4(), **change}, "flow_id")


@pytest.mark.parametrize("change", [{"slot": -1}, {"step_index": None}, {"flow_id": None}])
async def test_a_slot_that_is_half_used_is_refused(
    connection: Connection, change: dict[str, Any]
) -> None:
    row = {"resource": "licence", "slot": 0, "flow_id": uuid4(), "step_index": 0}
    await insert(connection, "resource_slots", row, "slot")
    await insert(
        connection,
        "resource_slots",
        {**row, "slot": 1, "flow_id": None, "step_index": None},
        "slot",
    )
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await insert(connection, "resource_slots", {**row, "slot": 2, **change}, "slot")


async def test_the_columns_have_the_types_of_the_contract(connection: Connection) -> None:
    rows = await connection.fetch("""
        SELECT attrelid::regclass::text || '.' || attname AS name,
            format_type(atttypid, atttypmod) AS type
        FROM pg_attribute
        WHERE attnum > 0 AND attrelid IN (
            'event_log'::regclass,
            'workflow_step_artifacts'::regclass,
            'workflow_step_executions'::regclass,
            'flow_snapshots'::regclass,
            'flow_runs'::regclass,
            'workflow_step_artifact_chunks'::regclass
        )
    """)
    types = {row["name"]: row["type"] for row in rows}
    assert types == {
        "event_log.seq": "bigint",
        "event_log.flow_id": "uuid",
        "event_log.version": "integer",
        "event_log.event_id": "uuid",
        "event_log.ts": "timestamp with time zone",
        "event_log.event_type": "text",
        "event_log.payload": "jsonb",
        "event_log.metadata": "jsonb",
        "event_log.chain_hash": "bytea",
        "workflow_step_artifacts.artifact_hash": "text",
        "workflow_step_artifacts.kind": "text",
        "workflow_step_artifacts.payload": "jsonb",
        "workflow_step_artifacts.content": "bytea",
        "workflow_step_artifacts.media_type": "text",
        "workflow_step_artifacts.metadata": "jsonb",
        "workflow_step_artifacts.flow_id": "uuid",
        "workflow_step_artifacts.produced_in_seq": "bigint",
        "workflow_step_artifacts.has_all_uses": "boolean",
        "workflow_step_artifacts.upload_id": "uuid",
        "workflow_step_artifacts.content_size": "bigint",
        "workflow_step_artifacts.content_is_payload": "boolean",
        "workflow_step_artifact_chunks.upload_id": "uuid",
        "workflow_step_artifact_chunks.chunk_no": "integer",
        "workflow_step_artifact_chunks.content": "bytea",
        "workflow_step_executions.flow_id": "uuid",
        "workflow_step_executions.step_index": "bigint",
        "workflow_step_executions.step_id": "text",
        "workflow_step_executions.status": "text",
        "workflow_step_executions.attempts": "integer",
        "workflow_step_executions.retry_count": "bigint",
        "workflow_step_executions.fingerprint": "text",
        "workflow_step_executions.started_at": "timestamp with time zone",
        "workflow_step_executions.finished_at": "timestamp with time zone",
        "workflow_step_executions.error": "jsonb",
        "flow_snapshots.flow_id": "uuid",
        "flow_snapshots.version": "integer",
        "flow_snapshots.chain_hash": "bytea",
        "flow_snapshots.definition_hash": "text",
        "flow_snapshots.format": "integer",
        "flow_snapshots.state": "bytea",
        "flow_snapshots.state_hash": "bytea",
        "flow_snapshots.created_at": "timestamp with time zone",
        "flow_runs.flow_id": "uuid",
        "flow_runs.definition_hash": "text",
        "flow_runs.due_at": "timestamp with time zone",
        "flow_runs.lease": "uuid",
        "flow_runs.holder": "uuid",
        "flow_runs.called": "boolean",
        "flow_runs.by_program": "boolean",
    }


async def test_every_key_but_those_of_artifacts_contains_the_flow_id(
    connection: Connection,
) -> None:
    """Citus distributes the tables by it; a chunk's upload id contains its flow id.

    Workers, slots, the parts of consumers and statistics belong to no flow, and stay on the
    coordinator.
    """
    rows = await connection.fetch("""
        SELECT conrelid::regclass::text AS relation, conname,
            array_agg(attname::text ORDER BY attnum) AS columns
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
        WHERE contype IN ('p', 'u', 'f') AND connamespace = 'public'::regnamespace
        GROUP BY conrelid, conname
    """)
    keys = {
        row["conname"]: row["columns"] for row in rows if row["relation"] != "schema_migrations"
    }
    assert {name for name, columns in keys.items() if "flow_id" not in columns} == {
        "workflow_step_artifacts_pkey",
        "workflow_step_artifact_chunks_pkey",
        "workflow_step_artifact_uses_artifact_fkey",  # dropped where the log is distributed
        "flow_workers_pkey",
        "resource_slots_pkey",
        "feed_consumers_pkey",
        "step_statistics_pkey",
        "step_durations_pkey",
        "failure_statistics_pkey",
        "hourly_throughput_pkey",
        "artifact_statistics_pkey",
        "statistics_refresh_pkey",
    }
    assert keys["event_log_pkey"] == ["seq", "flow_id"]
    unique_indexes = await connection.fetch("""
        SELECT indexrelid::regclass::text AS name
        FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        WHERE indisunique AND relnamespace = 'public'::regnamespace AND relkind = 'r'
    """)
    constraints = {*keys, "schema_migrations_pkey"}
    assert {row["name"] for row in unique_indexes} <= constraints


async def producers(connection: Connection) -> dict[str, int]:
    """Return the version of the event that each artifact is recorded under."""
    rows = await connection.fetch("""
        SELECT artifact_hash, version
        FROM workflow_step_artifacts AS artifact JOIN event_log AS event
            ON event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq
    """)
    return {row["artifact_hash"]: row["version"] for row in rows}


def molecule(name: str) -> Artifact:
    return Artifact.from_payload(kind="Molecule", payload={"name": name})


async def test_an_artifact_is_recorded_under_the_event_that_names_it(
    provider: PoolProvider, database_url: str
) -> None:
    flow_input, first, second, unnamed = map(molecule, ["input", "first", "second", "unnamed"])
    kinds: list[FlowEventKind] = [
        StepSignal(0, "acquire", "ready"),
        FlowInitialized(DEFINITION.definition_hash, 3, flow_input.hash),
        StepFinished(0, "acquire", (first.hash,), HASH),
        StepFinished(1, "compute", (second.hash, first.hash), HASH),
        StepSignal(2, "report", "done"),
    ]
    await PgEventStore(provider).append_kinds(
        new_flow_id(), kinds, artifacts=[unnamed, second, first, flow_input]
    )
    reader = await asyncpg.connect(database_url)
    assert await producers(reader) == {
        flow_input.hash: 1,
        first.hash: 2,
        second.hash: 3,
        unnamed.hash: len(kinds) - 1,
    }
    await reader.close()


async def test_an_artifact_of_two_flows_is_one_row_under_the_first(
    provider: PoolProvider, database_url: str
) -> None:
    store, artifact = PgEventStore(provider), molecule("shared")
    flow_ids = [new_flow_id(), new_flow_id()]
    for flow_id in flow_ids:
        await store.append_kinds(flow_id, whole_history(artifact), artifacts=[artifact])
    reader = await asyncpg.connect(database_url)
    rows = await reader.fetch("SELECT artifact_hash, flow_id FROM workflow_step_artifacts")
    assert [tuple(row) for row in rows] == [(artifact.hash, flow_ids[0])]
    await reader.close()


STARTED = StepStarted(0, "acquire")
FAILED = StepFailed(0, "acquire", StepError("ValueError", "no"), HASH)
FINISHED = StepFinished(0, "acquire", (), HASH)
REQUESTED = UserInteractionRequested(0, "acquire")
PROVIDED = UserInteractionProvided(0, "acquire", True)
WAITS = StepWaits(0, "acquire", None, {"job": "4711"})
CANCELLED = FlowCancelled("no longer needed")
COMPLETED = FlowCompleted(HASH)
BRANCHED = BranchCreated(uuid4(), uuid4(), uuid4(), "acquire")
PREFERRED = PropertyPreferenceAssigned("logP", "policy", HASH)

STATES: list[tuple[str, list[FlowEventKind]]] = [
    ("pending", []),
    ("pending", [StepSignal(0, "acquire", "early")]),
    ("running", [STARTED]),
    ("running", [STARTED, FINISHED]),
    ("failed", [STARTED, FAILED]),
    ("failed", [STARTED, FAILED, StepSignal(0, "acquire", "said")]),
    ("running", [STARTED, FAILED, RetryScheduled("acquire", 1, "again")]),
    ("running", [STARTED, FAILED, RetryScheduled("acquire", 1, "again"), STARTED]),
    ("awaiting_user_input", [STARTED, REQUESTED]),
    ("awaiting_user_input", [STARTED, REQUESTED, PREFERRED]),
    ("running", [STARTED, REQUESTED, PROVIDED]),
    ("running", [PROVIDED]),
    ("waiting", [STARTED, WAITS]),
    ("waiting", [STARTED, WAITS, PREFERRED]),
    ("running", [STARTED, WAITS, STARTED]),
    ("failed", [STARTED, WAITS, FAILED]),
    ("running", [STARTED, WAITS, FINISHED]),
    ("cancelled", [CANCELLED]),
    ("cancelled", [STARTED, WAITS, CANCELLED]),
    ("cancelled", [STARTED, FAILED, CANCELLED, BRANCHED]),
    ("completed", [STARTED, FINISHED, COMPLETED]),
    ("completed", [STARTED, FINISHED, COMPLETED, BRANCHED]),
    ("completed", [STARTED, FINISHED, COMPLETED, PREFERRED, StepSignal(0, "acquire", "late")]),
]


async def test_the_flows_view_says_what_a_replay_says(
    provider: PoolProvider, database_url: str
) -> None:
    store = PgEventStore(provider)
    flow_ids = [new_flow_id() for _ in STATES]
    for flow_id, (_, kinds) in zip(flow_ids, STATES, strict=True):
        await store.append_kind(flow_id, initialized())
        for kind in kinds:
            await store.append_kind(flow_id, kind)
    reader = await asyncpg.connect(database_url)
    flows = {row["flow_id"]: row for row in await reader.fetch("SELECT * FROM flows")}
    await reader.close()
    assert [flows[flow_id]["state"] for flow_id in flow_ids] == [state for state, _ in STATES]
    for flow_id in flow_ids:
        events = await store.list(flow_id)
        instance = await InMemoryFlowRepository(store).load(flow_id, events, DEFINITION)
        row = flows[flow_id]
        assert (row["state"] == "completed") is instance.completed
        assert (row["version"], row["finished_steps"]) == (instance.version, instance.cursor)
        assert (row["started_at"], row["last_event_at"]) == (events[0].ts, events[-1].ts)
        assert (row["definition_hash"], row["step_count"]) == (DEFINITION.definition_hash, 3)


async def test_flows_are_listed_by_state_and_time(
    provider: PoolProvider, database_url: str
) -> None:
    class Metronome:
        time = NOW

        def now(self) -> datetime:
            self.time += timedelta(minutes=1)
            return self.time

    store = PgEventStore(provider, clock=Metronome())
    flow_ids = [new_flow_id() for _ in range(6)]
    for place, flow_id in enumerate(flow_ids):
        ending = [STARTED, FAILED] if place % 2 else [STARTED]
        await store.append_kinds(flow_id, [initialized(), *ending])
    reader = await asyncpg.connect(database_url)
    rows = await reader.fetch(
        (
            "SELECT flow_id FROM flows WHERE state = 'failed' AND started_at > $1 "
            "ORDER BY started_at DESC LIMIT 2"
        ),
        NOW + timedelta(minutes=1),
    )
    await reader.close()
    assert [row["flow_id"] for row in rows] == [flow_ids[5], flow_ids[3]]


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


@pytest.mark.parametrize(
    ("condition", "limit"),
    [("", 50), ("WHERE started_at < now()", 50), ("WHERE state = 'completed'", 5)],
)
async def test_the_newest_flows_are_found_without_reading_the_others(
    connection: Connection, condition: str, limit: int
) -> None:
    await connection.execute("""
        INSERT INTO event_log
            (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
        SELECT md5(flow::text)::uuid, version, gen_random_uuid(),
            '2020-01-01'::timestamptz + flow * interval '1 s',
            kind, jsonb_build_object('type', kind), '{}', sha256('by hand')
        FROM generate_series(1, 3000) AS flow, unnest(
            array[0, 1, 2, 3], array['flowinitialized', 'stepsignal', 'stepsignal', 'flowcompleted']
        ) AS event (version, kind)
        ORDER BY version, flow;
        INSERT INTO workflow_step_executions
            (flow_id, step_index, step_id, status, attempts, retry_count)
        SELECT md5(flow::text)::uuid, step, step::text, 'finished', 1, 0
        FROM generate_series(1, 3000) AS flow, generate_series(0, 2) AS step;
        ANALYZE event_log, workflow_step_executions
    """)
    query = f"SELECT * FROM flows {condition} ORDER BY started_at DESC LIMIT {limit}"
    plan = json.loads(
        await connection.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}")
    )
    visited = nodes(plan[0]["Plan"])
    assert "event_log_first_event_idx" in {node.get("Index Name") for node in visited}
    assert not [node for node in visited if node["Node Type"] in {"Seq Scan", "Hash Join"}]
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in visited) <= 3 * limit + 10
    assert len(await connection.fetch(query)) == limit


def heading_length(lines: list[str]) -> int:
    return next(place for place, line in enumerate(lines) if not line.startswith("--"))


NEED_CITUS = {
    "distribution/count_workers",
    "distribution/find_work_of_nodes",
    "distribution/list_distributed_tables",
    "distribution/permit_owner_on_workers",
    "distribution/read_local_group",
}
"""Statements that name tables and functions of Citus."""


@pytest.mark.parametrize(
    "names",
    [
        [name for name in QUERY_NAMES if name not in NEED_CITUS],
        pytest.param(sorted(NEED_CITUS), marks=pytest.mark.citus),
    ],
    ids=["on any server", "on Citus"],
)
async def test_a_statement_says_what_its_parameters_are(
    connection: Connection, names: list[str]
) -> None:
    for name in names:
        assert documented_parameters(name) == await prepared_parameters(connection, name), name


def documented_parameters(name: str) -> dict[int, str]:
    lines = statements.statement(name).splitlines()
    heading = "\n".join(lines[: heading_length(lines)])
    found = re.findall(r"\$(\d+) ([a-z_]+(?:\[\])?)", heading)
    return {int(number): type_ for number, type_ in found}


async def prepared_parameters(connection: Connection, name: str) -> dict[int, str]:
    prepared = await connection.prepare(statements.statement(name))
    names = {"int4": "integer", "int8": "bigint", "int4[]": "integer[]", "int8[]": "bigint[]"}
    names |= {"bool": "boolean", "float8": "double"}  # precision
    return {
        number: names.get(parameter.name, parameter.name)
        for number, parameter in enumerate(prepared.get_parameters(), start=1)
    }

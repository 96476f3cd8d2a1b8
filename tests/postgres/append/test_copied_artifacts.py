"""Artifacts that are sent in pieces: the same rows, once or not at all, whatever breaks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StoreError,
    StoreUnavailable,
    build_pool,
    verify_log,
)
from chem_persistence.postgres.append.copied_artifacts import MOST_BYTES, PIECE_BYTES
from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from tests.support.faults.proxy import Fault, Message, Proxy, Strike, proxied
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.large_artifacts import (
    LARGE,
    SAID,
    blob,
    is_a_piece,
    rows_of_text,
    table,
)
from tests.support.servers.roles import new_role

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

LARGEST_MESSAGE = 2 * PIECE_BYTES

ROWS = """
    SELECT artifact_hash, kind, payload::text, md5(content) AS content, content_is_payload,
        pg_column_size(payload) AS payload_size, pg_column_size(content) AS stored_size,
        media_type, metadata::text, flow_id, upload_id, content_size
    FROM workflow_step_artifacts WHERE flow_id = $1 ORDER BY artifact_hash
"""


ARTIFACTS: dict[str, Callable[[], list[Artifact]]] = {
    "content at the bound": lambda: [blob(MOST_BYTES)],
    "content": lambda: [blob()],
    "content that compresses": lambda: [
        Artifact.from_content(kind="x", content=b"C1CCCCC1\n" * 600_000, media_type="a/b")
    ],
    "content of several megabytes, not of whole pieces": lambda: [blob(9 * 2**20 + 12_345)],
    "payload at the bound": lambda: [rows_of_text(MOST_BYTES)],
    "payload": lambda: [rows_of_text(LARGE + 1)],
    "payloads in JSONB": lambda: [table(45, seed) for seed in range(5)],
    "several": lambda: [
        blob(),
        blob(0),
        table(3),
        rows_of_text(2 * 2**20),
        Artifact.from_payload(kind="Null", payload=None),
        Artifact.from_content(kind="x", content=b"\0", media_type="a/b"),
    ],
}


@pytest.fixture
async def plain_pool(database_url: str) -> AsyncIterator[Pool]:
    """Yield a pool of the driver's own connections, which send an append in one message."""
    async with asyncpg.create_pool(
        database_url, min_size=0, max_size=2, init=pass_jsonb_as_bytes
    ) as pool:
        yield pool


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[PgEventStore]:
    """Yield a store whose only connection goes through the proxy."""
    async with await build_pool(proxy.url, min_size=0, max_size=1) as pool:
        yield PgEventStore(PoolProvider(pool))


@pytest.fixture
def witness(provider: PoolProvider) -> PgEventStore:
    """Return a store on the same database without any fault."""
    return PgEventStore(provider)


async def rows_sent_at_once(
    plain_pool: Pool, flow_id: UUID, artifacts: Sequence[Artifact]
) -> list[Any]:
    """Return the rows that an append in one message stores, and roll it back."""
    async with PgEventStore(PoolProvider(plain_pool)).transaction() as tx:
        await tx.connection.execute("SAVEPOINT before")
        await tx.append_kind(flow_id, SAID, artifacts=artifacts)
        rows = await tx.connection.fetch(ROWS, flow_id)
        await tx.connection.execute("ROLLBACK TO SAVEPOINT before")
    return rows


@pytest.mark.parametrize("name", ARTIFACTS)
@pytest.mark.parametrize("in_transaction", [False, True])
async def test_the_rows_are_those_that_are_sent_at_once(
    *, plain_pool: Pool, pool: Pool, name: str, in_transaction: bool
) -> None:
    artifacts, flow_id = ARTIFACTS[name](), new_flow_id()
    expected = await rows_sent_at_once(plain_pool, flow_id, artifacts)
    store = PgEventStore(PoolProvider(pool))
    if in_transaction:
        async with store.transaction() as tx:
            event = await tx.append_kind(flow_id, SAID, artifacts=artifacts)
            read = [await tx.get_artifact(artifact.hash) for artifact in artifacts]
    else:
        event = await store.append_kind(flow_id, SAID, artifacts=artifacts)
        read = [await store.get_artifact(artifact.hash) for artifact in artifacts]
    assert read == artifacts
    assert await pool.fetch(ROWS, flow_id) == expected
    assert len(expected) == len(artifacts)
    query = "SELECT DISTINCT produced_in_seq FROM workflow_step_artifacts WHERE flow_id = $1"
    assert [row["produced_in_seq"] for row in await pool.fetch(query, flow_id)] == [event.seq]
    assert (await verify_log(PoolProvider(pool))).findings == []


async def test_each_artifact_belongs_to_the_event_that_produced_it(
    witness: PgEventStore, pool: Pool
) -> None:
    artifacts, flow_id = [blob(), table(2), blob(10, seed=1)], new_flow_id()
    kinds: list[FlowEventKind] = [
        StepFinished(0, "acquire", (artifact.hash,), "f" * 64) for artifact in artifacts
    ]
    events = await witness.append_kinds(flow_id, kinds, artifacts=artifacts)
    query = "SELECT artifact_hash, produced_in_seq FROM workflow_step_artifacts"
    assert {row["artifact_hash"]: row["produced_in_seq"] for row in await pool.fetch(query)} == {
        artifact.hash: event.seq for artifact, event in zip(artifacts, events, strict=True)
    }


@pytest.mark.parametrize("name", ["content", "payload", "payloads in JSONB", "several"])
async def test_no_message_holds_more_than_a_piece_or_two(
    proxy: Proxy, store: PgEventStore, name: str
) -> None:
    artifacts, sizes = ARTIFACTS[name](), list[int]()

    def note(message: Message) -> bool:
        sizes.append(len(message.data))
        return False

    proxy.arm(Fault(Strike.CUT_BEFORE, note))
    await store.append_kind(new_flow_id(), SAID, artifacts=artifacts)
    for artifact in artifacts:
        body = artifact.content or artifact.verified()
        if len(body) > MOST_BYTES:
            assert await store.get_artifact(artifact.hash) == artifact
            assert [read async for read in store.get_artifacts([artifact.hash])] == [artifact]
            chunks = [chunk async for chunk in store.read_artifact(artifact.hash)]
            assert b"".join(chunks) == body
    assert max(sizes) <= LARGEST_MESSAGE


async def test_a_usual_append_is_still_one_statement(proxy: Proxy, store: PgEventStore) -> None:
    sent: list[Message] = []

    def note(message: Message) -> bool:
        if message.from_client:
            sent.append(message)
        return False

    flow_id = new_flow_id()
    await store.append_kind(flow_id, initialized(), artifacts=[table(1)], expected_version=0)
    proxy.arm(Fault(Strike.CUT_BEFORE, note))
    await store.append_kind(flow_id, SAID, artifacts=[table(2)], expected_version=1)
    assert [message.type for message in sent if message.type != "Q"] == ["B", "E", "S"]
    assert not any(b"BEGIN" in message.data for message in sent)


# ---- other writers


async def test_writers_of_one_artifact_at_once_store_it_once(
    witness: PgEventStore, database_url: str, pool: Pool
) -> None:
    artifact = blob(8 * 2**20)
    async with await build_pool(database_url, max_size=4) as other:
        stores = [witness, PgEventStore(PoolProvider(other)), witness]
        flow_ids = [new_flow_id() for _ in range(9)]
        events = await asyncio.gather(
            *(
                stores[number % 3].append_kind(flow_id, SAID, artifacts=[artifact, table(2)])
                for number, flow_id in enumerate(flow_ids)
            )
        )
    assert [event.version for event in events] == [0] * 9
    assert await witness.get_artifact(artifact.hash) == artifact
    count_rows = "SELECT count(DISTINCT artifact_hash) FROM workflow_step_artifacts"
    assert await pool.fetchval(count_rows) == 2


@pytest.mark.one_row
async def test_the_second_writer_of_an_artifact_does_not_send_it(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore, pool: Pool
) -> None:
    artifact = blob()
    await witness.append_kind(new_flow_id(), SAID, artifacts=[artifact])
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, is_a_piece))
    event = await store.append_kind(new_flow_id(), SAID, artifacts=[artifact])
    assert not fault.struck.is_set()
    assert await witness.list(event.flow_id) == [event]
    assert await pool.fetchval("SELECT count(*) FROM workflow_step_artifacts") == 1


@pytest.mark.one_row
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_writer_that_sends_it_at_once_may_come_first(
    witness: PgEventStore, plain_pool: Pool, pool: Pool, end: str
) -> None:
    """It takes no lock on the hash: the row collides, and the rest is stored."""
    artifacts, flow_id = [blob(), table(2)], new_flow_id()
    async with plain_pool.acquire() as older:
        transaction = older.transaction()
        await transaction.start()
        await PgEventStore(Lent(older)).append_kind(new_flow_id(), SAID, artifacts=artifacts[:1])
        appending = asyncio.create_task(
            witness.append_kind(flow_id, SAID, artifacts=artifacts, expected_version=0)
        )
        await until_waiting_for_a_lock(pool)
        await getattr(transaction, end)()
    async with asyncio.timeout(60):
        event = await appending
    assert await witness.list(flow_id) == [event]
    assert [await witness.get_artifact(found.hash) for found in artifacts] == artifacts
    assert await pool.fetchval("SELECT count(*) FROM workflow_step_artifacts") == 2


class Lent:
    """A provider of one connection, which may be in a transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        yield self._connection


async def until_waiting_for_a_lock(pool: Pool) -> None:
    """Poll the server until a session of the database waits for a lock."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    async with asyncio.timeout(60):
        while not await pool.fetchval(query):
            pass


@pytest.mark.one_row
async def test_an_append_that_waits_for_an_artifact_holds_up_no_other_flow(
    witness: PgEventStore, pool: Pool
) -> None:
    artifact, flow_id = blob(), new_flow_id()
    async with witness.transaction() as tx:
        await tx.append_kind(new_flow_id(), SAID, artifacts=[artifact])
        waiting = asyncio.create_task(witness.append_kind(flow_id, SAID, artifacts=[artifact]))
        await until_waiting_for_a_lock(pool)
        async with asyncio.timeout(60):
            for _ in range(3):
                await witness.append_kind(new_flow_id(), SAID)
        assert not waiting.done()
    event = await waiting
    assert await witness.list(flow_id) == [event]


# ---- what the database refuses


SWALLOW = """
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE INSERT ON workflow_step_artifacts
    FOR EACH ROW WHEN (NEW.kind = 'Bløb') EXECUTE FUNCTION swallow()
"""


@pytest.mark.one_row
async def test_an_append_whose_artifact_a_trigger_keeps_out_fails_and_stores_nothing(
    witness: PgEventStore, admin_url: str
) -> None:
    owner = await asyncpg.connect(admin_url)
    kept, flow_id = blob(seed=1), new_flow_id()
    first = await witness.append_kind(flow_id, SAID, artifacts=[kept])
    await owner.execute(SWALLOW)
    await owner.close()
    with pytest.raises(StoreError, match="keeps artifacts from being stored") as caught:
        await witness.append_kind(flow_id, SAID, artifacts=[blob(), table(2)])
    assert not isinstance(caught.value, StoreUnavailable)
    async with witness.transaction() as tx:
        with pytest.raises(StoreError, match="keeps artifacts from being stored"):
            await tx.append_kind(flow_id, SAID, artifacts=[blob(), table(2)])
        second = await tx.append_kind(flow_id, SAID, artifacts=[kept])
    assert await witness.list(flow_id) == [first, second]


@pytest.mark.one_row
async def test_where_copy_is_not_permitted_it_is_sent_at_once(
    witness: PgEventStore, admin_url: str
) -> None:
    """COPY FROM does not work with row-level security (PostgreSQL manual, COPY, "Notes")."""
    artifact, flow_id = blob(), new_flow_id()
    async with new_role(admin_url) as role:
        owner = await asyncpg.connect(admin_url)
        await owner.execute(
            f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role.name};"
            f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role.name};"
            "ALTER TABLE workflow_step_artifacts ENABLE ROW LEVEL SECURITY;"
            f"CREATE POLICY all_rows ON workflow_step_artifacts TO {role.name} USING (true)"
        )
        async with await build_pool(role.url, max_size=1) as pool:
            store = PgEventStore(PoolProvider(pool))
            event = await store.append_kind(flow_id, SAID, artifacts=[artifact])
            async with store.transaction() as tx:
                await tx.append_kind(flow_id, SAID, artifacts=[blob(seed=1)])
        await owner.execute("ALTER TABLE workflow_step_artifacts DISABLE ROW LEVEL SECURITY")
        await owner.close()
        assert (await witness.list(flow_id))[0] == event
        assert await witness.get_artifact(artifact.hash) == artifact
        assert await witness.get_artifact(blob(seed=1).hash) == blob(seed=1)


@pytest.mark.one_row
async def test_an_error_in_the_middle_of_the_pieces_refuses_the_append(
    store: PgEventStore, witness: PgEventStore, admin_url: str
) -> None:
    owner = await asyncpg.connect(admin_url)
    await owner.execute(
        "ALTER TABLE workflow_step_artifacts ADD CONSTRAINT none CHECK (kind <> 'Bløb')"
    )
    await owner.close()
    flow_id = new_flow_id()
    for _ in range(2):
        with pytest.raises(StoreError, match="none") as caught:
            await store.append_kind(flow_id, SAID, artifacts=[blob()])
        assert caught.value.sqlstate == "23514"
    event = await store.append_kind(flow_id, SAID)
    assert await witness.list(flow_id) == [event]


# ---- savepoints and cancellation


async def test_a_savepoint_takes_back_a_large_artifact(witness: PgEventStore) -> None:
    artifact, flow_id = blob(), new_flow_id()
    async with witness.transaction() as tx:
        first = await tx.append_kind(flow_id, SAID)
        await tx.connection.execute("SAVEPOINT before")
        await tx.append_kind(flow_id, SAID, artifacts=[artifact])
        await tx.connection.execute("ROLLBACK TO SAVEPOINT before")
        with pytest.raises(ArtifactNotFound):
            await tx.get_artifact(artifact.hash)
        second = await tx.append_kind(flow_id, SAID, artifacts=[artifact])
        third = await tx.append_kind(flow_id, SAID, artifacts=[artifact])
    assert await witness.list(flow_id) == [first, second, third]
    assert await witness.get_artifact(artifact.hash) == artifact


@pytest.mark.parametrize("schema", ["lab", 'a "quoted" schema'])
async def test_it_is_stored_in_the_schema_of_the_pool(database_url: str, schema: str) -> None:
    artifact = blob()
    async with await build_pool(database_url, schema=schema) as pool:
        store = PgEventStore(PoolProvider(pool))
        await store.append_kind(new_flow_id(), SAID, artifacts=[artifact])
        assert await store.get_artifact(artifact.hash) == artifact
        query = "SELECT count(*) FROM workflow_step_artifacts"
        assert await pool.fetchval(query) == 1

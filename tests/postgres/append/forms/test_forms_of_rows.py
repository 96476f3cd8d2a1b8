"""Rows in PostgreSQL's binary form, and the documents that other writers send.

Connections of `build_pool` send rows; those of another program, and the library's earlier versions,
send JSON documents. Both forms store the same, and their writers may be at work together.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PoolProvider,
    ResultOrigin,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StoreError,
    build_pool,
)
from chem_persistence.domain.events import SEALED, LibrarySignal
from chem_persistence.postgres.append.place_events import Append, FlowHeads, append_batch
from chem_persistence.postgres.append.settle import Refused, Stored
from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from chem_persistence.postgres.schema.distribution import install_distribution
from chem_persistence.postgres.schema.migrations import known_migrations, migrate
from chem_persistence.store.append_request import AppendCall, append_request
from chem_persistence.store.checks import LARGE_BYTES
from chem_persistence.store.leasing.hold import Hold
from tests.support.examples import examples
from tests.support.flows import histories
from tests.support.flows.flows import new_flow_id
from tests.support.flows.histories import ANY_KIND, BEGIN
from tests.support.servers.citus import STAND_IN
from tests.support.servers.server import TestServer

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TABLES = {
    "event_log": "seq",
    "workflow_step_artifacts": "artifact_hash",
    "workflow_step_artifact_uses": "artifact_hash, flow_id",
    "workflow_step_executions": "flow_id, step_index",
    "flow_runs": "flow_id",
}
SIGNAL = StepSignal(0, "a", "next")
(MIGRATION,) = [each for each in known_migrations() if each.name == "append_rows"]
DROP = """
    DROP FUNCTION IF EXISTS append_rows;
    DROP TYPE IF EXISTS append_flow, append_event, append_artifact, append_retry, append_step
"""
REFUSE = """
    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{}'; END $$;
    CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON event_log EXECUTE FUNCTION refuse()
"""
ERROR = StepError("ValueError", "not so", "Traceback …")
SHORT = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO", "é": [1.5, None]})
OTHER = Artifact.from_payload(kind="Molecule", payload="O", metadata={"by": "hand"})
CONTENT = Artifact.from_content(kind="Bytes", content=b"\0\xff", media_type="text/plain")
LONG = Artifact.from_payload(kind="Table", payload=["x" * 1_000] * (LARGE_BYTES // 1_000 + 1))


async def foreign(url: str, schema: str) -> Connection:
    """Return a connection as another program may lend it: the driver's own class."""
    connection: Connection = await asyncpg.connect(url, server_settings={"search_path": schema})
    await pass_jsonb_as_bytes(connection)
    return connection


async def stored(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for table, order in TABLES.items():
        rows = map(dict, await connection.fetch(f"SELECT * FROM {table} ORDER BY {order}"))
        found[table] = [{name: row[name] for name in row if name != "due_at"} for row in rows]
    return found


class Twins:
    """Two empty logs; the same batches are sent to one as rows, to the other as documents."""

    def __init__(self, by_rows: Any, by_documents: Any) -> None:
        self.connections = {"rows": by_rows, "documents": by_documents}
        self.heads = {"rows": FlowHeads(), "documents": FlowHeads()}

    async def append(self, *calls: AppendCall, at: datetime = BEGIN) -> list[Any]:
        """Append one batch to each log; return the outcomes, which are the same."""
        request = partial(append_request, ts=at, max_artifact_bytes=2**30)
        outcomes: dict[str, list[Any]] = {}
        ids = [[uuid4() for _ in call.kinds] for call in calls]
        for form, connection in self.connections.items():
            appends = [
                Append(request(AppendCall(**_fields(call) | {"event_ids": own})))
                for call, own in zip(calls, ids, strict=True)
            ]
            found = await append_batch(connection, appends, self.heads[form])
            outcomes[form] = [_shown(found[append]) for append in appends]
        assert outcomes["rows"] == outcomes["documents"]
        return outcomes["rows"]

    async def check(self) -> None:
        """Check that both logs have the same rows in every table."""
        by_rows, by_documents = [await stored(each) for each in self.connections.values()]
        assert by_rows == by_documents


def _fields(call: AppendCall) -> dict[str, Any]:
    return {name: getattr(call, name) for name in call.__struct_fields__}


def _shown(outcome: Any) -> Any:
    return (type(outcome.error), str(outcome.error)) if isinstance(outcome, Refused) else outcome


@pytest.fixture
async def twins(admin_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Twins]:
    pools = [await build_pool(admin_url, schema=form) for form in ("rows", "documents")]
    documents = await foreign(admin_url, "documents")
    async with pools[0].acquire() as rows:
        if getattr(request, "param", False):
            for connection in (rows, documents):
                await connection.execute(STAND_IN)
                async with connection.transaction():
                    await install_distribution(connection)
        yield Twins(rows, documents)
    await documents.close()
    for pool in pools:
        await pool.close()


@pytest.mark.parametrize("twins", [False, True], indirect=True, ids=["plain", "distributed"])
async def test_rows_and_documents_store_the_same(twins: Twins) -> None:
    """One history with all that an append can have: what is stored, left out and released."""
    given_out, program, plain, archived = sorted(new_flow_id() for _ in range(4))
    lease, hold = uuid4(), Hold(uuid4(), 2.5)
    due = datetime(2026, 1, 2, tzinfo=UTC)
    begin = FlowInitialized("d" * 64, 3)
    first = await twins.append(
        AppendCall(plain, [begin], metadata={"by": "me", "é": 1e16}),
        AppendCall(plain, [StepSignal(0, "a", "next")]),
        AppendCall(given_out, [FlowInitialized("d" * 64, 3, due=due)], expected_version=0),
        AppendCall(program, [begin], expected_version=0, lease=lease, hold=hold),
        AppendCall(archived, [begin, FlowCompleted("f" * 64)], expected_version=0),
    )
    assert {type(outcome) for outcome in first} == {Stored}
    outputs = SHORT.hash, LONG.hash, CONTENT.hash
    await twins.append(
        AppendCall(
            plain,
            [
                StepStarted(0, "a"),
                StepFinished(0, "a", outputs, "f" * 64),
                StepStarted(1, "b"),
                StepFailed(1, "b", ERROR, "f" * 64),
                RetryScheduled("b", 1, "again"),
            ],
            artifacts=[CONTENT, SHORT, LONG],
        ),
        AppendCall(
            program,
            [
                StepStarted(0, "a"),
                StepFailed(0, "a", ERROR, "f" * 64),
                RetryScheduled("a", 1, "again"),
            ],
            lease=lease,
            hold=hold,
        ),
        AppendCall(given_out, [StepStarted(0, "a")], expected_version=1),
        AppendCall(archived, [LibrarySignal(1, "b", SEALED)]),
        at=BEGIN + timedelta(microseconds=123_456),
    )
    outcomes = await twins.append(
        AppendCall(plain, [StepSignal(0, "a", "next")], expected_version=3),
        AppendCall(given_out, [StepStarted(1, "b")], lease=uuid4()),
        AppendCall(program, [StepStarted(0, "a")], lease=lease, hold=hold),
        AppendCall(archived, [StepSignal(0, "a", "late")]),
        at=datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    )
    assert [type(outcome) for outcome in outcomes] == [tuple, tuple, Stored, tuple]
    origin = ResultOrigin(plain, 3)
    await twins.append(
        AppendCall(
            given_out,
            [
                StepFinished(0, "a", (OTHER.hash, SHORT.hash), "f" * 64),
                StepFinished(1, "b", (SHORT.hash,), "f" * 64, origin),
            ],
            artifacts=[OTHER, SHORT],
        ),
        AppendCall(plain, [RetryScheduled("b", 2, "again")]),
        at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    )
    await twins.append(AppendCall(program, [FlowCompleted("f" * 64)], lease=lease, hold=hold))
    await twins.check()


@settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(15),
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(
    batches=st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.lists(ANY_KIND, min_size=1, max_size=3),
                st.lists(histories.ARTIFACTS, max_size=1),
            ),
            min_size=1,
            max_size=4,
        ),
        max_size=5,
    )
)
async def test_rows_and_documents_store_the_same_of_any_facts(
    twins: Twins, batches: Sequence[Sequence[tuple[int, list[FlowEventKind], list[Artifact]]]]
) -> None:
    flow_ids = [new_flow_id() for _ in range(3)]
    for batch in batches:
        placed = sorted(batch, key=lambda append: append[0])
        await twins.append(
            *[AppendCall(flow_ids[flow], kinds, artifacts=own) for flow, kinds, own in placed]
        )
    await twins.check()


async def test_events_get_their_seqs_in_the_order_of_flows_and_versions(
    provider: PoolProvider, pool: Pool
) -> None:
    """The statement returns the seqs alone: each has to be that of its event."""
    flow_ids = [new_flow_id() for _ in range(40)]
    calls = [
        AppendCall(flow_id, [StepSignal(0, "a", f"{number}") for number in range(length)])
        for length, flow_id in enumerate(flow_ids, 1)
    ]
    appends = [Append(append_request(each, ts=BEGIN, max_artifact_bytes=1)) for each in calls]
    stale = [AppendCall(flow_id, [StepStarted(0, "a")], lease=uuid4()) for flow_id in flow_ids[::3]]
    async with provider.acquire() as connection:
        outcomes = await append_batch(connection, appends, FlowHeads())
        again = [Append(append_request(each, ts=BEGIN, max_artifact_bytes=1)) for each in calls]
        held = [Append(append_request(each, ts=BEGIN, max_artifact_bytes=1)) for each in stale]
        mixed = sorted([*again, *held], key=lambda append: append.request.flow_id.int)
        mixed = [
            each for each in mixed if each in held or each.request.flow_id not in flow_ids[::3]
        ]
        outcomes |= await append_batch(connection, mixed, FlowHeads())
    answered = {
        (event.flow_id, event.version): (event.seq, event.event_id)
        for outcome in outcomes.values()
        if isinstance(outcome, Stored)
        for event in outcome.events
    }
    rows = await pool.fetch("SELECT flow_id, version, seq, event_id FROM event_log ORDER BY seq")
    found = {(row["flow_id"], row["version"]): (row["seq"], row["event_id"]) for row in rows}
    assert answered == found
    assert len(found) > 1_000


async def test_types_that_are_made_anew_are_asked_for_again(admin_url: str) -> None:
    """Their numbers are others then, as they are in another database that a pooler leads to."""
    async with await build_pool(admin_url, max_size=2) as pool:
        store, flow_id = PgEventStore(PoolProvider(pool)), new_flow_id()
        for change in (make_anew, make_anew, leave_out, make_anew):
            await store.append_kind(flow_id, SIGNAL)
            async with store.transaction() as tx:
                await tx.append_kind(flow_id, SIGNAL)
                await tx.append_kind(flow_id, SIGNAL)
            async with pool.acquire() as connection:
                await change(connection)
            await asyncio.gather(*(store.append_kind(flow_id, SIGNAL) for _ in range(3)))
        async with store.transaction() as tx:
            await change(tx.connection)
            await tx.append_kind(flow_id, SIGNAL)
        assert [event.version for event in await store.list(flow_id)] == list(range(25))
        await store.aclose()


async def leave_out(connection: Any) -> None:
    """Leave only what writers of the version before have."""
    await connection.execute(DROP)


async def make_anew(connection: Any) -> None:
    """Drop the types and make them again, as a restore of a dump does."""
    await connection.execute(DROP)
    for migration in known_migrations()[MIGRATION.version - 1 :]:
        for statement in migration.statements:
            if migration.version == MIGRATION.version or "FUNCTION append_rows(" in statement:
                await connection.execute(statement)


async def test_a_failure_that_has_another_reason_stays_as_it_is(
    admin_url: str, provider: PoolProvider
) -> None:
    """Each of these errors may come from a type that is gone, or from a trigger."""
    store, owner = PgEventStore(provider), await asyncpg.connect(admin_url)
    await store.append_kind(new_flow_id(), SIGNAL)
    for sqlstate in ("42883", "42704", "22000", "XX000"):
        await owner.execute(REFUSE.format(sqlstate))
        with pytest.raises(StoreError) as refused:
            await store.append_kind(new_flow_id(), SIGNAL)
        assert refused.value.sqlstate == sqlstate
    await owner.execute("DROP FUNCTION refuse CASCADE")
    await store.append_kind(new_flow_id(), SIGNAL)
    await owner.close()
    await store.aclose()


async def test_two_schemas_of_one_database_have_types_of_their_own(admin_url: str) -> None:
    for schema in ("one", "two"):
        async with await build_pool(admin_url, schema=schema) as pool:
            store = PgEventStore(PoolProvider(pool))
            await store.append_kind(new_flow_id(), SIGNAL)
            await store.aclose()
            async with pool.acquire() as connection:
                assert sends_rows(connection)
                assert await connection.fetchval("SELECT count(*) FROM event_log") == 1


async def test_a_connection_of_another_program_sends_documents(
    database_url: str, provider: PoolProvider
) -> None:
    flow_id = new_flow_id()
    async with asyncpg.create_pool(database_url, init=pass_jsonb_as_bytes, min_size=1) as own:
        stores = PgEventStore(PoolProvider(own)), PgEventStore(provider)
        calls = [store.append_kind(flow_id, SIGNAL) for store in stores for _ in range(200)]
        events = await asyncio.gather(*calls)
        for store in stores:  # the connections of its writers come back, and are lent first
            await store.aclose()
        async with own.acquire() as connection, provider.acquire() as lent:
            assert (sends_rows(connection), sends_rows(lent)) == (False, True)
    assert sorted(event.version for event in events) == list(range(400))
    assert (await stores[1].list(flow_id))[-1].version == 399


def sends_rows(connection: Any) -> bool:
    types = getattr(connection, "row_types", None)
    return types is not None and bool(types.are_known)


async def test_the_log_is_migrated_while_writers_of_two_versions_are_at_work(
    server: TestServer,
) -> None:
    """Those of the version before lose nothing, and are refused nothing."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(server.database(template="template0"))
        own = await stack.enter_async_context(
            asyncpg.create_pool(url, init=pass_jsonb_as_bytes, min_size=1, max_size=4)
        )
        owner = await asyncpg.connect(url)
        await migrate(owner, "public", known_migrations()[: MIGRATION.version - 1])
        await owner.close()
        before, flow_ids = PgEventStore(PoolProvider(own)), [new_flow_id() for _ in range(4)]
        is_migrated = asyncio.Event()

        async def write(store: PgEventStore, flow_id: UUID, after: asyncio.Event) -> int:
            count = 0
            while not after.is_set() or count < 20:
                await store.append_kinds(flow_id, [SIGNAL, StepStarted(0, "a")])
                count += 1
            return count

        old = [asyncio.create_task(write(before, flow_id, is_migrated)) for flow_id in flow_ids]
        while not await own.fetchval("SELECT count(*) FROM event_log"):
            await asyncio.sleep(0)
        pool = await stack.enter_async_context(await build_pool(url))
        after = PgEventStore(PoolProvider(pool))
        new = [asyncio.create_task(write(after, flow_id, is_migrated)) for flow_id in flow_ids]
        is_migrated.set()
        counts = await asyncio.gather(*old, *new)
        for place, flow_id in enumerate(flow_ids):
            events = await after.list(flow_id)
            assert len(events) == 2 * (counts[place] + counts[place + len(flow_ids)])
        await before.aclose()
        await after.aclose()

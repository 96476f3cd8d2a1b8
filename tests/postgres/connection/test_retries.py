"""What is retried, how often, and what the caller gets if retrying does not help."""

import asyncio
import logging
import tempfile
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ChemPersistenceError,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    StoreError,
    StoreUnavailable,
    build_dev_pool_from_env,
    build_pool,
    embedded_postgres,
)
from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from chem_persistence.postgres.connection.session import RETRY_DELAYS
from tests.support.faults.gate import gate
from tests.support.faults.proxy import Fault, Strike, proxied
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.made_clusters import give_cluster
from tests.support.servers.server import TestServer

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TRANSIENT = ["26000", "40001", "40P01", "53200", "53300", "57P01", "57P02", "57P03", "08006"]
PERMANENT = ["08P01", "23514", "42501", "53100", "XX001", "P0001"]


class Retries:
    """The delays in seconds that the library has logged before its retries."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def delays(self) -> list[float]:
        records = [
            record for record in self._caplog.records if record.name == "chem_persistence.retries"
        ]
        return [record.args[1] for record in records if record.levelno == logging.INFO]  # type: ignore[index, misc]


@pytest.fixture
def retries(caplog: pytest.LogCaptureFixture) -> Iterator[Retries]:
    with caplog.at_level(logging.INFO, "chem_persistence.retries"):
        yield Retries(caplog)


@pytest.fixture
def store(provider: PoolProvider) -> PgEventStore:
    return PgEventStore(provider)


@pytest.fixture
def parent() -> Iterator[Path]:
    """Yield a directory outside pytest's own, which the server's user can reach."""
    with tempfile.TemporaryDirectory(prefix="retries-") as path:
        yield Path(path)


def signal() -> StepSignal:
    return StepSignal(0, "acquire", "said")


def with_user(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user)}:{quote(password)}@{address}"))


@asynccontextmanager
async def role(
    server: TestServer, url: str, *, options: str = "", rights: str = "ALL"
) -> AsyncIterator[str]:
    """Create a user who may connect and use the tables; yield a URL for this user."""
    name, password = f"role_{uuid4().hex}", uuid4().hex
    await server.administrate(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {options}")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {name}")
        await connection.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}")
        yield with_user(url, name, password)
    finally:
        await connection.execute(f"DROP OWNED BY {name}")
        await connection.close()
        await server.administrate(f"DROP ROLE {name}")


async def fail_appends(pool: Pool, sqlstate: str, times: int) -> None:
    """Make the server reject this many INSERTs of events; a sequence counts through rollbacks."""
    await pool.execute("CREATE SEQUENCE failures")
    await pool.execute(f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('failures') <= {times} THEN
                RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NEW;
        END $$
    """)  # only a trigger makes a healthy server raise this
    await pool.execute(
        "CREATE TRIGGER fail BEFORE INSERT ON event_log FOR EACH ROW EXECUTE FUNCTION fail()"
    )


async def until_waiting_for_a_lock(pool: Pool, sessions: int = 1) -> int:
    """Wait until this many sessions wait for a lock; return the process id of the first."""
    query = """
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    async with asyncio.timeout(60):
        while len(pids := await pool.fetch(query)) < sessions:
            pass
    return int(pids[0]["pid"])


def test_the_delays_are_15_30_and_45_milliseconds() -> None:
    assert RETRY_DELAYS == (0.015, 0.030, 0.045)


@pytest.mark.parametrize("sqlstate", TRANSIENT)
async def test_an_error_that_passes_by_itself_is_tried_again_three_times(
    pool: Pool, store: PgEventStore, retries: Retries, sqlstate: str
) -> None:
    flow_id = new_flow_id()
    await fail_appends(pool, sqlstate, times=3)
    event = await store.append_kind(flow_id, initialized(), expected_version=0)
    assert retries.delays == [0.015, 0.030, 0.045]
    assert await store.list(flow_id) == [event]


@pytest.mark.parametrize("sqlstate", TRANSIENT)
async def test_an_error_that_does_not_pass_after_three_retries_is_unavailable(
    pool: Pool, store: PgEventStore, retries: Retries, sqlstate: str
) -> None:
    flow_id = new_flow_id()
    await fail_appends(pool, sqlstate, times=4)
    with pytest.raises(StoreUnavailable) as caught:
        await store.append_kind(flow_id, initialized(), expected_version=0)
    assert caught.value.sqlstate == sqlstate
    assert isinstance(caught.value.__cause__, asyncpg.PostgresError)
    assert caught.value.__cause__.sqlstate == sqlstate
    assert retries.delays == list(RETRY_DELAYS)
    assert await store.list(flow_id) == []


@pytest.mark.parametrize("sqlstate", PERMANENT)
async def test_an_error_that_stays_is_not_tried_again(
    pool: Pool, store: PgEventStore, retries: Retries, sqlstate: str
) -> None:
    flow_id = new_flow_id()
    await fail_appends(pool, sqlstate, times=1)
    with pytest.raises(StoreError) as caught:
        await store.append_kind(flow_id, initialized(), expected_version=0)
    assert not isinstance(caught.value, StoreUnavailable)
    assert caught.value.sqlstate == sqlstate
    assert isinstance(caught.value.__cause__, asyncpg.PostgresError)
    assert retries.delays == []
    assert await store.list(flow_id) == []


async def test_a_value_that_a_table_refuses_is_a_store_error(
    pool: Pool, store: PgEventStore, retries: Retries
) -> None:
    await pool.execute("ALTER TABLE event_log ADD CHECK (event_type <> 'stepsignal')")
    with pytest.raises(StoreError) as caught:
        await store.append_kind(new_flow_id(), signal())
    assert caught.value.sqlstate == "23514"
    assert isinstance(caught.value.__cause__, asyncpg.CheckViolationError)
    assert retries.delays == []


async def test_a_user_without_the_right_to_insert_gets_a_store_error(
    server: TestServer, database_url: str, retries: Retries
) -> None:
    async with role(server, database_url, rights="SELECT") as url, await build_pool(url) as pool:
        store = PgEventStore(PoolProvider(pool))
        with pytest.raises(StoreError) as caught:
            await store.append_kind(new_flow_id(), initialized())
        assert not isinstance(caught.value, StoreUnavailable)
        assert caught.value.sqlstate == "42501"
        assert retries.delays == []


async def insert_artifact(
    connection: "asyncpg.Connection[asyncpg.Record]", artifact: Artifact
) -> None:
    """Store an artifact of another writer, with the event that it belongs to."""
    flow_id = uuid4()
    seq = await connection.fetchval(
        """
        INSERT INTO event_log
            (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
        VALUES
            ($1, 0, $2, now(), 'stepsignal', '{"type": "stepsignal"}', '{}', sha256('by hand'))
        RETURNING seq
        """,
        flow_id,
        uuid4(),
    )
    await connection.execute(
        """
        INSERT INTO workflow_step_artifacts
            (artifact_hash, kind, payload, media_type, metadata, flow_id, produced_in_seq)
        VALUES ($1, 'Molecule', '{"name": "benzene"}', 'application/json', '{}', $2, $3)
        """,
        artifact.hash,
        flow_id,
        seq,
    )


async def insert_event(connection: "asyncpg.Connection[asyncpg.Record]", flow_id: UUID) -> None:
    await connection.execute(
        """
        INSERT INTO event_log
            (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
        VALUES ($1, 0, $2, now(), 'stepsignal', '{"type": "stepsignal"}', '{}', sha256('by hand'))
        """,
        flow_id,
        uuid4(),
    )


def molecule() -> Artifact:
    return Artifact.from_payload(kind="Molecule", payload={"name": "benzene"})


def finished(artifact: Artifact) -> StepFinished:
    return StepFinished(0, "acquire", (artifact.hash,), "f" * 64)


async def test_a_serialization_failure_is_tried_again(
    database_url: str, pool: Pool, owner: Connection, store: PgEventStore, retries: Retries
) -> None:
    """Another writer commits the same artifact after the append's snapshot was taken."""
    flow_id, artifact = new_flow_id(), molecule()
    settings = {"default_transaction_isolation": "serializable"}
    async with await asyncpg.create_pool(
        database_url, min_size=0, init=pass_jsonb_as_bytes, server_settings=settings
    ) as serializable:
        async with gate(owner, "event_log", f"NEW.flow_id = '{flow_id}'"):
            appending = asyncio.create_task(
                PgEventStore(PoolProvider(serializable)).append_kind(
                    flow_id, finished(artifact), artifacts=[artifact], expected_version=0
                )
            )
            await until_waiting_for_a_lock(pool)
            async with pool.acquire() as other, other.transaction():
                await insert_artifact(other, artifact)  # type: ignore[arg-type]
        event = await appending
    assert len(retries.delays) == 1
    assert await store.list(flow_id) == [event]


async def test_a_deadlock_is_tried_again(
    database_url: str, pool: Pool, owner: Connection, store: PgEventStore, retries: Retries
) -> None:
    """Lock the artifact before the event, while the append locks the event first."""
    flow_id, artifact = new_flow_id(), molecule()
    async with (
        await asyncpg.create_pool(
            database_url,
            min_size=0,
            init=pass_jsonb_as_bytes,
            server_settings={"deadlock_timeout": "10ms"},
        ) as hasty,
        pool.acquire() as other,
    ):
        async with gate(owner, "workflow_step_artifacts", f"NEW.flow_id = '{flow_id}'"):
            transaction = other.transaction()
            await transaction.start()
            await other.execute("SET LOCAL deadlock_timeout = '10min'")
            await insert_artifact(other, artifact)  # type: ignore[arg-type]
            appending = asyncio.create_task(
                PgEventStore(PoolProvider(hasty)).append_kind(
                    flow_id, finished(artifact), artifacts=[artifact], expected_version=0
                )
            )
            await until_waiting_for_a_lock(pool)
            blocked = asyncio.create_task(insert_event(other, flow_id))  # type: ignore[arg-type]
            await until_waiting_for_a_lock(pool, sessions=2)
        await blocked  # the append was the victim
        await transaction.rollback()
        event = await appending
    assert len(retries.delays) >= 1
    assert await store.list(flow_id) == [event]
    assert await store.get_artifact(artifact.hash) == artifact


async def test_an_append_whose_session_is_terminated_is_tried_again(
    pool: Pool, store: PgEventStore, retries: Retries
) -> None:
    flow_id = new_flow_id()
    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE event_log IN EXCLUSIVE MODE")
        appending = asyncio.create_task(
            store.append_kind(flow_id, initialized(), expected_version=0)
        )
        pid = await until_waiting_for_a_lock(pool)
        await pool.execute("SELECT pg_terminate_backend($1::integer)", pid)
    event = await appending
    assert len(retries.delays) == 1
    assert await store.list(flow_id) == [event]


async def test_idle_sessions_that_were_terminated_do_not_harm(
    server: TestServer, database_url: str, pool: Pool, store: PgEventStore
) -> None:
    await asyncio.gather(*(store.append_kind(new_flow_id(), initialized()) for _ in range(20)))
    database = urlsplit(database_url).path[1:]
    await server.administrate(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    )
    flow_ids = [new_flow_id() for _ in range(20)]
    await asyncio.gather(*(store.append_kind(flow_id, initialized()) for flow_id in flow_ids))
    assert [len(await store.list(flow_id)) for flow_id in flow_ids] == [1] * 20
    assert pool.get_size() <= 20


async def test_a_session_whose_end_is_still_on_its_way_is_replaced(
    server: TestServer, database_url: str, pool: Pool, retries: Retries
) -> None:
    """The driver has read the server's last message, but not yet the end of the connection."""
    flow_id = new_flow_id()
    async with (
        proxied(database_url) as proxy,
        await build_pool(proxy.url, max_size=1) as proxied_pool,
    ):
        store = PgEventStore(PoolProvider(proxied_pool))
        first = await store.append_kind(flow_id, initialized())
        pid = await proxied_pool.fetchval("SELECT pg_backend_pid()")
        fault = proxy.arm(Fault(Strike.SILENCE, lambda message: message.type == "E"))
        await pool.execute("SELECT pg_terminate_backend($1::integer)", pid)
        await fault.struck.wait()
        await until_gone(server, pid)
        second = await store.append_kind(flow_id, signal(), expected_version=1)
        assert await store.list(flow_id) == [first, second]
    assert len(retries.delays) == 1


async def test_a_server_that_takes_no_more_connections_is_unavailable(
    server: TestServer, database_url: str, retries: Retries
) -> None:
    flow_id = new_flow_id()
    async with (
        role(server, database_url, options="CONNECTION LIMIT 1") as url,
        await build_pool(url, min_size=0, max_size=2) as pool,
    ):
        store = PgEventStore(PoolProvider(pool))
        holder = await connected_alone(url)
        with pytest.raises(StoreUnavailable) as caught:
            await store.append_kind(flow_id, initialized())
        assert caught.value.sqlstate == "53300"
        assert isinstance(caught.value.__cause__, asyncpg.TooManyConnectionsError)
        assert retries.delays == list(RETRY_DELAYS)
        pid = holder.get_server_pid()
        await holder.close()
        await until_gone(server, pid)
        await store.append_kind(flow_id, initialized(), expected_version=0)


async def connected_alone(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Take the only connection, once the session that was closed before has ended."""
    async with asyncio.timeout(60):
        while True:
            with suppress(asyncpg.TooManyConnectionsError):
                return await asyncpg.connect(url)


async def test_a_pool_that_stays_exhausted_is_unavailable(
    database_url: str, retries: Retries
) -> None:
    async with await build_pool(database_url, max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool, acquire_timeout=0.01))
        async with pool.acquire():
            with pytest.raises(StoreUnavailable) as caught:
                await store.append_kind(new_flow_id(), initialized())
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert retries.delays == []  # a timed-out wait is not repeated
        await store.append_kind(new_flow_id(), initialized())


async def test_a_closed_pool_is_a_store_error(database_url: str) -> None:
    pool = await build_pool(database_url)
    await pool.close()
    store = PgEventStore(PoolProvider(pool))
    with pytest.raises(StoreError) as caught:
        await store.append_kind(new_flow_id(), initialized())
    assert isinstance(caught.value.__cause__, asyncpg.InterfaceError)
    with pytest.raises(StoreError):
        await store.list(new_flow_id())


async def test_a_server_that_was_shut_down_is_unavailable_until_it_is_back(
    parent: Path, retries: Retries
) -> None:
    flow_id = new_flow_id()
    async with embedded_postgres(await give_cluster(parent / "server")) as url:
        pool = await build_pool(url)
        store = PgEventStore(PoolProvider(pool))
        first = await store.append_kind(flow_id, initialized())
    with pytest.raises(StoreUnavailable) as caught:
        await store.append_kind(flow_id, signal())
    assert isinstance(caught.value.__cause__, OSError | asyncpg.PostgresError)
    assert retries.delays == list(RETRY_DELAYS)
    with pytest.raises(StoreUnavailable):
        await store.list(flow_id)
    with pytest.raises(StoreUnavailable):
        await build_pool(url)
    async with embedded_postgres(parent / "server"):
        second = await store.append_kind(flow_id, signal(), expected_version=1)
        assert await store.list(flow_id) == [first, second]
        await pool.close()


async def test_a_wrong_password_is_refused_and_appears_nowhere(
    parent: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, right, wrong = parent / "server", uuid4().hex, f"wrong-{uuid4().hex}"
    async with embedded_postgres(await give_cluster(directory)) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(f"CREATE ROLE scientist SUPERUSER LOGIN PASSWORD '{right}'")
        await connection.close()
    (directory / "cluster" / "pg_hba.conf").write_text(
        "local all scientist scram-sha-256\nlocal all postgres trust\n"
    )
    async with embedded_postgres(directory) as url:
        with caplog.at_level(logging.DEBUG):
            bad = with_user(url, "scientist", wrong)
            with pytest.raises(StoreError) as caught:
                await build_pool(bad)
            monkeypatch.setenv("DATABASE_URL", bad)
            with pytest.raises(StoreError) as caught_from_env:
                await build_dev_pool_from_env()
        for error in (caught.value, caught_from_env.value):
            assert not isinstance(error, StoreUnavailable)
            assert error.sqlstate == "28P01"
            assert wrong not in "".join(traceback.format_exception(error)) + repr(error)
        assert wrong not in caplog.text
        async with await build_pool(with_user(url, "scientist", right)) as pool:
            assert await pool.fetchval("SELECT current_user") == "scientist"


async def test_a_password_stays_out_of_the_errors_of_a_server_that_does_not_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = f"secret-{uuid4().hex}"
    urls = [
        f"postgresql://ada:{secret}@/postgres?host={quote(str(tmp_path), safe='')}",
        f"postgresql://ada:{secret}@[::1/postgres",
        f"postgresql://ada:{secret}@127.0.0.1:port/postgres",
        f"postgresql://ada@127.0.0.1/postgres?password={secret}&gssencmode=require",
    ]
    with caplog.at_level(logging.DEBUG):
        for url in urls:
            with pytest.raises(ChemPersistenceError) as caught:
                await build_pool(url)
            assert secret not in "".join(traceback.format_exception(caught.value)) + repr(
                caught.value
            )
    assert secret not in caplog.text


async def until_gone(server: TestServer, pid: int) -> None:
    """Poll the server until a session has ended."""
    observer = await asyncpg.connect(server.url)
    try:
        async with asyncio.timeout(60):
            while await observer.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid
            ):
                pass
    finally:
        await observer.close()

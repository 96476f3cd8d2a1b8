"""Snapshots make loading a long flow cheap, and never change its state."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chem_persistence import (
    ChemPersistenceError,
    DefinitionMismatch,
    FlowDefinition,
    FlowEventKind,
    FlowInstance,
    InvalidArgument,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepSignal,
    StepStarted,
    StepStatus,
)
from chem_persistence.domain.snapshot import take_snapshot
from chem_persistence.domain.tampering import Finding, Tampering
from chem_persistence.postgres.audit.verification import verify_log
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.flow_repository import SHORT_FLOW
from chem_persistence.postgres.read import flows
from chem_persistence.postgres.read.flows import PAGE_BYTES
from chem_persistence.postgres.read.snapshots import find_snapshot, keep_snapshot
from tests.golden.snapshot import FLOW_ID, INSTANCE, KINDS, GoldenSnapshot, golden_snapshots
from tests.support.examples import examples
from tests.support.faults.worker import Place
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.flows.histories import GARBAGE_KINDS, PLAUSIBLE_KINDS, TickingClock, legal_kinds
from tests.support.servers.processes import KILLED

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

REPOSITORY = Path(__file__).resolve().parents[4]
BOUNDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=examples(40),
    suppress_health_check=list(HealthCheck),
)
OTHER = FlowDefinition(tuple(replace(step, version="2") for step in DEFINITION.steps))
HISTORY: list[FlowEventKind] = [
    initialized(),
    StepStarted(0, "acquire"),
    *(StepSignal(0, "acquire", "progress", number) for number in range(4)),
]


async def stored_flow(provider: ConnectionProvider) -> UUID:
    flow_id = new_flow_id()
    await PgEventStore(provider).append_kinds(flow_id, HISTORY)
    return flow_id


async def replayed(provider: ConnectionProvider, flow_id: UUID) -> FlowInstance:
    """Return the state without any snapshot."""
    return await PgFlowRepository(provider, snapshot_after=None).load(flow_id, None, DEFINITION)


def using_snapshots(provider: ConnectionProvider) -> PgFlowRepository:
    """Return a repository that treats a flow of three events as long."""
    return PgFlowRepository(provider, snapshot_after=3)


async def snapshot_version(pool: Pool, flow_id: UUID) -> int | None:
    version: int | None = await pool.fetchval(
        "SELECT version FROM flow_snapshots WHERE flow_id = $1", flow_id
    )
    return version


class SpyingProvider:
    """Records the arguments of every statement."""

    def __init__(self, provider: ConnectionProvider) -> None:
        self.arguments: list[tuple[Any, ...]] = []
        self._provider = provider

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        return self._acquire()

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Connection]:
        async with self._provider.acquire() as connection:
            yield Spy(connection, self.arguments)


class Spy:
    def __init__(self, connection: Connection, arguments: list[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._arguments = arguments

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        self._arguments.append(args)
        return await self._connection.fetch(query, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def read_after(provider: ConnectionProvider, flow_id: UUID, **options: Any) -> int:
    """Load a flow and return the version after which its events were read."""
    spying = SpyingProvider(provider)
    await PgFlowRepository(spying, **options).load(flow_id, None, DEFINITION)
    version: int = spying.arguments[-1][1] - 1
    return version


async def test_a_load_that_replayed_enough_is_not_replayed_again(
    pool: Pool, provider: PoolProvider
) -> None:
    flow_id = await stored_flow(provider)
    repository = PgFlowRepository(provider, snapshot_after=len(HISTORY))
    first = await repository.load(flow_id, None, DEFINITION)
    assert await snapshot_version(pool, flow_id) == len(HISTORY)
    assert await read_after(provider, flow_id, snapshot_after=len(HISTORY)) == len(HISTORY) - 1
    assert (
        await repository.load(flow_id, None, DEFINITION)
        == first
        == await replayed(provider, flow_id)
    )


async def test_a_load_that_replayed_little_keeps_no_snapshot(
    pool: Pool, provider: PoolProvider
) -> None:
    flow_id = await stored_flow(provider)
    await PgFlowRepository(provider, snapshot_after=len(HISTORY) + 1).load(
        flow_id, None, DEFINITION
    )
    await PgFlowRepository(provider).load(flow_id, None, DEFINITION)
    assert await snapshot_version(pool, flow_id) is None


async def test_a_snapshot_is_replaced_when_the_flow_has_gone_on_far_enough(
    pool: Pool, provider: PoolProvider
) -> None:
    flow_id = await stored_flow(provider)
    repository = PgFlowRepository(provider, snapshot_after=3)
    versions = []
    for _ in range(7):
        instance = await repository.load(flow_id, None, DEFINITION)
        versions.append(await snapshot_version(pool, flow_id))
        assert instance == await replayed(provider, flow_id)
        await PgEventStore(provider).append_kind(flow_id, StepStarted(0, "acquire"))
    assert versions == [6, 6, 6, 9, 9, 9, 12]


async def test_a_repository_without_snapshots_neither_keeps_nor_uses_one(
    pool: Pool, provider: PoolProvider
) -> None:
    flow_id = await stored_flow(provider)
    assert await read_after(provider, flow_id, snapshot_after=None) == -1
    assert await snapshot_version(pool, flow_id) is None
    await PgFlowRepository(provider, snapshot_after=1).load(flow_id, None, DEFINITION)
    assert await read_after(provider, flow_id, snapshot_after=None) == -1


async def test_of_a_short_flow_no_snapshot_is_looked_for(provider: PoolProvider) -> None:
    flow_id = await stored_flow(provider)
    spying = SpyingProvider(provider)
    await PgFlowRepository(spying).load(flow_id, None, DEFINITION)
    assert spying.arguments == [(flow_id, 0, SHORT_FLOW, PAGE_BYTES // SHORT_FLOW)]


@pytest.mark.parametrize("snapshot_after", [0, -1])
async def test_a_snapshot_after_no_event_is_refused(
    provider: PoolProvider, snapshot_after: int
) -> None:
    with pytest.raises(InvalidArgument):
        PgFlowRepository(provider, snapshot_after=snapshot_after)


async def test_a_snapshot_of_another_definition_is_not_used(provider: PoolProvider) -> None:
    flow_id = await stored_flow(provider)
    repository = PgFlowRepository(provider, snapshot_after=1)
    await repository.load(flow_id, None, DEFINITION)
    with pytest.raises(DefinitionMismatch):
        await repository.load(flow_id, None, OTHER)


async def test_a_flow_that_names_no_definition_has_the_steps_of_the_one_that_is_asked_with(
    provider: PoolProvider,
) -> None:
    flow_id = new_flow_id()
    await PgEventStore(provider).append_kinds(flow_id, HISTORY[1:])
    repository = PgFlowRepository(provider, snapshot_after=1)
    longer = FlowDefinition((*DEFINITION.steps, replace(DEFINITION.steps[0], id="archive")))
    assert len((await repository.load(flow_id, None, DEFINITION)).steps) == 3
    assert len((await repository.load(flow_id, None, longer)).steps) == 4
    assert len((await repository.load(flow_id, None, DEFINITION)).steps) == 3


async def outcome(repository: PgFlowRepository, flow_id: UUID) -> Any:
    """Return the state, or the attributes of the error."""
    try:
        return await repository.load(flow_id, None, DEFINITION)
    except ChemPersistenceError as error:
        return type(error), vars(error)


CORRUPTIONS = st.sampled_from(
    [
        "state = state || '\\x20'",
        "state = set_byte(state, length(state) / 2, 255 - get_byte(state, length(state) / 2))",
        "state = ''",
        "state = substr(state, 1, 40), state_hash = sha256(substr(state, 1, 40))",
        "state_hash = sha256('forged')",
        "version = version + 1",
        "version = greatest(version - 1, 1)",
        "version = 2147483647",
        "chain_hash = sha256('another history')",
        "format = format + 1",
        "definition_hash = repeat('0', 64)",
        "flow_id = gen_random_uuid()",
    ]
)


@BOUNDED
@given(
    kinds=st.one_of(PLAUSIBLE_KINDS, legal_kinds(), GARBAGE_KINDS),
    corruptions=st.lists(CORRUPTIONS, max_size=3),
    data=st.data(),
)
async def test_snapshots_at_every_version_and_corrupt_ones_change_no_state(
    pool: Pool,
    provider: PoolProvider,
    kinds: list[FlowEventKind],
    corruptions: list[str],
    data: st.DataObject,
) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    eager, never = (PgFlowRepository(provider, snapshot_after=after) for after in (1, None))
    corrupt_at = {
        data.draw(st.integers(0, len(kinds) - 1)): corruption for corruption in corruptions
    }
    for version, kind in enumerate(kinds):
        await store.append_kind(flow_id, kind)
        if version in corrupt_at:
            await pool.execute(
                f"UPDATE flow_snapshots SET {corrupt_at[version]} WHERE flow_id = $1", flow_id
            )
        assert await outcome(eager, flow_id) == await outcome(never, flow_id)


async def corrupt(pool: Pool, flow_id: UUID, change: str) -> None:
    assert (
        await pool.execute(f"UPDATE flow_snapshots SET {change} WHERE flow_id = $1", flow_id)
        == "UPDATE 1"
    )


async def test_a_corrupt_snapshot_is_replaced_by_the_load_that_could_not_use_it(
    pool: Pool, provider: PoolProvider
) -> None:
    flow_id = await stored_flow(provider)
    repository = PgFlowRepository(provider, snapshot_after=2)
    instance = await repository.load(flow_id, None, DEFINITION)
    await corrupt(pool, flow_id, "state = 'nonsense', version = 2147483647")
    assert await repository.load(flow_id, None, DEFINITION) == instance
    assert (await find_snapshot(provider, flow_id, DEFINITION) or [None])[0] == instance


async def test_a_snapshot_of_another_history_is_not_used(
    pool: Pool, provider: PoolProvider
) -> None:
    """A database was restored to an earlier moment, and the flow continued differently."""
    flow_id, store = await stored_flow(provider), PgEventStore(provider)
    await PgFlowRepository(provider, snapshot_after=1).load(flow_id, None, DEFINITION)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "DELETE FROM event_log WHERE flow_id = $1 AND version > 2", flow_id
        )
    shorter = await replayed(provider, flow_id)
    assert shorter.version == 3
    assert await using_snapshots(provider).load(flow_id, None, DEFINITION) == shorter
    await PgEventStore(provider).append_kinds(flow_id, [StepStarted(0, "acquire")] * 5)
    assert await using_snapshots(provider).load(flow_id, None, DEFINITION) == await replayed(
        provider, flow_id
    )
    assert len(await store.list(flow_id)) == 8


async def forge(pool: Pool, provider: PoolProvider, flow_id: UUID) -> FlowInstance:
    """Make a snapshot state that a step has finished, with a matching hash."""
    instance = await PgFlowRepository(provider, snapshot_after=1).load(flow_id, None, DEFINITION)
    finished = replace(instance.steps[0], status=StepStatus.FINISHED)
    forged = take_snapshot(replace(instance, steps=(finished, *instance.steps[1:])), DEFINITION)
    await pool.execute(
        "UPDATE flow_snapshots SET state = $2, state_hash = $3 WHERE flow_id = $1",
        flow_id,
        forged.state,
        hashlib.sha256(forged.state).digest(),
    )
    return instance


async def test_a_snapshot_forged_with_its_hash_is_found_by_verification(
    pool: Pool, provider: PoolProvider
) -> None:
    honest, victim = await stored_flow(provider), await stored_flow(provider)
    await PgFlowRepository(provider, snapshot_after=1).load(honest, None, DEFINITION)
    await forge(pool, provider, victim)
    finding = Finding(
        victim,
        len(HISTORY),
        Tampering.SNAPSHOT_FALSE,
        "it is not the state that the events lead to",
    )
    assert (await verify_log(provider)).findings == [finding]
    assert (await verify_log(provider, flow_ids=[victim])).findings == [finding]
    assert (await verify_log(provider, flow_ids=[honest])).findings == []


async def test_a_forged_snapshot_deceives_no_repository_without_snapshots(
    pool: Pool, provider: PoolProvider
) -> None:
    flow_id = await stored_flow(provider)
    instance = await forge(pool, provider, flow_id)
    assert await replayed(provider, flow_id) == instance


async def test_many_true_snapshots_are_no_finding_and_corrupt_ones_neither(
    pool: Pool, provider: PoolProvider
) -> None:
    for number in range(25):
        flow_id = await stored_flow(provider)
        await PgFlowRepository(provider, snapshot_after=1).load(flow_id, None, DEFINITION)
        if number % 5 == 0:
            await corrupt(pool, flow_id, "state_hash = sha256('forged')")
    assert (await verify_log(provider)).findings == []


class GoingOn:
    """A provider that appends an event to a flow at each of its first acquisitions."""

    def __init__(self, provider: ConnectionProvider, flow_id: UUID, times: int) -> None:
        self._provider = provider
        self._flow_id = flow_id
        self._times = times

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        return self._acquire()

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Connection]:
        if self._times > 0:
            self._times -= 1
            await PgEventStore(self._provider).append_kind(self._flow_id, StepStarted(0, "acquire"))
        async with self._provider.acquire() as connection:
            yield connection


async def test_a_flow_that_goes_on_while_it_is_loaded_gets_a_snapshot_of_what_was_seen(
    pool: Pool, provider: PoolProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "EVENTS_PER_PAGE_AHEAD", 2)
    flow_id = await stored_flow(provider)
    going_on = GoingOn(provider, flow_id, 20)
    repository = PgFlowRepository(going_on, snapshot_after=1)
    seen = await repository.load(flow_id, None, DEFINITION)
    assert await snapshot_version(pool, flow_id) == seen.version
    assert (await find_snapshot(provider, flow_id, DEFINITION) or [None])[0] == seen
    events = await PgEventStore(provider).list(flow_id, limit=seen.version)
    assert await repository.load(flow_id, events, DEFINITION) == seen
    assert await using_snapshots(provider).load(flow_id, None, DEFINITION) == await replayed(
        provider, flow_id
    )


async def test_loads_at_the_same_time_leave_one_snapshot_that_is_true(
    pool: Pool, provider: PoolProvider
) -> None:
    flow_id = await stored_flow(provider)
    repository = PgFlowRepository(provider, snapshot_after=1)

    async def work(number: int) -> None:
        if number % 2:
            await PgEventStore(provider).append_kind(flow_id, StepStarted(0, "acquire"))
        await repository.load(flow_id, None, DEFINITION)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert await pool.fetchval("SELECT count(*) FROM flow_snapshots") == 1
    assert await repository.load(flow_id, None, DEFINITION) == await replayed(provider, flow_id)
    assert (await verify_log(provider)).findings == []


async def test_a_snapshot_that_cannot_be_kept_does_not_fail_the_load(
    pool: Pool, provider: PoolProvider
) -> None:
    flow_id = await stored_flow(provider)
    async with pool.acquire() as connection:
        await connection.execute("SET default_transaction_read_only = on")  # as on a standby

        class Standby:
            @asynccontextmanager
            async def acquire(self) -> AsyncIterator[Connection]:
                yield connection

        instance = await PgFlowRepository(Standby(), snapshot_after=1).load(
            flow_id, None, DEFINITION
        )
    assert instance == await replayed(provider, flow_id)
    assert await snapshot_version(pool, flow_id) is None


async def test_an_instance_that_the_log_does_not_reach_is_not_kept(
    pool: Pool, provider: PoolProvider
) -> None:
    flow_id = await stored_flow(provider)
    instance = await replayed(provider, flow_id)
    await keep_snapshot(provider, replace(instance, version=99), DEFINITION)
    assert await snapshot_version(pool, flow_id) is None


@pytest.mark.parametrize("golden", golden_snapshots(), ids=lambda golden: f"format {golden.format}")
async def test_a_golden_snapshot_leads_to_the_state_of_the_log(
    pool: Pool, provider: PoolProvider, golden: GoldenSnapshot
) -> None:
    store, snapshot = PgEventStore(provider, clock=TickingClock()), golden.snapshot()
    for kind in KINDS:
        await store.append_kind(FLOW_ID, kind)
    await pool.execute(
        "INSERT INTO flow_snapshots "
        "SELECT flow_id, version + 1, chain_hash, $2, $3, $4, $5, now() FROM event_log"
        " WHERE flow_id = $1 AND version = $6",
        FLOW_ID,
        snapshot.definition_hash,
        snapshot.format,
        snapshot.state,
        snapshot.state_hash,
        snapshot.version - 1,
    )
    assert await using_snapshots(provider).load(FLOW_ID, None, DEFINITION) == INSTANCE
    assert await replayed(provider, FLOW_ID) == INSTANCE
    await store.append_kind(FLOW_ID, StepStarted(2, "report"))
    assert await using_snapshots(provider).load(FLOW_ID, None, DEFINITION) == await replayed(
        provider, FLOW_ID
    )


LOADER = """
import asyncio, sys
from uuid import UUID
from chem_persistence import PgFlowRepository, PoolProvider, build_pool
from tests.support.flows.flows import DEFINITION
from tests.support.faults.worker import Death, MortalProvider, Place

async def main(url, flow_id, place, number):
    async with await build_pool(url, max_size=1) as pool:
        provider = MortalProvider(PoolProvider(pool), Death(Place(place), int(number)))
        await PgFlowRepository(provider, snapshot_after=1).load(UUID(flow_id), None, DEFINITION)

asyncio.run(main(*sys.argv[1:]))
"""
STATEMENTS = [
    "read the first event",
    "look for the snapshot",
    "read the events",
    "keep the snapshot",
]


@pytest.mark.parametrize("number", range(len(STATEMENTS)), ids=STATEMENTS)
@pytest.mark.parametrize("place", [Place.BEFORE_STATEMENT, Place.AFTER_STATEMENT])
async def test_a_process_killed_while_it_loads_leaves_no_snapshot_or_a_whole_one(
    pool: Pool, provider: PoolProvider, database_url: str, place: Place, number: int
) -> None:
    flow_id = await stored_flow(provider)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        LOADER,
        database_url,
        str(flow_id),
        place.value,
        str(number),
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
    )
    assert await process.wait() == KILLED
    kept = (place, number) == (Place.AFTER_STATEMENT, len(STATEMENTS) - 1)
    assert await snapshot_version(pool, flow_id) == (len(HISTORY) if kept else None)
    instance = await using_snapshots(provider).load(flow_id, None, DEFINITION)
    assert instance == await replayed(provider, flow_id)

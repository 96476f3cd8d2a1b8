"""The fleet's checker finds what a fleet can break, and a worker that ignores its lost lease."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from chem_persistence import (
    Flow,
    FlowEvent,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
)
from tests.support.leases.desk import HOUR, Desk, postgres_desk
from tests.support.leases.staff import Act, Acts, Number, chain, submit, until, working
from tests.torture.fleet.checker import Expected, Flaw, Verdict, check
from tests.torture.fleet.run import expected_of
from tests.torture.fleet.served import Run
from tests.torture.fleet.workers import AT_ONCE, Struck

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = ("one", "two", "three")


class IgnoringStore(PgEventStore):
    """A store that ignores the lease and the expected version of leased appends.

    Without the fence alone, the expected version still refuses the second outcome of a step.
    """

    def leased(self, flow_id: UUID, token: UUID) -> Any:
        del flow_id, token
        return _Ignoring(self)


class _Ignoring:
    def __init__(self, store: PgEventStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append_kinds(
        self, flow_id: UUID, kinds: Sequence[FlowEventKind], **options: Any
    ) -> list[FlowEvent]:
        options["expected_version"] = None
        return await self._store.append_kinds(flow_id, kinds, **options)


class Written(msgspec.Struct, frozen=True):
    """What a fleet has done: the flows, the runs of their steps, and the faults."""

    expected: Mapping[UUID, Expected]
    runs: list[Run]
    struck: list[Struck]

    async def check(self, provider: PoolProvider) -> Verdict:
        return await check(provider, self.expected, self.runs, self.struck, workers=1)


def steps(acts: Acts) -> Flow[Number, Any]:
    return chain(*(Act(acts, step_id) for step_id in STEPS))


def is_over(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant == "C"


def runs_of(*acts: Acts) -> list[Run]:
    return [
        Run(flow_id, step_id, os.getpid(), float(began))
        for began, (step_id, flow_id) in enumerate(run for each in acts for run in each.runs)
    ]


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture
async def written(desk: Desk) -> Written:
    """Run two flows without a fault."""
    acts = Acts()
    expected = {}
    async with working(desk, [steps(acts)]):
        for n in range(2):
            flow_id = await submit(desk, steps(acts), n)
            await until(desk, flow_id, is_over)
            expected[flow_id] = Number(n)
    return Written(await expected_of(steps(Acts()), expected), runs_of(acts), [])


@pytest.fixture
async def intruder(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Connect as a superuser without triggers, foreign keys and unique versions."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("ALTER TABLE event_log DROP CONSTRAINT event_log_flow_version_key")
    yield connection
    await connection.close()


async def test_nothing_is_found_in_what_a_sound_fleet_wrote(
    written: Written, provider: PoolProvider
) -> None:
    verdict = await written.check(provider)
    assert verdict.findings == []
    assert (verdict.completed, verdict.runs, verdict.repeated) == (2, 6, 0)


COPY = """
    INSERT INTO event_log
        (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
    SELECT {flow_id}, {version}, gen_random_uuid(), ts, event_type, payload, metadata, chain_hash
    FROM event_log WHERE flow_id = $1 AND version = {copied}
"""
PLANTS = {
    "the end is missing": (
        "DELETE FROM event_log WHERE flow_id = $1 AND event_type = 'flowcompleted'",
        {Flaw.UNFINISHED},
    ),
    "an outcome is missing": (
        "DELETE FROM event_log WHERE flow_id = $1 AND version = 4",
        {Flaw.VERSIONS, Flaw.OUTCOMES, Flaw.CHAIN},
    ),
    "an outcome is there twice": (
        COPY.format(flow_id="flow_id", version=8, copied=4),
        {Flaw.OUTCOMES, Flaw.UNFINISHED},
    ),
    "a version is there twice": (
        COPY.format(flow_id="flow_id", version=3, copied=3),
        {Flaw.VERSIONS},
    ),
    "a step was started after its outcome": (
        COPY.format(flow_id="flow_id", version=8, copied=3),
        {Flaw.ORDER, Flaw.UNFINISHED},
    ),
    "a flow is missing": ("DELETE FROM event_log WHERE flow_id = $1", {Flaw.LOST}),
    "a flow was not submitted": (
        COPY.format(flow_id="gen_random_uuid()", version=0, copied=0),
        {Flaw.UNSENT},
    ),
    "the result is another": (
        """UPDATE event_log SET payload = payload || '{"flow_fingerprint": "0"}'
        WHERE flow_id = $1 AND event_type = 'flowcompleted'""",
        {Flaw.RESULT, Flaw.CHAIN},
    ),
    "a flow that is over wants a worker": (
        """INSERT INTO flow_runs (flow_id, definition_hash, due_at)
        SELECT $1, payload ->> 'definition_hash', now() FROM event_log
        WHERE flow_id = $1 AND version = 0""",
        {Flaw.ROW},
    ),
}


@pytest.mark.parametrize("name", PLANTS)
async def test_each_flaw_of_the_log_is_found(
    written: Written,
    provider: PoolProvider,
    intruder: "asyncpg.Connection[asyncpg.Record]",
    name: str,
) -> None:
    statement, flaws = PLANTS[name]
    await intruder.execute(statement, next(iter(written.expected)))
    verdict = await written.check(provider)
    assert flaws <= verdict.flaws()


async def test_steps_that_ran_more_often_than_faults_explain_are_found(
    written: Written, provider: PoolProvider
) -> None:
    written.runs.extend(written.runs[:1] * (AT_ONCE + 1))
    assert (await written.check(provider)).flaws() == {Flaw.RUNS}
    written.struck.append(Struck("SIGKILL", 0.0, os.getpid()))
    assert (await written.check(provider)).flaws() == {Flaw.RUNS}
    written.runs.pop()
    verdict = await written.check(provider)
    assert (verdict.findings, verdict.repeated) == ([], AT_ONCE)


async def test_an_outcome_of_a_step_that_never_ran_is_found(
    written: Written, provider: PoolProvider
) -> None:
    written.runs.pop()
    assert (await written.check(provider)).flaws() == {Flaw.UNRECORDED}


@pytest.mark.parametrize(
    ("open_store", "flaws"),
    [(PgEventStore, set()), (IgnoringStore, {Flaw.OUTCOMES, Flaw.UNFINISHED})],
)
async def test_a_worker_that_ignores_its_lost_lease_is_found(
    desk: Desk,
    provider: PoolProvider,
    open_store: "Callable[[PoolProvider], PgEventStore]",
    flaws: set[Flaw],
) -> None:
    slow, quick = Acts(), Acts()
    slow.held = frozenset({"two"})
    store = open_store(provider)
    stopped = msgspec.structs.replace(desk, store=store)
    flow_id = await submit(desk, steps(quick))
    async with working(stopped, [steps(slow)], lease=HOUR, at_once=1):
        await slow.begun.wait()
        await desk.make_due(flow_id)  # as if the worker had been stopped for an hour
        async with working(desk, [steps(quick)]):
            await until(desk, flow_id, is_over)
        slow.may_end.set()
    await store.aclose()
    expected = await expected_of(steps(Acts()), {flow_id: Number(0)})
    struck = [Struck("SIGSTOP", 1.5, os.getpid())]
    verdict = await check(provider, expected, runs_of(slow, quick), struck, workers=2)
    assert verdict.flaws() & {Flaw.OUTCOMES, Flaw.UNFINISHED} == flaws
    assert (verdict.repeated, verdict.unexplained) == (1, 0)
    assert flaws or verdict.findings == []

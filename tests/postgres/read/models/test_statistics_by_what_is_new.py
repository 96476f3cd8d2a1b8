"""Statistics grow by what is new: each event is counted once, in whatever portions."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    FlowCancelled,
    FlowCompleted,
    FlowEvent,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PgReadModels,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepStatistics,
    StepWaits,
    StoreUnavailable,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.postgres.connection.pool import open_pool
from chem_persistence.postgres.schema.migrations import known_migrations, migrate
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.waiting import until_blocked

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

BEGIN = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
F = "f" * 64
OF_STEPS = (
    StepStarted,
    StepFinished,
    StepFailed,
    StepWaits,
    UserInteractionRequested,
    UserInteractionProvided,
)
TABLES = (
    "step_statistics",
    "step_durations",
    "failure_statistics",
    "hourly_throughput",
    "artifact_statistics",
)
BEFORE = 25
"""The last migration with materialized views."""

OLD_VIEWS = ("statistics_refresh", *(name for name in TABLES if name != "step_durations"))


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = BEGIN

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def models(provider: PoolProvider) -> PgReadModels:
    return PgReadModels(provider)


@pytest.fixture
async def store(provider: PoolProvider) -> AsyncIterator[PgEventStore]:
    store = PgEventStore(provider)
    yield store
    await store.aclose()


def history(random: Random) -> Iterator[FlowEventKind]:
    """Yield facts of a flow as engines and people write them, and some that they do not."""
    definition = random.choice("ab") * 64
    beginnings: list[FlowEventKind] = [
        FlowInitialized(definition, 3),
        StepSignal(0, "one", "no beginning"),
    ]
    yield random.choice(beginnings)
    for index, step_id in enumerate(("one", "two", "one")):
        for turn in random.choices(
            ["start", "fail", "wait", "ask", "signal"], k=random.randint(0, 4)
        ):
            if turn == "start":
                yield StepStarted(index, step_id)
            elif turn == "fail":
                error = StepError(random.choice(["ValueError", "KeyError"]), "no")
                yield StepFailed(index, step_id, error, F)
                yield RetryScheduled(step_id, 1, "again")
            elif turn == "wait":
                yield StepWaits(index, step_id, None, {})
            elif turn == "ask":
                yield UserInteractionRequested(index, step_id, {}, None)
                yield UserInteractionProvided(index, step_id, provided=True)
            else:
                yield StepSignal(index, step_id, "progress", {"step_index": 7})
        for _ in range(random.choice([0, 1, 1, 2])):
            yield StepFinished(index, step_id, (), F)
    endings: list[FlowEventKind] = [
        FlowCompleted(F),
        FlowCancelled("enough"),
        RetryScheduled("never", 1, "a step that has no execution"),
    ]
    yield random.choice(endings)


async def write(store: PgEventStore, clock: SetClock, random: Random, flows: int) -> None:
    """Append the histories of flows in turn, some of them with artifacts, at uneven times."""
    running = [(new_flow_id(), history(random)) for _ in range(flows)]
    while running:
        flow_id, facts = running.pop(random.randrange(len(running)))
        kinds = list(islice(facts, random.randint(1, 4)))
        if not kinds:
            continue
        clock.time += timedelta(seconds=random.choice([-3, 0.0015, 1, 60, 900]))
        artifacts = [
            Artifact.from_payload(kind=random.choice("XY"), payload={"n": random.random()})
            for _ in range(random.randint(0, 2))
        ]
        await store.append_kinds(flow_id, kinds, artifacts=artifacts)
        running.append((flow_id, facts))


async def figures(owner: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of all tables of statistics."""
    return {
        table: [tuple(row) for row in await owner.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")]
        for table in TABLES
    }


async def begin_anew(owner: Connection) -> None:
    await owner.execute("UPDATE statistics_refresh SET seq = -1")


def percentile(durations: Sequence[float], part: float) -> float:
    """Return a percentile as percentile_cont does."""
    place = part * (len(durations) - 1)
    low, high = durations[int(place)], durations[min(int(place) + 1, len(durations) - 1)]
    return low + (high - low) * (place - int(place))


def about(number: float, error: float) -> Any:
    return pytest.approx(number, rel=error)


def expected_steps(events: Sequence[FlowEvent]) -> dict[tuple[str | None, str], StepStatistics]:
    """Compute the figures of steps in another way: flow by flow, with all durations kept."""
    executed: dict[tuple[UUID, int], tuple[str | None, str]] = {}
    definitions: dict[UUID, str | None] = {}
    started: dict[tuple[UUID, int], datetime] = {}
    durations: defaultdict[tuple[str | None, str], list[float]] = defaultdict(list)
    counts: Counter[tuple[str, tuple[str | None, str]]] = Counter()
    for event in events:
        fact = event.kind
        if event.version == 0:
            begun = fact.definition_hash if isinstance(fact, FlowInitialized) else None
            definitions[event.flow_id] = begun
        if isinstance(fact, RetryScheduled):
            counts["retries", (definitions[event.flow_id], fact.step_id)] += 1
        if not isinstance(fact, OF_STEPS):
            continue
        place, key = (event.flow_id, fact.step_index), (definitions[event.flow_id], fact.step_id)
        executed.setdefault(place, key)
        counts[type(fact).__name__, key] += 1
        if isinstance(fact, StepStarted):
            started[place] = event.ts
        elif isinstance(fact, StepFinished) and place in started:
            durations[key].append((event.ts - started[place]).total_seconds())
    expected = {}
    for key, executions in Counter(executed.values()).items():
        own = sorted(durations[key])
        attempts, failures = counts["StepStarted", key], counts["StepFailed", key]
        expected[key] = StepStatistics(
            definition_hash=key[0],
            step_id=key[1],
            executions=executions,
            finished=len(own),
            attempts=attempts,
            failures=failures,
            retries=counts["retries", key],
            failure_rate=failures / attempts if attempts else None,
            mean_seconds=about(sum(own) / len(own), 1e-9) if own else None,
            p50_seconds=about(percentile(own, 0.5), 0.021) if own else None,
            p90_seconds=about(percentile(own, 0.9), 0.021) if own else None,
            p99_seconds=about(percentile(own, 0.99), 0.021) if own else None,
            longest_seconds=own[-1] if own else None,
        )
    return expected


@pytest.mark.parametrize("seed", range(3))
async def test_any_portions_give_the_figures_that_the_whole_log_gives(
    provider: PoolProvider, owner: Connection, models: PgReadModels, seed: int
) -> None:
    clock, random = SetClock(), Random(seed)
    store = PgEventStore(provider, clock=clock)
    await write(store, clock, random, flows=15)
    events = await store.read_feed()
    await models.refresh()
    at_once = await figures(owner)

    steps = (await models.statistics()).steps
    assert {(step.definition_hash, step.step_id): step for step in steps} == expected_steps(events)
    assert sum(row[1] for row in at_once["hourly_throughput"]) == len(events)
    failures = {
        (e.flow_id, e.kind.step_id, e.kind.error.error_class)
        for e in events
        if isinstance(e.kind, StepFailed)
    }
    assert sum(row[5] for row in at_once["failure_statistics"]) == len(failures)
    stored = await owner.fetchval("SELECT count(*) FROM workflow_step_artifacts")
    assert sum(row[2] for row in at_once["artifact_statistics"]) == stored

    one_by_one = [event.seq for event in events]
    for portions in (one_by_one, sorted(random.sample(one_by_one, 7))):
        await begin_anew(owner)
        for upto in [*portions, events[-1].seq]:
            await owner.execute("SELECT fold_statistics($1)", upto)
        assert await figures(owner) == at_once


async def test_numbers_that_no_event_has_are_passed_over_and_a_portion_is_bounded(
    store: PgEventStore, owner: Connection, models: PgReadModels
) -> None:
    """Until the end is reached, the figures are those of the time of the last event."""
    seqs: list[int] = []
    times: list[datetime] = []
    for skipped in (5_000_000, 150_000, 300_000):
        last = (seqs or [0])[-1] + skipped
        await owner.execute("SELECT setval('event_log_seq_seq', $1)", last)
        event = await store.append_kind(new_flow_id(), initialized())
        seqs.append(event.seq)
        times.append(event.ts)
    fold = "SELECT fold_statistics($1)"
    assert await owner.fetchval(fold, seqs[-1]) == seqs[0] + 199_999
    assert (await models.statistics()).refreshed_at == times[1]
    assert [hour.events for hour in (await models.statistics()).hours] == [2]
    assert await owner.fetchval(fold, seqs[-1]) == seqs[-1]
    assert (await models.statistics()).refreshed_at > times[1]
    assert [hour.events for hour in (await models.statistics()).hours] == [3]


async def test_an_event_that_is_committed_after_a_later_one_is_counted(
    store: PgEventStore, models: PgReadModels
) -> None:
    async with store.transaction() as tx:
        await tx.append_kind(new_flow_id(), initialized())
        await store.append_kind(new_flow_id(), initialized())
        await models.refresh()
        assert (await models.statistics()).hours == ()
    await models.refresh()
    assert [hour.flows_started for hour in (await models.statistics()).hours] == [2]


@pytest.mark.parametrize("end", ["commit", "rollback", "kill"])
async def test_a_second_refresh_waits_and_counts_what_the_first_has_not(
    admin_url: str, owner: Connection, store: PgEventStore, models: PgReadModels, end: str
) -> None:
    """Meanwhile readers and appends wait for nothing."""
    last = await store.append_kinds(new_flow_id(), [initialized(), StepStarted(0, "acquire")])
    first = await asyncpg.connect(admin_url)
    transaction = first.transaction()
    await transaction.start()
    await first.execute("SELECT fold_statistics($1)", last[-1].seq)
    assert (await models.statistics()).hours == ()
    await store.append_kind(new_flow_id(), initialized())
    second = asyncio.create_task(models.refresh())
    await until_blocked(owner)
    if end == "kill":
        await owner.execute("SELECT pg_terminate_backend($1::integer)", first.get_server_pid())
    elif end == "commit":
        await transaction.commit()
    else:
        await transaction.rollback()
    await second
    await first.close()
    statistics = await models.statistics()
    assert [hour.events for hour in statistics.hours] == [3]
    assert [step.attempts for step in statistics.steps] == [1]


async def test_refreshes_among_writers_that_are_killed_at_random_count_each_event_once(
    provider: PoolProvider, owner: Connection, models: PgReadModels
) -> None:
    clock = SetClock()
    store = PgEventStore(provider, clock=clock)
    writing = asyncio.gather(*(write(store, clock, Random(n), flows=12) for n in range(4)))

    async def refresh() -> None:
        while not writing.done():
            with suppress(StoreUnavailable):
                await models.refresh()

    async def kill() -> None:
        while not writing.done():
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active' "
                "AND datname = current_database() AND query LIKE 'SELECT fold_statistics%'"
            )

    await asyncio.gather(writing, refresh(), refresh(), refresh(), kill())
    await models.refresh()
    grown = await figures(owner)
    await begin_anew(owner)
    await models.refresh()
    assert await figures(owner) == grown
    assert sum(row[1] for row in grown["hourly_throughput"]) == len(await store.read_feed())


async def test_figures_of_materialized_views_stay_until_the_next_refresh(
    empty_database_url: str,
) -> None:
    """A program of the version before may read on; its refresh fails, and changes nothing."""
    owner = await asyncpg.connect(empty_database_url)
    await migrate(owner, "public", known_migrations()[:BEFORE])
    async with await open_pool(empty_database_url, max_size=2) as pool:
        store, models = PgEventStore(PoolProvider(pool)), PgReadModels(PoolProvider(pool))
        facts: list[FlowEventKind] = [
            initialized(),
            StepStarted(0, "acquire"),
            StepFinished(0, "acquire", (), F),
        ]
        failure = StepFailed(1, "compute", StepError("KeyError", "no"), F)
        await store.append_kinds(
            new_flow_id(),
            [*facts, StepStarted(1, "compute"), failure],
            artifacts=[Artifact.from_payload(kind="Value", payload={"n": 1.0})],
        )
        for view in OLD_VIEWS:
            await owner.execute(f"REFRESH MATERIALIZED VIEW {view}")
            await owner.execute(f"GRANT SELECT ON {view} TO pg_monitor")
        before = await models.statistics()
        assert (len(before.steps), len(before.failures), len(before.artifacts)) == (2, 1, 1)
        await store.append_kinds(new_flow_id(), facts)

        await migrate(owner, "public", known_migrations())
        assert await models.statistics() == before
        for table in (*TABLES, "statistics_refresh"):
            allowed = "SELECT has_table_privilege('pg_monitor', $1, 'SELECT')"
            assert await owner.fetchval(allowed, table)
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await owner.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY step_statistics")
        assert await models.statistics() == before

        await models.refresh()
        after = await models.statistics()
        assert [step.executions for step in after.steps] == [2, 1]
        assert (after.failures, after.artifacts) == (before.failures, before.artifacts)
        assert after.steps[1] == before.steps[1]
        assert [hour.events for hour in after.hours] == [8]
        await store.aclose()
    await owner.close()

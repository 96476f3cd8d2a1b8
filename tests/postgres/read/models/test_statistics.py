"""Statistics of the log: what they count, and who may refresh them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ArtifactStatistics,
    FailureStatistics,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    HourlyThroughput,
    PgEventStore,
    PgReadModels,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StoreError,
    build_pool,
)
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.servers.roles import new_role

BEGIN = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
F = "f" * 64


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.time = BEGIN

    def now(self) -> datetime:
        return self.time


class Writer:
    """Appends events at times that the test chooses."""

    def __init__(self, provider: PoolProvider) -> None:
        self._clock = SetClock()
        self._store = PgEventStore(provider, clock=self._clock)

    async def write(self, flow_id: UUID, *facts: tuple[float, FlowEventKind]) -> None:
        """Append each fact at so many seconds after the start."""
        for seconds, kind in facts:
            self._clock.time = BEGIN + timedelta(seconds=seconds)
            await self._store.append_kind(flow_id, kind)


@pytest.fixture
def models(provider: PoolProvider) -> PgReadModels:
    return PgReadModels(provider)


@pytest.fixture
def writer(provider: PoolProvider) -> Writer:
    return Writer(provider)


async def test_an_empty_log_has_no_figures_but_the_time_of_their_refresh(
    models: PgReadModels,
) -> None:
    before = (await models.statistics()).refreshed_at
    await models.refresh()
    statistics = await models.statistics()
    assert statistics.refreshed_at > before
    assert (statistics.steps, statistics.failures, statistics.hours, statistics.artifacts) == (
        (),
        (),
        (),
        (),
    )


async def test_figures_are_those_of_the_last_refresh(models: PgReadModels, writer: Writer) -> None:
    await writer.write(new_flow_id(), (0, initialized()), (0, StepStarted(0, "acquire")))
    assert (await models.statistics()).steps == ()
    await models.refresh()
    assert [step.step_id for step in (await models.statistics()).steps] == ["acquire"]


async def test_durations_are_those_of_the_last_attempts(
    models: PgReadModels, writer: Writer
) -> None:
    for seconds in range(1, 102):  # 1 s, 2 s, ..., 101 s
        await writer.write(
            new_flow_id(),
            (0, initialized()),
            (0, StepStarted(0, "acquire")),
            (10, StepStarted(0, "acquire")),
            (10 + seconds, StepFinished(0, "acquire", (), F)),
            (10 + seconds, StepStarted(1, "compute")),
        )
    await models.refresh()
    acquire, compute = (await models.statistics()).steps
    assert (acquire.step_id, acquire.executions, acquire.finished, acquire.attempts) == (
        "acquire",
        101,
        101,
        202,
    )
    assert (acquire.p50_seconds, acquire.p90_seconds, acquire.p99_seconds) == (51, 91, 100)
    assert (acquire.mean_seconds, acquire.longest_seconds) == (51, 101)
    assert (compute.executions, compute.finished, compute.mean_seconds) == (101, 0, None)
    assert (compute.p50_seconds, compute.p90_seconds, compute.longest_seconds) == (None, None, None)


async def test_failures_and_retries_are_counted_by_step_and_class(
    models: PgReadModels, writer: Writer
) -> None:
    for seconds, classes in ((0, ("ValueError", "KeyError")), (100, ("ValueError",))):
        flow_id = new_flow_id()
        await writer.write(flow_id, (seconds, initialized()))
        for number, error_class in enumerate(classes, start=1):
            await writer.write(
                flow_id,
                (seconds, StepStarted(0, "acquire")),
                (seconds + number, StepFailed(0, "acquire", StepError(error_class, "no"), F)),
                (seconds + number, RetryScheduled("acquire", number, "again")),
            )
        await writer.write(flow_id, (seconds + 9, StepStarted(0, "acquire")))
    await models.refresh()
    statistics = await models.statistics()
    (step,) = statistics.steps
    assert (step.attempts, step.failures, step.retries, step.failure_rate) == (5, 3, 3, 0.6)
    assert statistics.failures == (
        FailureStatistics(
            definition_hash=DEFINITION.definition_hash,
            step_id="acquire",
            error_class="KeyError",
            failures=1,
            flows=1,
            last_failed_at=BEGIN + timedelta(seconds=2),
        ),
        FailureStatistics(
            definition_hash=DEFINITION.definition_hash,
            step_id="acquire",
            error_class="ValueError",
            failures=2,
            flows=2,
            last_failed_at=BEGIN + timedelta(seconds=101),
        ),
    )


@pytest.mark.parametrize("definitions", [["a" * 64, "b" * 64], ["c" * 64, "b" * 64, None], [None]])
async def test_steps_of_the_same_id_are_counted_for_each_definition(
    models: PgReadModels, writer: Writer, definitions: list[str | None]
) -> None:
    for number, definition in enumerate(definitions, start=1):
        for _ in range(number):
            begin: FlowEventKind = StepSignal(0, "embed", "a flow without a beginning")
            if definition is not None:
                begin = FlowInitialized(definition, 1)
            await writer.write(
                new_flow_id(),
                (0, begin),
                (0, StepStarted(0, "embed")),
                (1, StepFailed(0, "embed", StepError("ValueError", "no"), F)),
                (2, RetryScheduled("embed", 1, "again")),
                (3, StepStarted(0, "embed")),
                (3 + number, StepFinished(0, "embed", (), F)),
            )
    await models.refresh()
    statistics = await models.statistics()
    expected = sorted(enumerate(definitions, start=1), key=lambda pair: pair[1] or "z")
    assert [
        (step.definition_hash, step.executions, step.failures, step.retries, step.p50_seconds)
        for step in statistics.steps
    ] == [(definition, number, number, number, number) for number, definition in expected]
    assert [
        (failure.definition_hash, failure.failures, failure.flows)
        for failure in statistics.failures
    ] == [(definition, number, number) for number, definition in expected]


async def test_hours_are_of_utc_and_in_order(models: PgReadModels, writer: Writer) -> None:
    one, two = new_flow_id(), new_flow_id()
    await writer.write(one, (1800, initialized()), (1800, StepStarted(0, "acquire")))
    await writer.write(two, (0, initialized()), (1799, StepStarted(0, "acquire")))
    await writer.write(two, (1801, StepFailed(0, "acquire", StepError("E", "e"), F)))
    await writer.write(
        two, (1801, RetryScheduled("acquire", 1, "again")), (1801, StepStarted(0, "acquire"))
    )
    await writer.write(two, (1801, StepFinished(0, "acquire", (), F)), (1801, FlowCompleted(F)))
    await writer.write(one, (1802, FlowCancelled("no longer needed")))
    await models.refresh()
    assert (await models.statistics()).hours == (
        HourlyThroughput(
            hour=BEGIN.replace(minute=0),
            events=2,
            flows_started=1,
            flows_completed=0,
            flows_cancelled=0,
            steps_finished=0,
            steps_failed=0,
            retries=0,
        ),
        HourlyThroughput(
            hour=BEGIN.replace(hour=11, minute=0),
            events=8,
            flows_started=1,
            flows_completed=1,
            flows_cancelled=1,
            steps_finished=1,
            steps_failed=1,
            retries=1,
        ),
    )


async def chunks(size: int) -> AsyncIterator[bytes]:
    yield bytes(size)


async def test_artifacts_are_counted_by_kind_with_what_is_stored_of_them(
    models: PgReadModels, provider: PoolProvider
) -> None:
    store = PgEventStore(provider)
    whole = [
        Artifact.from_content(kind="Image", content=bytes([n]) * 10, media_type="x")
        for n in range(3)
    ]
    values = [Artifact.from_payload(kind="Value", payload={"number": n}) for n in range(2)]
    await store.append_kind(new_flow_id(), StepSignal(0, "s", "s"), artifacts=[*whole, *values])
    async with store.transaction() as tx:
        streamed = await tx.put_stream(kind="Trajectory", chunks=chunks(3 * 2**20), media_type="x")
        await tx.append_kind(new_flow_id(), StepSignal(0, "s", "s"), artifacts=[streamed])
    await models.refresh()
    image, trajectory, value = (await models.statistics()).artifacts
    assert image == ArtifactStatistics(
        kind="Image", artifacts=3, stored_bytes=33
    )  # each with one byte for its length
    assert (trajectory.kind, trajectory.artifacts, value.kind, value.artifacts) == (
        "Trajectory",
        1,
        "Value",
        2,
    )
    assert 0 < trajectory.stored_bytes < 3 * 2**20  # zeros are compressed
    assert value.stored_bytes > 0


async def test_names_of_any_length_are_counted(models: PgReadModels, writer: Writer) -> None:
    long = "s" * 100_000
    error = StepError("E" * 100_000, "e")
    await writer.write(new_flow_id(), (0, StepStarted(0, long)), (1, StepFailed(0, long, error, F)))
    await models.refresh()
    statistics = await models.statistics()
    assert [step.step_id for step in statistics.steps] == [long]
    assert [failure.error_class for failure in statistics.failures] == [error.error_class]


@pytest.mark.superuser
async def test_a_role_that_may_not_refresh_is_told_who_may(admin_url: str) -> None:
    async with new_role(admin_url) as role:
        administrator = await asyncpg.connect(admin_url)
        await administrator.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role.name}")
        await administrator.close()
        async with await build_pool(role.url, max_size=1) as pool:
            with pytest.raises(StoreError, match="only the owner") as caught:
                await PgReadModels(PoolProvider(pool)).refresh()
    assert caught.value.sqlstate == "42501"

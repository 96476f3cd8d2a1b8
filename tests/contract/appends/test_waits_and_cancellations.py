"""Waiting steps, cancelled flows, and the fields that events may have, on every store."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from chem_persistence import (
    Artifact,
    FlowCancelled,
    FlowEngine,
    FlowEventKind,
    FlowInitialized,
    FlowIsWaiting,
    FlowWasCancelled,
    InvalidPayload,
    RetryScheduled,
    Step,
    StepContext,
    StepRaised,
    StepSignal,
    StepStarted,
    StepStatus,
    StepWaits,
    UserInteractionRequested,
)
from chem_persistence.domain.events import (
    CANCEL,
    INVALIDATED,
    RELEASED,
    SAVED,
    SEALED,
    LibrarySignal,
)
from chem_persistence.store.codec import encode_kind
from tests.golden.kinds import ADDED
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.backends import Backend

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RESERVED = [CANCEL, INVALIDATED, RELEASED, SAVED, SEALED]


class Number(msgspec.Struct):
    n: int


class Count(Step[Number, Number]):
    """Count up by one; fail for negative numbers."""

    id = "count"

    async def run(self, number: Number, context: StepContext) -> Number:
        if number.n == -1:
            context.signal(CANCEL)
        if number.n < 0:
            raise ValueError(number.n)
        return Number(number.n + 1)


def engine_of(backend: Backend) -> FlowEngine[Number]:
    return FlowEngine.builder(backend.store, backend.repository).first_step(Count()).build()


async def begun(backend: Backend, engine: FlowEngine[Number], *kinds: FlowEventKind) -> UUID:
    """Return a flow of the engine that has begun, with these events after its start."""
    given = Artifact.from_payload(kind="Number", payload=Number(1))
    flow_id = new_flow_id()
    first = FlowInitialized(engine.definition.definition_hash, 1, given.hash)
    await backend.store.append_kinds(
        flow_id, [first, StepStarted(0, "count"), *kinds], artifacts=[given]
    )
    return flow_id


async def test_a_flow_that_waits_for_an_event_does_not_run(backend: Backend) -> None:
    engine = engine_of(backend)
    flow_id = await begun(backend, engine, StepWaits(0, "count", None, {"job": "4711"}))
    for run in (engine.run_to_end, engine.run_step):
        with pytest.raises(FlowIsWaiting) as caught:
            await run(flow_id)
        error = caught.value
        assert (error.flow_id, error.step_id, error.until) == (flow_id, "count", None)
    (slot,) = (await engine.load(flow_id)).steps
    assert (slot.status, slot.until, slot.data) == (StepStatus.WAITING, None, {"job": "4711"})
    assert await engine.event_trace(flow_id) == ["I", "S", "W"]


async def test_a_single_step_is_not_waited_for_and_says_until_when(backend: Backend) -> None:
    engine, until = engine_of(backend), datetime.now(UTC) + timedelta(hours=1)
    flow_id = await begun(backend, engine, StepWaits(0, "count", until, {"job": "4711"}))
    with pytest.raises(FlowIsWaiting) as caught:
        await engine.run_step(flow_id)
    error = caught.value
    assert (error.flow_id, error.step_id, error.until) == (flow_id, "count", until)
    assert await engine.event_trace(flow_id) == ["I", "S", "W"]


@pytest.mark.parametrize("to_end", [True, False])
async def test_a_flow_goes_on_when_the_time_of_its_step_has_come(
    backend: Backend,
    to_end: bool,  # noqa: FBT001
) -> None:
    engine = engine_of(backend)
    flow_id = await begun(backend, engine, StepWaits(0, "count", NOON, {"job": "4711"}))
    await (engine.run_to_end if to_end else engine.run_step)(flow_id)
    assert await engine.event_trace(flow_id) == ["I", "S", "W", "S", "F", "C"]


async def test_a_flow_goes_on_when_the_event_has_come_for_which_its_step_waits(
    backend: Backend,
) -> None:
    engine = engine_of(backend)
    flow_id = await begun(
        backend, engine, StepWaits(0, "count", None), StepSignal(0, "count", "ready")
    )
    await engine.run_to_end(flow_id)
    assert await engine.event_trace(flow_id) == ["I", "S", "W", "G", "S", "F", "C"]


async def test_a_step_that_waited_runs_again_after_a_start_and_keeps_its_data(
    backend: Backend,
) -> None:
    engine = engine_of(backend)
    waits = StepWaits(0, "count", NOON, {"job": "4711"})
    flow_id = await begun(backend, engine, waits, StepStarted(0, "count"))
    await engine.run_to_end(flow_id)
    (slot,) = (await engine.load(flow_id)).steps
    assert (slot.status, slot.attempts, slot.data) == (StepStatus.FINISHED, 3, {"job": "4711"})
    assert await engine.event_trace(flow_id) == ["I", "S", "W", "S", "S", "F", "C"]


async def test_a_wait_changes_no_fingerprint(backend: Backend) -> None:
    engine = engine_of(backend)
    undisturbed = await engine.run_to_end(input=Number(1))
    waits = StepWaits(0, "count", None, [1, 2])
    flow_id = await begun(backend, engine, waits, StepStarted(0, "count"))
    await engine.run_to_end(flow_id)
    assert await engine.flow_fingerprint(flow_id) == await engine.flow_fingerprint(undisturbed)


async def test_a_cancelled_flow_never_goes_on(backend: Backend) -> None:
    engine = engine_of(backend)
    flow_id = await begun(backend, engine, FlowCancelled("no longer needed"))
    for run in (engine.run_to_end, engine.run_step):
        with pytest.raises(FlowWasCancelled, match="no longer needed") as caught:
            await run(flow_id)
        assert (caught.value.flow_id, caught.value.reason) == (flow_id, "no longer needed")
    assert (await engine.load(flow_id)).cancelled == "no longer needed"
    assert await engine.event_trace(flow_id) == ["I", "S", "K"]


async def test_a_failed_flow_that_was_cancelled_is_not_retried(backend: Backend) -> None:
    engine = engine_of(backend)
    with pytest.raises(StepRaised) as raised:
        await engine.run_to_end(input=Number(-2))
    flow_id = raised.value.flow_id
    await backend.store.append_kind(flow_id, FlowCancelled("it cannot succeed"))
    with pytest.raises(FlowWasCancelled):
        await engine.schedule_retry(flow_id, reason="again")
    assert await engine.event_trace(flow_id) == ["I", "S", "X", "K"]


TIMED: list[FlowEventKind] = [
    replace(initialized(), due=NOON),
    RetryScheduled("acquire", 1, "again", NOON),
    StepWaits(0, "acquire", NOON),
    UserInteractionRequested(0, "acquire", {"type": "string"}, "which?", NOON),
]


def field_of(kind: FlowEventKind) -> str:
    (name,) = {"due", "not_before", "until"} & set(kind.__struct_fields__)
    return name


@pytest.mark.parametrize("kind", TIMED, ids=field_of)
async def test_equal_times_are_one_event_in_utc_whatever_their_zone(
    backend: Backend, kind: FlowEventKind
) -> None:
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    given, event_id = replace(kind, **{field_of(kind): local}), UUID(int=4)
    flow_id = new_flow_id()
    event = await backend.store.append_kind(flow_id, given, event_id=event_id)
    again = await backend.store.append_kind(flow_id, kind, event_id=event_id)
    assert event == again == (await backend.store.list(flow_id))[0]
    assert getattr(event.kind, field_of(kind)).tzinfo is UTC
    assert encode_kind(given)[0] == encode_kind(kind)[0]
    assert b'"2026-01-01T12:00:00Z"' in encode_kind(kind)[0]


@pytest.mark.parametrize("kind", TIMED, ids=field_of)
@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (datetime(2026, 1, 1), "without a time zone"),  # noqa: DTZ001
        ("2026-01-01T00:00:00Z", "must be a datetime, not str"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "beyond datetime's range"),
    ],
    ids=["naive", "text", "beyond"],
)
async def test_a_time_that_is_none_is_refused(
    backend: Backend, kind: FlowEventKind, time: Any, reason: str
) -> None:
    with pytest.raises(InvalidPayload, match=reason) as caught:
        await backend.store.append_kind(new_flow_id(), replace(kind, **{field_of(kind): time}))
    assert caught.value.path == f"$.{field_of(kind)}"


@pytest.mark.parametrize("kind", ADDED, ids=lambda kind: type(kind).__name__)
async def test_the_fields_that_an_event_may_have_are_read_as_they_were_appended(
    backend: Backend, kind: FlowEventKind
) -> None:
    flow_id = new_flow_id()
    appended = await backend.store.append_kind(flow_id, kind)
    assert appended.kind == kind
    assert await backend.store.list(flow_id) == [appended]


@pytest.mark.parametrize("name", [*RESERVED, "chem_persistence.", "chem_persistence.other"])
async def test_the_names_of_the_librarys_own_signals_are_reserved(
    backend: Backend, name: str
) -> None:
    flow_id = new_flow_id()
    with pytest.raises(InvalidPayload, match="reserved for the library") as caught:
        await backend.store.append_kinds(
            flow_id, [initialized(), StepSignal(0, "acquire", name, {"by": "Ada"})]
        )
    assert caught.value.path == "$.signal"
    async with backend.store.transaction() as transaction:
        with pytest.raises(InvalidPayload, match="reserved for the library"):
            await transaction.append_kind(flow_id, StepSignal(0, "acquire", name))
    assert await backend.store.list(flow_id) == []


@pytest.mark.parametrize("name", ["chem_persistence", "Chem_persistence.cancel", "my.cancel"])
async def test_other_names_are_not(backend: Backend, name: str) -> None:
    event = await backend.store.append_kind(new_flow_id(), StepSignal(0, "acquire", name))
    assert event.kind == StepSignal(0, "acquire", name)


@pytest.mark.parametrize("name", RESERVED)
async def test_the_library_appends_its_signals_which_are_read_as_signals(
    backend: Backend, name: str
) -> None:
    flow_id, event_id = new_flow_id(), UUID(int=9)
    signal = LibrarySignal(0, "acquire", name, {"by": "Ada"})
    event = await backend.store.append_kind(flow_id, signal, event_id=event_id)
    assert type(event.kind) is StepSignal
    assert event.kind == StepSignal(0, "acquire", name, {"by": "Ada"})
    assert await backend.store.append_kind(flow_id, signal, event_id=event_id) == event
    assert await backend.store.list(flow_id) == [event]


async def test_a_step_cannot_use_a_reserved_name(backend: Backend) -> None:
    with pytest.raises(StepRaised) as raised:
        await engine_of(backend).run_to_end(input=Number(-1))
    assert isinstance(raised.value.__cause__, InvalidPayload)

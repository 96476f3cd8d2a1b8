"""The telemetry of flows on every store, which changes nothing that is stored."""

import asyncio
import logging
from collections.abc import Iterator
from uuid import UUID

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from uuid_utils.compat import uuid7

from chem_persistence import (
    BlockingStep,
    ConcurrencyConflict,
    EventIdReused,
    FlowAlreadyCompleted,
    FlowAwaitsUser,
    FlowEngine,
    FlowEventKind,
    FlowIsWaiting,
    StepContext,
    StepRaised,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionRequested,
    event_metadata,
)
from chem_persistence.store.attribution import RUN_BY
from chem_persistence.store.program.what_ran import RAN
from tests.support.faults.watching import Heard, attributes_of, context_of, watching
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.steps import Mixture, engine_of
from tests.support.servers.backends import Backend

SECRET = "c1ccccc1-is-nobody's-business"
ETHANOL_AND_WATER = Mixture("CCO.O")


@pytest.fixture
def heard() -> Iterator[Heard]:
    with watching() as heard:
        yield heard


def raising(_context: StepContext) -> None:
    raise ValueError(SECRET)


def raising_once(context: StepContext) -> None:
    if context.attempt == 1:
        raise ValueError(SECRET)


def trace_id_of(traceparent: str) -> int:
    return int(traceparent.split("-")[1], 16)


# ---- spans


async def test_an_append_is_in_its_step_and_a_step_in_its_flow(
    backend: Backend, heard: Heard
) -> None:
    flow_id = await engine_of(backend).run_to_end(input=ETHANOL_AND_WATER)
    lineages = [heard.ancestry(span) for span in heard.spans("append")]
    assert lineages == [["append", "step", "flow"]] * 3  # both outcomes, and the first start
    steps = [attributes_of(span) for span in heard.spans("step")]
    assert [
        (step["chem_persistence.step.id"], step["chem_persistence.step.attempt"]) for step in steps
    ] == [
        ("acquire", 1),
        ("count", 1),
    ]
    flow = attributes_of(*heard.spans("flow"))
    assert flow["chem_persistence.flow.id"] == str(flow_id)
    assert flow["chem_persistence.flow.version"] == 0
    assert {span.status.status_code for span in heard.spans()} == {StatusCode.UNSET}


async def test_spans_of_the_steps_own_code_are_in_its_step(backend: Backend, heard: Heard) -> None:
    def act(_context: StepContext) -> None:
        with heard.tracer.start_as_current_span("embed"):
            pass

    await engine_of(backend, act).run_to_end(input=ETHANOL_AND_WATER)
    (own,) = (span for span in heard.spans() if span.name == "embed")
    assert heard.ancestry(own) == ["embed", "step", "flow"]


async def test_spans_of_a_worker_thread_are_in_its_step(backend: Backend, heard: Heard) -> None:
    class Embed(BlockingStep[Mixture, Mixture]):
        id = "embed"

        def compute(self, mixture: Mixture, _context: StepContext) -> Mixture:
            with heard.tracer.start_as_current_span("force field"):
                return mixture

    engine = FlowEngine.builder(backend.store, backend.repository).first_step(Embed()).build()
    await engine.run_to_end(input=ETHANOL_AND_WATER)
    (own,) = (span for span in heard.spans() if span.name == "force field")
    assert heard.ancestry(own) == ["force field", "step", "flow"]


async def test_a_flow_that_was_begun_inside_a_span_is_in_it(backend: Backend, heard: Heard) -> None:
    with heard.tracer.start_as_current_span("request"):
        await engine_of(backend).run_to_end(input=ETHANOL_AND_WATER)
    assert heard.ancestry(*heard.spans("flow")) == ["flow", "request"]


async def test_reading_and_replaying_are_spans(backend: Backend, heard: Heard) -> None:
    engine = engine_of(backend)
    flow_id = await engine.run_to_end(input=ETHANOL_AND_WATER)
    await engine.load(flow_id)
    (page,) = heard.spans("list")
    assert heard.ancestry(page) == ["list", "replay"]
    assert attributes_of(page)["db.response.returned_rows"] == 6
    assert heard.values("chem_persistence.replay.duration") == {(): 1}


async def test_flows_at_once_keep_to_their_own_traces(backend: Backend, heard: Heard) -> None:
    engine = engine_of(backend)
    await asyncio.gather(
        *(engine.run_to_end(input=Mixture("C" * number)) for number in range(1, 11))
    )
    traces: dict[int, set[object]] = {}
    for span in [*heard.spans("flow"), *heard.spans("step"), *heard.spans("append")]:
        flow = attributes_of(span)["chem_persistence.flow.id"]
        traces.setdefault(context_of(span).trace_id, set()).add(flow)
    assert [len(flows) for flows in traces.values()] == [1] * 10


async def test_a_step_that_raises_is_told_by_the_class_of_its_error(
    backend: Backend, heard: Heard
) -> None:
    with pytest.raises(StepRaised):
        await engine_of(backend, raising).run_to_end(input=ETHANOL_AND_WATER)
    flow, _, failed = (*heard.spans("flow"), *heard.spans("step"))
    for span in (flow, failed):
        assert span.status.status_code is StatusCode.ERROR
        assert attributes_of(span)["error.type"] == "ValueError"
    assert heard.values("chem_persistence.step.duration") == {
        ("acquire",): 1,
        ("count", "ValueError"): 1,
    }


@pytest.mark.parametrize(
    ("pause", "error"),
    [
        (UserInteractionRequested(1, "count", {"type": "boolean"}), FlowAwaitsUser),
        (StepWaits(1, "count", None), FlowIsWaiting),
    ],
    ids=["for a person", "for an event"],
)
async def test_a_flow_that_waits_has_not_gone_wrong(
    backend: Backend, heard: Heard, pause: FlowEventKind, error: type[Exception]
) -> None:
    engine = engine_of(backend)
    instance = await engine.run_step(input=ETHANOL_AND_WATER)
    await backend.store.append_kinds(instance.id, [StepStarted(1, "count"), pause])
    with pytest.raises(error):
        await engine.run_to_end(instance.id)
    waits = heard.spans("flow")[-1]
    assert attributes_of(waits)["error.type"] == error.__name__
    assert waits.status.status_code is StatusCode.UNSET


async def test_a_refused_run_says_which_flow_it_was_about(backend: Backend, heard: Heard) -> None:
    engine = engine_of(backend)
    flow_id = await engine.run_to_end(input=ETHANOL_AND_WATER)
    with pytest.raises(FlowAlreadyCompleted):
        await engine.run_to_end(flow_id)
    assert attributes_of(heard.spans("flow")[-1])["chem_persistence.flow.id"] == str(flow_id)


# ---- the trace in the log


async def test_events_say_in_which_trace_they_were_appended(backend: Backend, heard: Heard) -> None:
    flow_id = await engine_of(backend).run_to_end(input=ETHANOL_AND_WATER)
    (flow,) = heard.spans("flow")
    events = await backend.store.list(flow_id)
    assert {trace_id_of(event.metadata["traceparent"]) for event in events} == {
        context_of(flow).trace_id
    }
    assert {*events[0].metadata} == {RAN, "traceparent", RUN_BY}
    assert {*events[-1].metadata} == {"traceparent"}


async def test_outside_a_trace_events_say_none(backend: Backend, heard: Heard) -> None:
    event = await backend.store.append_kind(new_flow_id(), initialized())
    assert event.metadata == {}
    assert next(span.name for span in heard.spans()) == "chem_persistence.append"


async def test_a_trace_that_the_caller_gives_wins(backend: Backend, heard: Heard) -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with (
        heard.tracer.start_as_current_span("request"),
        event_metadata(actor="Ada", traceparent=given),
    ):
        event = await backend.store.append_kind(new_flow_id(), initialized())
    assert event.metadata == {"actor": "Ada", "traceparent": given}


async def test_a_resumed_flow_is_linked_to_its_first_trace(backend: Backend, heard: Heard) -> None:
    engine = engine_of(backend)
    instance = await engine.run_step(input=ETHANOL_AND_WATER)
    await engine.run_to_end(instance.id)
    first, resumed = heard.spans("flow")
    assert context_of(first).trace_id != context_of(resumed).trace_id
    assert [link.context.trace_id for link in resumed.links] == [context_of(first).trace_id]
    assert first.links == ()


@pytest.mark.parametrize(
    "traceparent", ["no trace", 7, None, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"]
)
async def test_a_flow_whose_first_trace_cannot_be_read_goes_on_without_a_link(
    backend: Backend, heard: Heard, traceparent: object
) -> None:
    with event_metadata(traceparent=traceparent):
        instance = await engine_of(backend).run_step(input=ETHANOL_AND_WATER)
    await engine_of(backend).run_to_end(instance.id)
    resumed = heard.spans("flow")[-1]
    assert len(resumed.links) == (1 if traceparent is None else 0)


async def run_under(backend: Backend, flow_id: UUID) -> str:
    engine = engine_of(backend)
    await engine.run_to_end(flow_id, input=ETHANOL_AND_WATER)
    return await engine.flow_fingerprint(flow_id)


async def test_listening_changes_no_fingerprint_and_no_fact(backend: Backend) -> None:
    in_silence, listened_to = new_flow_id(), new_flow_id()
    expected = await run_under(backend, in_silence)
    with watching() as heard:
        assert await run_under(backend, listened_to) == expected
    assert heard.spans()
    quiet, loud = await backend.store.list(in_silence), await backend.store.list(listened_to)
    assert [event.kind for event in quiet] == [event.kind for event in loud]
    assert {key for event in quiet for key in event.metadata} == {RAN, RUN_BY}


async def test_an_append_that_is_repeated_in_another_trace_is_the_same_append(
    backend: Backend, heard: Heard
) -> None:
    flow_id, event_id = new_flow_id(), uuid7()

    async def append(reason: str = "routine") -> object:
        return await backend.store.append_kind(
            flow_id, initialized(), event_id=event_id, metadata={"reason": reason}
        )

    with heard.tracer.start_as_current_span("request"):
        original = await append()
    with heard.tracer.start_as_current_span("repeated request"):
        assert await append() == original
        with pytest.raises(EventIdReused):
            await append("another")
    assert await append() == original


# ---- metrics


async def test_every_append_is_timed_and_each_conflict_counted(
    backend: Backend, heard: Heard
) -> None:
    flow_id = new_flow_id()
    await backend.store.append_kind(flow_id, initialized(), expected_version=0)
    for _ in range(2):
        with pytest.raises(ConcurrencyConflict):
            await backend.store.append_kind(
                flow_id, StepSignal(0, "acquire", "said"), expected_version=0
            )
    durations = heard.points("chem_persistence.append.duration")
    assert heard.values("chem_persistence.append.duration") == {(): 1, ("ConcurrencyConflict",): 2}
    assert heard.values("chem_persistence.conflicts") == {(): 2}
    assert all(0 < point.sum < 300 for point in durations)
    assert {point.explicit_bounds[0] for point in durations} == {0.0005}


async def test_a_retry_of_a_step_is_counted_by_its_cause_and_number(
    backend: Backend, heard: Heard
) -> None:
    engine = engine_of(backend, raising_once)
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(input=ETHANOL_AND_WATER)
    await engine.schedule_retry(caught.value.flow_id, reason="again")
    await engine.run_to_end(caught.value.flow_id)
    assert heard.values("chem_persistence.step.retries") == {(1, "count", "ValueError"): 1}
    (scheduled,) = heard.spans("schedule_retry")
    assert ["append", "schedule_retry"] in [heard.ancestry(span) for span in heard.spans("append")]
    assert len(scheduled.links) == 1


# ---- logging, and what is never told


async def test_log_records_have_flow_and_step_as_fields(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(backend, raising_once)
    with caplog.at_level(logging.DEBUG, "chem_persistence.engine"):
        with pytest.raises(StepRaised) as caught:
            await engine.run_to_end(input=ETHANOL_AND_WATER)
        flow_id = caught.value.flow_id
        await engine.schedule_retry(flow_id, reason="again")
        await engine.run_to_end(flow_id)
    said = [
        (record.levelname, getattr(record, "step_id", None), getattr(record, "attempt", None))
        for record in caplog.records
        if record.name == "chem_persistence.engine"
        and getattr(record, "flow_id", None) == str(flow_id)
    ]
    assert said == [
        ("INFO", None, None),
        ("DEBUG", "acquire", 1),
        ("WARNING", "count", 1),
        ("INFO", "count", None),
        ("INFO", None, None),
        ("DEBUG", "count", 2),
        ("INFO", None, None),
    ]


async def test_no_payload_and_no_text_of_an_error_is_told(
    backend: Backend, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        engine = engine_of(backend, raising_once)
        with event_metadata(reason=SECRET), pytest.raises(StepRaised) as caught:
            await engine.run_to_end(input=Mixture(SECRET))
        await engine.schedule_retry(caught.value.flow_id, reason=SECRET)
        await engine.run_to_end(caught.value.flow_id)
    told = "".join(span.to_json() for span in heard.spans()) + heard.metrics_json()
    assert "ValueError" in told
    assert SECRET not in told
    assert SECRET not in caplog.text + "".join(str(vars(record)) for record in caplog.records)


def test_nothing_is_left_in_the_context(heard: Heard) -> None:
    assert heard.spans() == []
    assert not trace.get_current_span().get_span_context().is_valid

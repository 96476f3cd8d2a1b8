"""Steps that ask a person: answers, deadlines and refusals, on every store."""

import asyncio
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from chem_persistence import (
    Ask,
    Flow,
    FlowAwaitsUser,
    FlowEngine,
    FlowHasFailed,
    FlowNotFound,
    FlowState,
    InMemoryFlowRepository,
    InvalidPayload,
    NotWaiting,
    RetryPolicy,
    Step,
    StepContext,
    StepFailed,
    StepFinished,
    StepSignal,
    UserInteractionProvided,
    UserInteractionRequested,
    Wait,
    content_hash,
    flow,
)
from chem_persistence.domain.fingerprints import step_fingerprint
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import Desk
from tests.support.leases.staff import Act, Acts, Number, client_of, submit, trace, until, working


class Verdict(msgspec.Struct, frozen=True):
    accept: bool
    more: int = 0


class Review(Ask[Number, Verdict, Number]):
    """Asks whether a number is good, and adds what the person adds."""

    id = "review"
    answer = Verdict

    def question(self, number: Number) -> str:
        return f"Is {number.n} good?"

    def decide(self, number: Number, answer: Verdict) -> Number:
        if not answer.accept:
            raise ValueError("not accepted")
        return Number(number.n + answer.more)


class Hurried(Review):
    """Takes a default when its time is over."""

    def __init__(self, timeout: float, *, has_default: bool = True) -> None:
        self.timeout = timeout
        self.has_default = has_default

    def default(self, number: Number) -> Verdict:
        return Verdict(accept=True, more=100) if self.has_default else super().default(number)


def reviewed(review: Review | None = None, acts: Acts | None = None) -> Flow[Number, Number]:
    return flow("reviewed", Act(acts or Acts(), "act")).then(review or Review())


async def asked(desk: Desk, flow_id: UUID) -> UserInteractionRequested:
    events = await until(desk, flow_id, lambda events: events[-1].variant == "U")
    question = events[-1].kind
    assert isinstance(question, UserInteractionRequested)
    return question


async def test_a_flow_waits_for_an_answer_and_decides_by_it(desk: Desk) -> None:
    gate, client = reviewed().then(Act(Acts(), "after")), client_of(desk)
    flow_id = await submit(desk, gate, 1)
    async with working(desk, [gate], at_once=1):
        question = await asked(desk, flow_id)
        assert question.hint == "Is 2 good?"
        assert question.schema == msgspec.json.schema(Verdict)
        row = await desk.seen(flow_id)
        assert (row.due, row.lease) == ("never", None)
        with pytest.raises(TimeoutError, match="awaiting_user_input"):
            await client.wait(flow_id, timeout=timedelta(0))
        await client.answer(flow_id, "review", Verdict(accept=True, more=5), actor="Ada")
        assert await client.result(gate, flow_id) == Number(8)
    assert await trace(desk, flow_id) == "ISFSUVSFSFC"
    events = await desk.store.list(flow_id)
    assert events[5].metadata["actor"] == "Ada"
    answer = await desk.store.get_artifact(content_hash({"accept": True, "more": 5}))
    assert (answer.kind, answer.payload) == ("Verdict", {"accept": True, "more": 5})


async def test_the_answer_is_an_input_of_the_step(desk: Desk) -> None:
    gate, client = reviewed(), client_of(desk)
    flow_ids = [await submit(desk, gate, 1) for _ in range(3)]
    async with working(desk, [gate]):
        for flow_id, more in zip(flow_ids, (5, 5, 6), strict=True):
            await asked(desk, flow_id)
            await client.answer(flow_id, "review", {"accept": True, "more": more}, actor="Ada")
            await client.result(gate, flow_id)
    logs = [await desk.store.list(flow_id) for flow_id in flow_ids]
    finished = [
        [event.kind for event in events if isinstance(event.kind, StepFinished)][-1]
        for events in logs
    ]
    given = content_hash(Number(2)), content_hash(Verdict(accept=True, more=5))
    step = gate.definition.steps[1].definition_hash
    assert finished[0].fingerprint == step_fingerprint(step, given)
    assert finished[0].fingerprint == finished[1].fingerprint != finished[2].fingerprint


async def test_only_the_first_answer_counts(desk: Desk) -> None:
    gate, client = reviewed(), client_of(desk)
    flow_id = await submit(desk, gate, 1)
    with pytest.raises(NotWaiting, match="pending"):
        await client.answer(flow_id, "review", Verdict(accept=True), actor="Ada")
    async with working(desk, [gate]):
        await asked(desk, flow_id)
    answers = [Verdict(accept=True, more=more) for more in range(8)]
    answered = await asyncio.gather(
        *(client.answer(flow_id, "review", answer, actor="Ada") for answer in answers),
        return_exceptions=True,
    )
    assert sum(isinstance(each, NotWaiting) for each in answered) == len(answers) - 1
    counted = answered.index(None)
    async with working(desk, [gate]):
        assert await client.result(gate, flow_id) == Number(2 + counted)
    with pytest.raises(NotWaiting, match="completed"):
        await client.answer(flow_id, "review", Verdict(accept=True), actor="Ada")
    with pytest.raises(FlowNotFound):
        await client.answer(new_flow_id(), "review", Verdict(accept=True), actor="Ada")
    assert await trace(desk, flow_id) == "ISFSUVSFC"


async def test_an_answer_is_checked_against_the_schema(desk: Desk) -> None:
    gate, client = reviewed(), client_of(desk)
    flow_id = await submit(desk, gate, 1)
    async with working(desk, [gate]):
        await asked(desk, flow_id)
        for wrong, path in [({"more": 1}, r"\$"), ({"accept": 1}, r"\$\.accept"), (None, r"\$")]:
            with pytest.raises(InvalidPayload, match=path):
                await client.answer(flow_id, "review", wrong, actor="Ada")
        await client.answer(flow_id, "review", {"accept": True}, actor="Ada")
        assert await client.result(gate, flow_id) == Number(2)


@pytest.mark.parametrize(
    "schema", [{"type": "no such type"}, {"$ref": "http://127.0.0.1:9/schema"}, {"$ref": "#/none"}]
)
async def test_nothing_is_fetched_for_a_schema(desk: Desk, schema: object) -> None:
    gate = reviewed()
    flow_id = await submit(desk, gate, 1)
    await desk.store.append_kind(
        flow_id, UserInteractionRequested(0, "act", schema), expected_version=1
    )
    with pytest.raises(InvalidPayload, match="a schema that cannot be used"):
        await client_of(desk).answer(flow_id, "act", 1, actor="Ada")


async def test_an_answer_that_the_step_refuses_fails_it_and_a_retry_asks_again(desk: Desk) -> None:
    gate, client = reviewed(), client_of(desk)
    flow_id = await submit(desk, gate, 1)
    async with working(desk, [gate]):
        await asked(desk, flow_id)
        await client.answer(flow_id, "review", Verdict(accept=False), actor="Ada")
        with pytest.raises(FlowHasFailed, match="not accepted"):
            await client.result(gate, flow_id)
        await client.retry(flow_id, reason="another look")
        await asked(desk, flow_id)
        await client.answer(flow_id, "review", Verdict(accept=True), actor="Bob")
        assert await client.result(gate, flow_id) == Number(2)
    assert await trace(desk, flow_id) == "ISFSUVSXRSUVSFC"


async def test_a_question_whose_time_is_over_has_its_default_as_answer(desk: Desk) -> None:
    gate = reviewed(Hurried(3_600))
    flow_id = await submit(desk, gate, 1)
    async with working(desk, [gate]):
        await asked(desk, flow_id)
        row = await desk.seen(flow_id)
        assert (row.due, row.lease) == ("in 1 h", None)
        await desk.make_due(flow_id)
        assert await client_of(desk).result(gate, flow_id) == Number(102)
    events = await desk.store.list(flow_id)
    assert [event.variant for event in events] == list("ISFSUVSFC")
    assert events[5].metadata["actor"] == "timeout"


async def test_a_signal_does_not_shorten_the_time_for_an_answer(desk: Desk) -> None:
    acts = Acts()
    acts.held = frozenset({"act"})
    gate, client = reviewed(Hurried(3_600), acts), client_of(desk)
    flow_id = await submit(desk, gate, 1)
    async with working(desk, [gate]):
        await acts.begun.wait()
        await client.signal(flow_id, "act", "hurry")  # its holder is called: due again at once
        acts.may_end.set()
        await until(desk, flow_id, lambda events: events[-1].variant == "U")
        await client.signal(flow_id, "review", "hurry", actor="Ada")
        while (await desk.seen(flow_id)).due != "in 1 h":
            await asyncio.sleep(0.005)
    assert await trace(desk, flow_id) == "ISGFSUG"


async def test_a_default_that_raises_fails_the_step(desk: Desk) -> None:
    gate = reviewed(Hurried(3_600, has_default=False))
    flow_id = await submit(desk, gate, 1)
    async with working(desk, [gate]):
        await asked(desk, flow_id)
        await desk.make_due(flow_id)
        with pytest.raises(FlowHasFailed, match="nobody answered step 'review' within 3600 s"):
            await client_of(desk).result(gate, flow_id)
    events = await desk.store.list(flow_id)
    assert [event.variant for event in events] == list("ISFSUX")
    assert isinstance(events[-1].kind, StepFailed)
    assert events[-1].kind.error.error_class == "builtins.TimeoutError"


async def test_a_failed_default_is_retried_as_the_policy_says(desk: Desk) -> None:
    hurried = Hurried(3_600, has_default=False)
    hurried.retry = RetryPolicy(attempts=2, first=timedelta(0))
    gate = reviewed(hurried)
    flow_id = await submit(desk, gate, 1)
    async with working(desk, [gate]):
        await asked(desk, flow_id)
        await desk.make_due(flow_id)
        await until(desk, flow_id, lambda events: len(events) > 7 and events[-1].variant == "U")
        await client_of(desk).answer(flow_id, "review", Verdict(accept=True), actor="Ada")
        assert await client_of(desk).result(gate, flow_id) == Number(2)
    assert await trace(desk, flow_id) == "ISFSUXRSUVSFC"


async def test_a_program_without_a_worker_raises_and_goes_on_after_the_answer(desk: Desk) -> None:
    gate, flow_id = reviewed(), new_flow_id()
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), gate)
    for _ in range(2):
        with pytest.raises(FlowAwaitsUser, match="'review'"):
            await engine.run_to_end(flow_id, input=Number(1))
    await client_of(desk).answer(flow_id, "review", Verdict(accept=True, more=1), actor="Ada")
    await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISFSUVSFC"


async def test_a_program_takes_the_default_only_when_the_time_is_over(desk: Desk) -> None:
    for seconds, expected in ((3_600.0, "ISFSU"), (0.0, "ISFSUVSFC")):
        gate, flow_id = reviewed(Hurried(seconds)), new_flow_id()
        engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), gate)
        if seconds:
            for _ in range(2):
                with pytest.raises(FlowAwaitsUser):
                    await engine.run_to_end(flow_id, input=Number(1))
        else:
            await engine.run_to_end(flow_id, input=Number(1))
        assert await trace(desk, flow_id) == expected


async def test_a_cancelled_flow_takes_no_answer(desk: Desk) -> None:
    gate, client = reviewed(), client_of(desk)
    flow_id = await submit(desk, gate, 1)
    async with working(desk, [gate]):
        await asked(desk, flow_id)
    await client.cancel(flow_id, reason="not needed")
    assert await client.wait(flow_id) is FlowState.CANCELLED
    with pytest.raises(NotWaiting, match="cancelled"):
        await client.answer(flow_id, "review", Verdict(accept=True), actor="Ada")
    assert await trace(desk, flow_id) == "ISFSUK"


async def test_an_answer_and_a_cancellation_at_once_leave_one_end(desk: Desk) -> None:
    gate, client = reviewed(), client_of(desk)
    async with working(desk, [gate]):
        for _ in range(6):
            flow_id = await submit(desk, gate, 1)
            await asked(desk, flow_id)
            await asyncio.gather(
                client.answer(flow_id, "review", Verdict(accept=True), actor="Ada"),
                client.cancel(flow_id, reason="not needed"),
                return_exceptions=True,
            )
            state = await client.wait(flow_id)
            letters = await trace(desk, flow_id)
            assert letters.count("C") + letters.count("K") == 1
            assert (state is FlowState.COMPLETED) == letters.endswith("C")


async def test_an_answer_that_comes_before_the_default_is_appended_counts(desk: Desk) -> None:
    class Late(Hurried):
        """Whose default is worked out while a person answers."""

        def default(self, number: Number) -> Verdict:
            late.append(asyncio.ensure_future(answer()))
            return super().default(number)

    late: list[asyncio.Future[None]] = []
    gate, client = reviewed(Late(3_600)), client_of(desk)
    flow_id = await submit(desk, gate, 1)

    async def answer() -> None:
        await client.answer(flow_id, "review", Verdict(accept=True, more=7), actor="Ada")

    async with working(desk, [gate]):
        await asked(desk, flow_id)
        await desk.make_due(flow_id)
        result = await client.result(gate, flow_id)
    (answered,) = await asyncio.gather(*late, return_exceptions=True)
    provided = [
        event
        for event in await desk.store.list(flow_id)
        if isinstance(event.kind, UserInteractionProvided)
    ]
    assert len(provided) == 1
    by_default = provided[0].metadata["actor"] == "timeout"
    assert result == Number(102 if by_default else 9)
    assert isinstance(answered, NotWaiting) == by_default


# ---- signals


class Gate(Step[Number, Number]):
    """Waits until two signals have come."""

    id = "gate"

    async def run(self, _: Number, context: StepContext) -> Number | Wait:
        sent = await context.received("open")
        return Number(sum(sent)) if len(sent) > 1 else Wait()


async def test_a_step_waits_for_signals_from_outside(desk: Desk) -> None:
    gated, client = flow("gated", Gate()), client_of(desk)
    flow_id = await submit(desk, gated, 1)
    await client.signal(flow_id, "gate", "other", 7)  # the step is known by the stored definition
    async with working(desk, [gated]):
        await until(desk, flow_id, lambda events: events[-1].variant == "W")
        await client.signal(flow_id, "gate", "open", 2, actor="Ada")
        await until(desk, flow_id, lambda events: [e.variant for e in events].count("W") == 2)
        await client.signal(flow_id, "gate", "open", 3)
        assert await client.result(gated, flow_id) == Number(5)
    signals = [e for e in await desk.store.list(flow_id) if isinstance(e.kind, StepSignal)]
    assert [each.metadata.get("actor") for each in signals] == [None, "Ada", None]


async def test_a_signal_to_a_step_that_is_not_there_is_refused(desk: Desk) -> None:
    gated, client = flow("gated", Gate()), client_of(desk)
    flow_id = await submit(desk, gated, 1)
    with pytest.raises(ValueError, match="has no step 'door'"):
        await client.signal(flow_id, "door", "open")
    with pytest.raises(InvalidPayload):
        await client.signal(flow_id, "gate", "chem_persistence.cancel")
    with pytest.raises(FlowNotFound):
        await client.signal(new_flow_id(), "gate", "open")
    assert await trace(desk, flow_id) == "I"

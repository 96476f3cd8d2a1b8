"""What a step prefers is stored with its success, on every store."""

from typing import Any

import msgspec
import pytest

from chem_persistence import (
    FlowEngine,
    InMemoryFlowRepository,
    InvalidPayload,
    MaxScore,
    ProcessStep,
    PropertyPreferenceAssigned,
    Step,
    StepContext,
    StepRaised,
    StoreUnavailable,
    Wait,
    flow,
    flow_page,
)
from chem_persistence.domain.selection.preference import read_rationale
from tests.support.faults.mortal_store import Life, MortalStore
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import Desk


class Pose(msgspec.Struct, frozen=True):
    name: str
    score: float


class Poses(msgspec.Struct):
    items: list[Pose]


class ChooseParams(msgspec.Struct, frozen=True):
    policy: MaxScore


POSES = Poses([Pose("a", 0.5), Pose("b", 0.75), Pose("c", 0.25)])


class Choose(Step[Poses, Pose]):
    id = "choose"
    params: ChooseParams = ChooseParams(MaxScore("score"))

    def __init__(self, then: list[Any] | None = None) -> None:
        self._then = then or []

    async def run(self, poses: Poses, context: StepContext) -> Pose | Wait:
        chosen = context.prefer(self.params.policy, poses.items)
        context.signal("chosen")
        match self._then.pop(0) if self._then else None:
            case Exception() as error:
                raise error
            case Wait() as wait:
                return wait
            case _:
                return chosen


class ChooseInProcess(ProcessStep[Poses, Pose]):
    id = "choose"
    params: ChooseParams = ChooseParams(MaxScore("score", lowest=True))

    def compute(self, poses: Poses, context: StepContext) -> Pose:
        with pytest.raises(InvalidPayload):
            context.prefer(MaxScore("score"), [{"score": 1.0, "x": float("nan")}])
        return context.prefer(self.params.policy, poses.items, "pose")


def engine(store: Any, step: Step[Poses, Pose]) -> FlowEngine[Poses]:
    return FlowEngine(store, InMemoryFlowRepository(store), flow("choice", step))


async def preferences(desk: Desk, flow_id: Any) -> list[PropertyPreferenceAssigned]:
    events = await desk.store.list(flow_id)
    return [e.kind for e in events if isinstance(e.kind, PropertyPreferenceAssigned)]


async def test_a_choice_comes_before_the_success_of_its_step(desk: Desk) -> None:
    runner = engine(desk.store, Choose())
    flow_id = await runner.run_to_end(input=POSES)
    assert await runner.event_trace() == ["I", "S", "G", "P", "F", "C"]
    (preference,) = await preferences(desk, flow_id)
    why = read_rationale(preference)
    assert why is not None
    assert (why.score, why.margin, why.count) == (0.75, 0.25, 3)
    artifact = await desk.store.get_artifact((await runner.load()).steps[0].outputs[0])
    assert artifact.hash == why.chosen
    page = await flow_page(desk.store, flow_id)
    assert f"Pose chosen: {why.chosen[:12]} of 3 candidates by chem_persistence.MaxScore" in page


async def test_an_attempt_that_does_not_succeed_stores_no_choice(desk: Desk) -> None:
    runner = engine(desk.store, Choose([ValueError("no"), Wait(), None]))
    flow_id = new_flow_id()
    with pytest.raises(StepRaised):
        await runner.run_to_end(flow_id, POSES)
    assert await preferences(desk, flow_id) == []
    await runner.schedule_retry(flow_id, reason="again")
    await runner.run_step(flow_id)
    assert await runner.event_trace(flow_id) == [*"ISGXRSGW"]


async def test_a_choice_in_another_process_is_stored_too(desk: Desk) -> None:
    runner = engine(desk.store, ChooseInProcess())
    flow_id = await runner.run_to_end(input=POSES)
    (preference,) = await preferences(desk, flow_id)
    assert preference.property_key == "pose"
    assert (await runner.event_trace())[-3:] == ["P", "F", "C"]


async def test_the_policy_is_hashed_where_it_is_a_parameter_and_the_choice_is_not(
    desk: Desk,
) -> None:
    runner = engine(desk.store, Choose())
    await runner.run_to_end(input=POSES)
    first = await runner.flow_fingerprint()
    await runner.run_to_end(input=Poses(POSES.items[::-1]))
    other = Choose()
    other.params = ChooseParams(MaxScore("score", lowest=True))
    lowest = engine(desk.store, other)
    await lowest.run_to_end(input=POSES)
    assert await lowest.flow_fingerprint() != first


async def test_a_death_at_any_call_leaves_one_choice_with_one_success(desk: Desk) -> None:
    for calls in range(1, 20):
        flow_id, life = new_flow_id(), Life(calls)
        try:
            await engine(MortalStore(desk.store, life), Choose()).run_to_end(flow_id, POSES)
        except StoreUnavailable:
            runner = engine(desk.store, Choose())
            if not (await runner.load(flow_id, missing_ok=True)).completed:
                await runner.run_to_end(flow_id, POSES)
        letters = "".join(await engine(desk.store, Choose()).event_trace(flow_id))
        assert letters.endswith("GPFC")
        assert letters.count("P") == letters.count("F") == 1
        if life.left:
            return
    pytest.fail("the flow has more calls than that")

"""Where two flows part, and because of what."""

from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from chem_persistence import (
    Artifact,
    FlowDefinition,
    FlowInitialized,
    FlowInstance,
    InMemoryEventStore,
    StepAnswer,
    StepDefinition,
    StepSlot,
    StepStatus,
    Tolerance,
)
from chem_persistence.views.compared_flows import (
    UNEXPLAINED,
    OutputDifference,
    compare_outputs,
    first_difference,
)
from tests.support.flows.flows import new_flow_id

NO_DEFINITIONS = (None, None)


def finished(step_id: str, fingerprint: str, *outputs: str, **more: Any) -> StepSlot:
    return StepSlot(
        step_id=step_id,
        status=StepStatus.FINISHED,
        fingerprint=fingerprint,
        outputs=outputs,
        **more,
    )


def ran(*steps: StepSlot, given: str | None = "i") -> FlowInstance:
    return FlowInstance(id=new_flow_id(), version=9, steps=steps, input=given)


BASE = ran(finished("a", "fa", "x"), finished("b", "fb", "y"))


def changed(index: int, **fields: Any) -> FlowInstance:
    steps = list(BASE.steps)
    steps[index] = replace(steps[index], **fields)
    return replace(BASE, steps=tuple(steps))


def test_equal_flows_part_nowhere() -> None:
    assert first_difference(BASE, replace(BASE, id=new_flow_id()), NO_DEFINITIONS) is None


@pytest.mark.parametrize(
    ("other", "step", "because"),
    [
        (replace(changed(0, fingerprint="other"), input="j"), 0, ("input",)),
        (changed(0, outputs=("z",)), 0, (UNEXPLAINED,)),
        (changed(1, outputs=("z",)), 1, (UNEXPLAINED,)),
        (changed(1, fingerprint="g", answer=StepAnswer({}, "h")), 1, ("answer",)),
    ],
)
def test_the_first_step_and_its_reason(
    other: FlowInstance, step: int, because: tuple[str, ...]
) -> None:
    found = first_difference(BASE, other, NO_DEFINITIONS)
    assert found is not None
    assert (found.step, found.because) == (step, because)


def test_what_differs_between_the_definitions_is_the_reason() -> None:
    old, new = (
        FlowDefinition((StepDefinition("a", params={"seed": seed}), StepDefinition("b")))
        for seed in (1, 2)
    )
    found = first_difference(BASE, changed(0, fingerprint="other"), (old, new))
    assert found is not None
    assert (found.step, found.step_id, found.because) == (0, "a", ("params.seed",))


def test_a_step_that_one_flow_has_not_finished_is_not_compared() -> None:
    begun = changed(1, status=StepStatus.RUNNING, fingerprint=None, outputs=())
    assert first_difference(BASE, begun, NO_DEFINITIONS) is None


async def test_outputs_are_compared_value_by_value() -> None:
    store = InMemoryEventStore()
    one = Artifact.from_payload(kind="value", payload={"e": 1.0, "n": "x"})
    two = Artifact.from_payload(kind="value", payload={"e": 1.1})
    blob = Artifact.from_content(kind="grid", content=b"1", media_type="x/y")
    await store.append_kinds(
        new_flow_id(), [FlowInitialized("0" * 64, 1, None)], artifacts=[one, two, blob]
    )
    left = ran(finished("a", "f", one.hash), finished("b", "f", blob.hash, one.hash))
    right = ran(finished("a", "f", two.hash), finished("b", "f", "0" * 64))
    assert await compare_outputs(store, left, right, Tolerance(relative=0.2)) == [
        OutputDifference(0, 0, "$.e", 1.0, 1.1, is_close=True),
        OutputDifference(0, 0, "$.n", "x", UNSET),
        OutputDifference(1, 0, None, None, None),
        OutputDifference(1, 1, None, None, None),
    ]
    assert await compare_outputs(store, left, left, Tolerance()) == []

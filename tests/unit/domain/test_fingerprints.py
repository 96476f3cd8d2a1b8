"""Fingerprints, computed here a second time from the contract's text, and pinned."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from msgspec.structs import replace

from chem_persistence import (
    FlowDefinition,
    FlowInstance,
    StepDefinition,
    StepError,
    StepSlot,
    StepStatus,
)
from chem_persistence.domain.fingerprints import flow_fingerprint, step_fingerprint
from chem_persistence.errors import FlowNotCompleted
from tests.support.flows.flows import DEFINITION

INPUTS = ["a" * 64, "b" * 64]


def independent_hash(value: Any) -> str:
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


def slot(index: int, **changes: Any) -> StepSlot:
    step = DEFINITION.steps[index]
    finished = StepSlot(
        step_id=step.id,
        status=StepStatus.FINISHED,
        fingerprint=step_fingerprint(step.definition_hash, INPUTS[:index]),
        outputs=(f"{index}" * 64,),
        attempts=1,
    )
    return replace(finished, **changes)


def instance(*slots: StepSlot, **changes: Any) -> FlowInstance:
    done = FlowInstance(
        id=UUID(int=1), version=8, steps=slots or (slot(0), slot(1), slot(2)), completed=True
    )
    return replace(done, **changes)


def test_a_steps_fingerprint_is_that_of_its_definition_and_inputs() -> None:
    step = "d" * 64
    assert step_fingerprint(step, INPUTS) == independent_hash(
        {"schema": 1, "step": step, "inputs": INPUTS}
    )
    assert step_fingerprint(step, []) == independent_hash({"schema": 1, "step": step, "inputs": []})


def test_the_order_of_inputs_changes_a_steps_fingerprint() -> None:
    assert step_fingerprint("d" * 64, INPUTS) != step_fingerprint("d" * 64, INPUTS[::-1])


@pytest.mark.parametrize(
    "inputs", [[], ["a" * 64], ["a" * 64, "b" * 64], [""], ['"'], ["\\"], ["ü"]]
)
@pytest.mark.parametrize("definition", ["d" * 64, "", "é", '","'])
def test_a_steps_fingerprint_is_that_of_its_canonical_json(
    definition: str, inputs: list[str]
) -> None:
    expected = independent_hash({"schema": 1, "step": definition, "inputs": inputs})
    assert step_fingerprint(definition, inputs) == expected


def test_inputs_may_be_any_sequence() -> None:
    assert step_fingerprint("d" * 64, tuple(INPUTS)) == step_fingerprint("d" * 64, INPUTS)


def test_a_flows_fingerprint_is_that_of_its_definition_and_its_steps_fingerprints_and_outputs() -> (
    None
):
    flow = instance()
    assert flow_fingerprint(DEFINITION.definition_hash, flow) == independent_hash(
        {
            "schema": 1,
            "definition": DEFINITION.definition_hash,
            "steps": [
                {"fingerprint": s.fingerprint, "outputs": list(s.outputs)} for s in flow.steps
            ],
        }
    )


@pytest.mark.parametrize("definition", ["d" * 64, "", '"'])
@pytest.mark.parametrize(
    "change",
    [
        {"outputs": ()},
        {"outputs": ("a" * 64, "b" * 64)},
        {"outputs": ("\\",)},
        {"outputs": ("",)},
        {"fingerprint": "é"},
        {"fingerprint": '","'},
        {"fingerprint": ""},
        {"fingerprint": None},
    ],
)
def test_a_flows_fingerprint_is_that_of_its_canonical_json(
    definition: str, change: dict[str, Any]
) -> None:
    flow = instance(slot(0), slot(1, **change))
    expected = independent_hash(
        {
            "schema": 1,
            "definition": definition,
            "steps": [
                {"fingerprint": each.fingerprint, "outputs": list(each.outputs)}
                for each in flow.steps
            ],
        }
    )
    assert flow_fingerprint(definition, flow) == expected


@pytest.mark.parametrize(
    "change", [{"fingerprint": "0" * 64}, {"outputs": ()}, {"outputs": ("9" * 64,)}]
)
def test_a_steps_fingerprint_and_outputs_change_the_flows(change: dict[str, Any]) -> None:
    changed = instance(slot(0), slot(1, **change), slot(2))
    assert flow_fingerprint("d" * 64, changed) != flow_fingerprint("d" * 64, instance())


def test_the_definition_and_the_order_of_steps_change_the_flows() -> None:
    swapped = instance(slot(1), slot(0), slot(2))
    assert flow_fingerprint("d" * 64, swapped) != flow_fingerprint("d" * 64, instance())
    assert flow_fingerprint("c" * 64, instance()) != flow_fingerprint("d" * 64, instance())


def test_times_ids_attempts_and_errors_are_never_hashed() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    other = instance(
        slot(0, started_at=now, finished_at=now + timedelta(days=1)),
        slot(1, attempts=7, retry_count=6),
        slot(2, error=StepError("ValueError", "once")),
        id=UUID(int=2),
        version=99,
        completed=False,
    )
    assert flow_fingerprint("d" * 64, other) == flow_fingerprint("d" * 64, instance())


@pytest.mark.parametrize(
    "status", [status for status in StepStatus if status is not StepStatus.FINISHED]
)
def test_a_flow_with_an_unfinished_step_has_no_fingerprint(status: StepStatus) -> None:
    flow = instance(slot(0), slot(1, status=status), slot(2))
    with pytest.raises(FlowNotCompleted) as caught:
        flow_fingerprint("d" * 64, flow)
    assert caught.value.flow_id == flow.id


def test_known_fingerprints_are_pinned() -> None:
    """A change here changes every stored fingerprint: results would no longer be found again."""
    definition = FlowDefinition((StepDefinition("only", params={"cutoff": 6.02214076e23}),))
    step = step_fingerprint(definition.steps[0].definition_hash, INPUTS)
    only = StepSlot(
        step_id="only", status=StepStatus.FINISHED, fingerprint=step, outputs=("c" * 64,)
    )
    assert (
        definition.steps[0].definition_hash
        == "792e013678025d4a3a38700abd4c51bc28ff16e4c8fcdb2ad72f24c5cc070247"
    )
    assert (
        definition.definition_hash
        == "a049d6cc17e70a2164e0b3fe94e3ca56596859c15ccba9b6ff2617119bdfb6af"
    )
    assert step == "f2acfd4e481fed3d7b38af6dcf524f62f126a2cb2f4ed3ac09d57756460cea8a"
    assert (
        flow_fingerprint(definition.definition_hash, instance(only))
        == "29b06b9dae4787262bcd0c1067379bef2fe78419940ddff007fb90f70fbb32f8"
    )

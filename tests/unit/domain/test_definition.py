"""A definition's hash, computed here a second time from the contract's text."""

import hashlib
from typing import Any

import msgspec
import pytest
import rfc8785

from chem_persistence import (
    FlowDefinition,
    InvalidDefinition,
    InvalidPayload,
    StepDefinition,
    StepKind,
)
from chem_persistence.domain.definition import (
    assembled_definition,
    definition_artifacts,
    definition_differences,
    described_definition,
    listed_steps,
)
from tests.support.flows.flows import DEFINITION
from tests.support.flows.json_values import REFUSED


class Params(msgspec.Struct):
    force_field: str
    cutoff: float


def independent_hash(value: Any) -> str:
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


@pytest.mark.parametrize("params", [None, {"cutoff": 1e16, "a": [1, -0.0]}, [], "x", 6.02214076e23])
@pytest.mark.parametrize("kind", StepKind)
def test_a_steps_hash_is_that_of_its_id_kind_version_and_params(
    kind: StepKind, params: object
) -> None:
    step = StepDefinition("compute", kind, "2", params)
    assert step.definition_hash == independent_hash(
        {"id": "compute", "kind": kind.value, "version": "2", "params": params}
    )


def test_a_flows_hash_is_that_of_its_steps_hashes_in_order() -> None:
    steps = [StepDefinition(name) for name in "abc"]
    expected = independent_hash({"steps": [step.definition_hash for step in steps]})
    assert FlowDefinition(tuple(steps)).definition_hash == expected
    assert FlowDefinition(tuple(reversed(steps))).definition_hash != expected


@pytest.mark.parametrize(
    "other",
    [
        StepDefinition("other", StepKind.SINK, "1", {"a": 1}),
        StepDefinition("report", StepKind.SOURCE, "1", {"a": 1}),
        StepDefinition("report", StepKind.SINK, "2", {"a": 1}),
        StepDefinition("report", StepKind.SINK, "1", {"a": 2}),
        StepDefinition("report", StepKind.SINK, "1", {"a": "1"}),
        StepDefinition("report", StepKind.SINK, "1", {"a": True}),
        StepDefinition("report", StepKind.SINK, "1"),
    ],
)
def test_id_kind_version_and_params_each_change_the_hash(other: StepDefinition) -> None:
    step = StepDefinition("report", StepKind.SINK, "1", {"a": 1})
    assert step.definition_hash != other.definition_hash
    assert FlowDefinition((step,)).definition_hash != FlowDefinition((other,)).definition_hash


def test_the_order_of_keys_and_the_writing_of_numbers_do_not_change_the_hash() -> None:
    one = StepDefinition("a", params={"x": 1, "y": {"p": 1.0, "q": 1e2}})
    other = StepDefinition("a", params={"y": {"q": 100, "p": 1}, "x": 1.0})
    assert one.definition_hash == other.definition_hash
    assert one == other


def test_params_as_a_struct_hash_like_the_same_object() -> None:
    struct = StepDefinition("a", params=Params("MMFF94", 1e16))
    plain = StepDefinition("a", params={"cutoff": 1e16, "force_field": "MMFF94"})
    assert struct == plain


def test_params_do_not_change_with_the_object_they_were_made_from() -> None:
    params = {"a": [1]}
    step = StepDefinition("a", params=params)
    params["a"].append(2)
    assert step.params == {"a": [1]}


def test_a_hash_given_by_the_caller_is_not_believed() -> None:
    assert StepDefinition("a", definition_hash="0" * 64) == StepDefinition("a")
    step = StepDefinition("a")
    assert FlowDefinition((step,), "0" * 64) == FlowDefinition((step,))


def test_steps_may_come_as_a_list() -> None:
    assert FlowDefinition([StepDefinition("a")]).steps == (StepDefinition("a"),)  # type: ignore[arg-type]


def test_a_flow_without_steps_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="at least one step"):
        FlowDefinition(())


def test_two_steps_with_one_id_are_refused() -> None:
    with pytest.raises(InvalidDefinition, match="'b'"):
        FlowDefinition(tuple(map(StepDefinition, "abcb")))


def test_a_step_without_an_id_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="empty"):
        StepDefinition("")


@pytest.mark.parametrize(("value", "path"), REFUSED.values(), ids=REFUSED)
def test_params_that_are_not_i_json_are_refused(value: object, path: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        StepDefinition("a", params=value)
    assert caught.value.path == "$" + path


def test_an_id_that_is_not_i_json_is_refused() -> None:
    with pytest.raises(InvalidPayload) as caught:
        StepDefinition("a\0")
    assert caught.value.path == "$.id"


def test_the_hashes_of_a_known_definition_are_pinned() -> None:
    """A change here changes every stored fingerprint: old flows would no longer load."""
    assert [step.definition_hash for step in DEFINITION.steps] == [
        "ad203327403e0e327dfc9ea3cb108ee3be24dde1f696f73f47b7dd3a73d0cfa4",
        "c76566d516403a85476c3b88f1a112efa90ce87ca2f1befd5abf2900fda50ec2",
        "83c436e9f7cf60986b80a70c623d4ce02c6855673acc49f9befb044eaf2b7d4d",
    ]
    assert (
        DEFINITION.definition_hash
        == "3383f1369045f85af52d81e3a0065ab33cdb6f91caf56119cfd852d60efd04bc"
    )


def definition(*steps: StepDefinition) -> FlowDefinition:
    return FlowDefinition(steps)


EMBED = StepDefinition("embed")


def optimise(version: str = "1", **params: object) -> StepDefinition:
    return StepDefinition("optimise", StepKind.TRANSFORM, version, params)


@pytest.mark.parametrize(
    ("later", "differences"),
    [
        (definition(EMBED, optimise(method="gfn1", settings={"cycles": 20})), []),
        (
            definition(EMBED, optimise(method="gfn2", settings={"cycles": 20})),
            ["""step 'optimise': params.method was "gfn1", and is "gfn2\""""],
        ),
        (
            definition(EMBED, optimise(method="gfn1", settings={"cycles": 30})),
            ["step 'optimise': params.settings.cycles was 20, and is 30"],
        ),
        (
            definition(EMBED, optimise(method="gfn1", settings=None)),
            ["""step 'optimise': params.settings was {"cycles":20}, and is null"""],
        ),
        (
            definition(EMBED, optimise("2", method=True)),
            [
                """step 'optimise': version was "1", and is "2\"""",
                """step 'optimise': params.method was "gfn1", and is true""",
                """step 'optimise': params.settings was {"cycles":20}, and is absent""",
            ],
        ),
        (
            definition(
                StepDefinition("embed", StepKind.SOURCE),
                optimise(method="gfn1", settings={"cycles": 20}, charge=1),
            ),
            [
                """step 'embed': kind was "transform", and is "source\"""",
                "step 'optimise': params.charge was absent, and is 1",
            ],
        ),
        (
            definition(StepDefinition("read"), EMBED),
            ["step 'optimise' was removed", "step 'read' was added"],
        ),
        (
            definition(optimise(method="gfn1", settings={"cycles": 20}), EMBED),
            ["""the order of the steps was ["embed","optimise"], and is ["optimise","embed"]"""],
        ),
    ],
)
def test_definitions_are_compared_in_words(later: FlowDefinition, differences: list[str]) -> None:
    earlier = definition(EMBED, optimise(method="gfn1", settings={"cycles": 20}))
    assert [str(each) for each in definition_differences(earlier, later)] == differences


def test_a_long_parameter_is_shortened() -> None:
    (difference,) = definition_differences(
        definition(optimise(text="x" * 1_000)), definition(optimise(text="y"))
    )
    assert difference.left is not None
    assert len(difference.left) == 200
    assert difference.left.endswith("...")


@pytest.mark.parametrize("params", [None, {"cutoff": 1e16, "a": [1, -0.0, 1e300]}, [1.5], "ä"])
def test_the_artifacts_of_a_definition_have_its_hashes_and_describe_it(params: object) -> None:
    steps = (StepDefinition("compute", params=params), StepDefinition("report"))
    made = FlowDefinition(steps)
    own, *others = definition_artifacts(made)
    assert own.hash == made.definition_hash
    assert [other.hash for other in others] == [step.definition_hash for step in steps]
    assert described_definition(own.hash, own.metadata) == made
    by_hash = {other.hash: other for other in others}
    assert listed_steps(own) == [step.definition_hash for step in steps]
    assert assembled_definition(own, by_hash) == made
    assert assembled_definition(own, {}) is None
    assert assembled_definition(others[0], by_hash) is None
    assert described_definition(others[0].hash, own.metadata) is None
    assert described_definition(own.hash, {}) is None

"""A recorded flow has the definition that is stored, whatever its parameters are."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chem_persistence import FlowDefinition, FlowInitialized, InMemoryEventStore, InvalidArgument
from chem_persistence.domain.definition import StepDefinition, definition_artifacts
from chem_persistence.engine.parameters.recorded import recorded_flow
from chem_persistence.errors import FlowNotFound
from tests.support.flows.flows import new_flow_id
from tests.support.flows.json_values import I_JSON

NAMES = st.sampled_from(["iterations", "class", "max-force", "self", "_x", "é"])
PARAMS = st.one_of(
    st.none(),
    I_JSON,
    st.dictionaries(NAMES, st.one_of(I_JSON, st.dictionaries(NAMES, I_JSON))),
)


async def recorded(store: InMemoryEventStore, *params: Any) -> Any:
    """Store a flow whose steps have these parameters, and return it as it is recorded."""
    steps = tuple(StepDefinition(f"step {i}", params=each) for i, each in enumerate(params))
    definition, flow_id = FlowDefinition(steps), new_flow_id()
    await store.append_kind(
        flow_id,
        FlowInitialized(definition.definition_hash, len(steps)),
        artifacts=definition_artifacts(definition),
    )
    return definition, await recorded_flow(store, flow_id)


@settings(max_examples=30)
@given(PARAMS, PARAMS)
async def test_its_definition_is_the_stored_one(one: Any, other: Any) -> None:
    definition, flow = await recorded(InMemoryEventStore(), one, other)
    assert flow.definition == definition


async def test_a_parameter_within_another_is_set() -> None:
    params = {"spring": {"rest": 1.0, "kind": None}, "iterations": 3, "names": {"max-force": 1}}
    _, flow = await recorded(InMemoryEventStore(), params)
    changed = flow.with_params({"step 0": {"spring": {"rest": 0.5, "kind": "soft"}}})
    expected = {**params, "spring": {"rest": 0.5, "kind": "soft"}}
    assert changed.definition.steps[0].params == expected
    assert changed.parameter_layers == {
        "step 0.spring.rest": "flow",
        "step 0.spring.kind": "flow",
    }
    with pytest.raises(InvalidArgument, match="has no parameters"):
        (await recorded(InMemoryEventStore(), {"max-force": 1}))[1].with_params(
            {"step 0": {"max-force": 2}}
        )


async def test_a_flow_whose_definition_is_not_stored_is_refused() -> None:
    store, flow_id = InMemoryEventStore(), new_flow_id()
    with pytest.raises(FlowNotFound):
        await recorded_flow(store, flow_id)
    await store.append_kind(flow_id, FlowInitialized("0" * 64, 1))
    with pytest.raises(InvalidArgument, match="is not stored"):
        await recorded_flow(store, flow_id)

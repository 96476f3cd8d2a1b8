"""Lists of flows: each way to make a page gives the flows that fit, the newest first."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chem_persistence import (
    FlowCancelled,
    FlowDefinition,
    FlowEventKind,
    FlowInitialized,
    FlowState,
    FlowSummary,
    PgEventStore,
    PgReadModels,
    PoolProvider,
    StepDefinition,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepStatus,
)
from chem_persistence.domain.definition import MOST_METADATA, definition_artifacts
from chem_persistence.domain.events import FlowParent
from chem_persistence.postgres import flow_lists
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.search import find_definitions
from tests.postgres.read.models.test_read_models import BEGIN, HISTORIES, F, SetClock
from tests.support.flows.flows import initialized, new_flow_id

OTHER = "d" * 64
BEGUN = BEGIN + timedelta(seconds=25)
RARE = StepError("laboratory.Rare", "once")

STEPS = ("acquire", "compute", "report")
DEFINITIONS = {
    "two steps": FlowDefinition((StepDefinition("acquire"), StepDefinition("compute"))),
    "two others": FlowDefinition((StepDefinition("acquire"), StepDefinition("report"))),
    "large": FlowDefinition((StepDefinition("compute", params="c" * MOST_METADATA),)),
    "not stored": FlowDefinition((StepDefinition("report", version="2"),)),
}

NEVER_MORE = {"LOOKED_AT": 1, "MORE_THAN_EXPECTED": 10**6}
WAYS: Mapping[str, Mapping[str, int]] = {
    "the newest are looked at": {},
    "more of them are looked at": {"LOOKED_AT": 1, "MORE_THAN_EXPECTED": 1},
    "by what the fewest have": NEVER_MORE,
    "by a label that many have": {**NEVER_MORE, "MOST_COUNTED": 1},
    "all are looked at": {**NEVER_MORE, "MOST_CANDIDATES": 1},
}
FILTERS: list[dict[str, Any]] = [
    *(
        {"state": state, **more}
        for state in FlowState
        for more in (
            {},
            {"label": "batch 1"},
            {"definition_hash": OTHER},
            {"roots": True, "since": BEGUN},
        )
    ),
    {"label": "batch"},
    {"label": "batch 1", "roots": True},
    {"definition_hash": OTHER},
    {"definition_hash": OTHER, "roots": True},
    {"since": BEGUN},
    {"step": "compute"},
    {"step": "acquire", "state": "cancelled"},
    {"step": "acquire", "label": "batch 1"},
    {"step": "no such"},
    {"error": "Rare"},
    {"error": "laboratory.Rare", "step": "acquire"},
    {"error": "ValueError"},
    {"error": "are"},
]


def fits(flow: FlowSummary, **wanted: Any) -> bool:
    """Tell whether a flow fits a filter; the flows of the histories run one step at a time."""
    error = "" if flow.failure is None else flow.failure.error_class
    told = {
        "state": wanted.get("state") in {None, flow.state},
        "label": (flow.label or "").startswith(wanted.get("label", "")),
        "definition_hash": wanted.get("definition_hash") in {None, flow.definition_hash},
        "roots": flow.parent is None,
        "since": flow.started_at >= wanted.get("since", BEGIN),
        "step": wanted.get("step") in {None, flow.current_step},
        "error": wanted.get("error") in {error, error.rpartition(".")[2]},
    }
    return all(told[name] for name in wanted)


async def append_flows(provider: PoolProvider) -> None:
    """Append flows of all states, a second apart: by hand, given to workers, and as children."""
    clock = SetClock()
    store = PgEventStore(provider, clock=clock)
    parent = FlowParent(new_flow_id(), 0, 0)
    by_hand = initialized()
    given = replace(initialized(), due=BEGIN, label="batch 1")
    child = replace(given, parent=parent, definition_hash=OTHER, label=None)
    begins = [by_hand, given, replace(child, label="batch 10"), replace(given, label="batch 2")]
    rare: list[FlowEventKind] = [StepStarted(0, "acquire"), StepFailed(0, "acquire", RARE, F)]
    for history in [rare, *(history for history, _ in HISTORIES.values())]:
        for begin in begins:
            clock.time += timedelta(seconds=1)
            await store.append_kinds(new_flow_id(), [begin, *history], expected_version=0)
    await store.aclose()


@pytest.mark.parametrize("way", WAYS)
async def test_a_list_has_the_flows_that_fit_however_it_is_made(
    provider: PoolProvider, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    await append_flows(provider)
    models = PgReadModels(provider)
    everything = await models.flows(limit=1_000)
    for name, value in WAYS[way].items():
        monkeypatch.setattr(flow_lists, name, value)
    for wanted in FILTERS:
        expected = [flow for flow in everything if fits(flow, **wanted)]
        assert await models.flows(limit=1_000, **wanted) == expected, wanted
        listed: list[FlowSummary] = []
        while page := await models.flows(before=listed[-1] if listed else None, limit=7, **wanted):
            listed += page
        assert listed == expected, wanted


async def test_definitions_are_found_by_their_beginning_however_many_flows_they_have(
    provider: PoolProvider,
) -> None:
    store = PgEventStore(provider)
    hashes = [f"{number % 4:x}{number:063x}" for number in range(9)]
    for definition in [*hashes, *hashes[:3]]:
        await store.append_kind(new_flow_id(), FlowInitialized(definition, 1))
    await store.append_kind(new_flow_id(), StepSignal(0, "acquire", "a flow without a definition"))
    found = {digit: await find_definitions(provider, digit, most=9) for digit in "0123f"}
    ordered = sorted(hashes)
    assert found == {digit: [one for one in ordered if one[0] == digit] for digit in found}
    assert await find_definitions(provider, "0", most=2) == ordered[:2]
    await store.aclose()


FLOWS = st.tuples(
    st.sampled_from(sorted(DEFINITIONS)),
    st.integers(0, 4),  # how many events its steps have
    st.sampled_from(["by hand", "for workers", "cancelled"]),
)


@settings(
    deadline=None,
    derandomize=True,
    max_examples=12,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(flows=st.lists(FLOWS, min_size=3, max_size=6))
async def test_a_step_is_found_among_the_definitions_that_have_it(
    provider: PoolProvider, flows: list[tuple[str, int, str]]
) -> None:
    """The log grows from example to example; each flow's step rows say whether it fits."""
    store, models = PgEventStore(provider), PgReadModels(provider)
    for name, events, how in flows:
        definition = DEFINITIONS[name]
        begin = initialized(definition)
        kinds: list[FlowEventKind] = [begin if how == "by hand" else replace(begin, due=BEGIN)]
        for index, each in enumerate(definition.steps):
            kinds += [StepStarted(index, each.id), StepFinished(index, each.id, (), F)]
        kinds = [*kinds[: 1 + events], *([FlowCancelled("enough")] if how == "cancelled" else [])]
        artifacts = () if name == "not stored" else definition_artifacts(definition)
        await store.append_kinds(new_flow_id(), kinds, artifacts=artifacts)
    everything = await models.flows(limit=1_000)
    rows = {flow.flow_id: await models.step_executions(flow.flow_id) for flow in everything}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in NEVER_MORE.items():
            patch.setattr(flow_lists, name, value)
        for step in STEPS:
            expected = [
                flow
                for flow in everything
                if any(
                    row.step_id == step and row.status is not StepStatus.FINISHED
                    for row in rows[flow.flow_id]
                )
            ]
            assert await models.flows(limit=1_000, step=step) == expected
    await store.aclose()


async def test_a_definition_without_the_step_is_left_out(provider: PoolProvider) -> None:
    store, session = PgEventStore(provider), Session(provider)
    for name, definition in DEFINITIONS.items():
        begin = replace(initialized(definition), due=BEGIN)
        artifacts = () if name == "not stored" else definition_artifacts(definition)
        await store.append_kinds(new_flow_id(), [begin], artifacts=artifacts)
    names = {definition.definition_hash: name for name, definition in DEFINITIONS.items()}
    having = {}
    for step in (*STEPS, "no such step"):
        wanted = flow_lists.FlowFilter(None, None, None, 50, False, None, None, step, None, None)
        found = await flow_lists._definitions_with_step(session, wanted)
        having[step] = {names[each] for each in found or ()}
    unknown = {"large", "not stored"}
    assert having == {
        "acquire": {"two steps", "two others"} | unknown,
        "compute": {"two steps"} | unknown,
        "report": {"two others"} | unknown,
        "no such step": unknown,
    }
    await store.aclose()

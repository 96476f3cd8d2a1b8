"""Which appends submit a flow, so that workers get a hint."""

from datetime import UTC, datetime, timedelta

import pytest

from chem_persistence import (
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    StepSignal,
    StepStarted,
)
from chem_persistence.store.append_request import AppendCall, append_request
from chem_persistence.store.checks import MAX_ARTIFACT_BYTES
from chem_persistence.store.leasing.hints import hinted_definitions
from tests.support.flows.flows import new_flow_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
HASH = "ab" * 32


@pytest.mark.parametrize(
    ("kinds", "definitions"),
    [
        ([FlowInitialized(HASH, 1, due=NOW)], {HASH}),
        ([FlowInitialized(HASH, 1, due=LATER)], {HASH}),
        ([FlowInitialized(HASH, 1)], set()),
        ([FlowInitialized(HASH, 1, due=NOW), StepStarted(0, "act")], set()),
        ([StepSignal(0, "act", "hello")], set()),
        ([FlowCompleted("f" * 64)], set()),
    ],
)
def test_a_submission_tells_workers(kinds: list[FlowEventKind], definitions: set[str]) -> None:
    call = AppendCall(new_flow_id(), kinds)
    request = append_request(call, ts=NOW, max_artifact_bytes=MAX_ARTIFACT_BYTES)
    assert hinted_definitions([request]) == definitions

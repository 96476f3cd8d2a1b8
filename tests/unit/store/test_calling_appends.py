"""Which appends make a flow due at once, so that workers are told."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from chem_persistence import (
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    RetryScheduled,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
)
from chem_persistence.store.append_request import AppendCall, append_request
from chem_persistence.store.checks import MAX_ARTIFACT_BYTES
from chem_persistence.store.leasing.hints import ANY_DEFINITION, hinted_definitions
from tests.support.flows.flows import new_flow_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
HASH = "ab" * 32


def hinted(*kinds: FlowEventKind, lease: UUID | None = None) -> set[str]:
    call = AppendCall(new_flow_id(), kinds, lease=lease)
    request = append_request(call, ts=NOW, max_artifact_bytes=MAX_ARTIFACT_BYTES)
    return hinted_definitions([request])


@pytest.mark.parametrize(
    ("kind", "definitions"),
    [
        (FlowInitialized(HASH, 1, due=NOW), {HASH}),
        (FlowInitialized(HASH, 1, due=LATER), set()),
        (FlowInitialized(HASH, 1), set()),
        (RetryScheduled("act", 1, "mended"), {ANY_DEFINITION}),
        (RetryScheduled("act", 1, "mended", not_before=NOW), {ANY_DEFINITION}),
        (RetryScheduled("act", 1, "mended", not_before=LATER), set()),
        (StepSignal(0, "act", "hello"), {ANY_DEFINITION}),
        (UserInteractionProvided(0, "act", "yes"), {ANY_DEFINITION}),
        (StepWaits(0, "act", LATER), set()),
        (FlowCompleted("f" * 64), set()),
    ],
)
def test_an_append_tells_workers_if_it_makes_the_flow_due(
    kind: FlowEventKind, definitions: set[str]
) -> None:
    assert hinted(kind) == definitions


def test_the_holder_of_a_flow_tells_nobody() -> None:
    assert hinted(StepSignal(0, "act", "hello"), lease=uuid4()) == set()


def test_a_flow_that_begins_here_is_not_due() -> None:
    assert hinted(FlowInitialized(HASH, 1, due=NOW), StepStarted(0, "act")) == set()

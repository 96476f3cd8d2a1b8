"""Events in words, with what their added fields say."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from chem_persistence import (
    FlowCancelled,
    FlowEventKind,
    FlowInitialized,
    MaxScore,
    PropertyPreferenceAssigned,
    ResultOrigin,
    RetryScheduled,
    StepFinished,
    StepWaits,
    UserInteractionRequested,
    content_hash,
)
from chem_persistence.domain.selection.preference import choose
from chem_persistence.views.event_line import event_line

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT_NOON = "2026-01-01 12:00:00 UTC"
CHOICE = choose(MaxScore("score"), [{"score": 1.5}, {"score": 1.0}], "pose")[1]
CHOSEN = (
    f"{content_hash({'score': 1.5})[:12]} of 2 candidates by chem_persistence.MaxScore: score 1.5, "
    "0.5 above the next"
)
ORIGIN = ResultOrigin(UUID(int=7), 3)


@pytest.mark.parametrize(
    ("kind", "sentence", "detail"),
    [
        (StepWaits(0, "dock", NOON), f"dock waits until {AT_NOON}", f"until {AT_NOON}"),
        (StepWaits(0, "dock", None, {"job": 7}), "dock waits", '{"job":7}'),
        (FlowCancelled("too late"), "cancelled: too late", "too late"),
        (
            PropertyPreferenceAssigned("pose", "lab.Best", "0" * 64, {"because": "asked"}),
            "property pose by policy lab.Best",
            "pose by lab.Best",
        ),
        (CHOICE, f"pose chosen: {CHOSEN}", f"pose {CHOSEN}"),
        (
            RetryScheduled("dock", 1, "again", NOON),
            f"dock is retried (1) after {AT_NOON}: again",
            f"retry 1 after {AT_NOON}: again",
        ),
        (RetryScheduled("dock", 1, "again"), "dock is retried (1): again", "retry 1: again"),
        (
            UserInteractionRequested(0, "dock", None, "which?", NOON),
            f"dock asks a person until {AT_NOON}: which?",
            "which?",
        ),
        (
            StepFinished(0, "dock", ("a" * 64,), "f", ORIGIN),
            f"dock finished: aaaaaaaaaaaa, taken over from {UUID(int=7)}",
            f"1 artifact, taken over from {UUID(int=7)}",
        ),
        (
            FlowInitialized("d" * 64, 2, label="aspirin"),
            "initialized: 2 steps, definition dddddddddddd, aspirin",
            "2 steps, definition dddddddddd…, aspirin",
        ),
    ],
)
def test_an_event_in_words_has_its_time_its_origin_and_its_label(
    kind: FlowEventKind, sentence: str, detail: str
) -> None:
    line = event_line(kind)
    assert (line.sentence, line.detail) == (sentence, detail)

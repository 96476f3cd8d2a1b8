"""The histories that the flows of a grown log have, as templates of their stored rows.

A template has marks where flows differ: `@label@`, `@in@` and `@out@` (the hashes of the input,
which all steps but the last hand on, and of the last output), `@f@` (62 digits of fingerprints,
which end with two digits of the template), `@parent@`, and `ITEM`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chem_persistence import (
    FlowCancelled,
    FlowCompleted,
    FlowDefinition,
    FlowEventKind,
    FlowInitialized,
    RetryScheduled,
    StepDefinition,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionRequested,
    canonical_json,
)
from chem_persistence.domain.events import FlowParent, StepError, event_type
from chem_persistence.domain.step_rows import execution_changes

__all__ = ["CHILD", "DEFINITIONS", "GATHERED", "ITEM", "RARE", "SHAPES", "WEIGHTS", "Shape"]

ITEM = 9_007_199_254_740_991
"""The item of a child in a template."""

_START = datetime(2000, 1, 1, tzinfo=UTC)
_LATER = datetime(2999, 1, 1, tzinfo=UTC)
_PARENT_ID = "@parent@"


@dataclass(frozen=True)
class Shape:
    """A history: its events as types and payloads, and the step rows that they make.

    A row has the versions at which its step was last started and finished, for the times.
    """

    name: str
    events: Sequence[tuple[str, str]]
    steps: Sequence[tuple[int, str, str, int, int, str | None, int | None, int | None, str | None]]


def _definition(*step_ids: str) -> FlowDefinition:
    return FlowDefinition(tuple(StepDefinition(id=step_id) for step_id in step_ids))


SCREENING = _definition("acquire_molecules", "standardise", "embed_conformers", "screen")
CONFORMERS = _definition("read_molecule", "embed", "optimise")
MAP = _definition("split", "judge_all")
JUDGEMENT = _definition("prepare", "judge")
RARE_DEFINITION = _definition("prepare_rarely", "rare_step")
DEFINITIONS = (SCREENING, CONFORMERS, MAP, JUDGEMENT, RARE_DEFINITION)


def _begun(definition: FlowDefinition, *, is_child: bool = False) -> FlowInitialized:
    begun = FlowInitialized(
        definition.definition_hash,
        len(definition.steps),
        "@in@",
        due=_START,
        name="screening" if definition is SCREENING else "conformers",
        label="@label@",
    )
    if not is_child:
        return begun
    parent = FlowParent(flow_id=_PARENT_ID, step_index=1, item=ITEM)  # type: ignore[arg-type]
    return FlowInitialized(
        definition.definition_hash, len(definition.steps), "@in@", due=_START, parent=parent
    )


def _steps(definition: FlowDefinition, first: int, end: int) -> Iterator[FlowEventKind]:
    for index in range(first, end):
        step_id = definition.steps[index].id
        output = "@out@" if index == len(definition.steps) - 1 else "@in@"
        yield StepStarted(index, step_id)
        yield StepFinished(index, step_id, (output,), f"@f@{index:02}")


def _failure(definition: FlowDefinition, index: int, error: str) -> Iterator[FlowEventKind]:
    step_id = definition.steps[index].id
    raised = StepError(error, "@label@ has no such conformer", "Traceback: ...")
    yield StepStarted(index, step_id)
    yield StepFailed(index, step_id, raised, f"@f@{index:02}")


def _done(definition: FlowDefinition, *between: FlowEventKind) -> tuple[FlowEventKind, ...]:
    """Return a completed flow, with some facts before its last step."""
    last = len(definition.steps) - 1
    return (
        _begun(definition),
        *_steps(definition, 0, last),
        *between,
        *_steps(definition, last, last + 1),
        FlowCompleted("@f@ff"),
    )


def _failed(
    definition: FlowDefinition, index: int, error: str, *more: FlowEventKind
) -> tuple[FlowEventKind, ...]:
    """Return a flow of which a step fails, and what follows."""
    before = _steps(definition, 0, index)
    return (_begun(definition), *before, *_failure(definition, index, error), *more)


def _at(definition: FlowDefinition, index: int, *more: FlowEventKind) -> tuple[FlowEventKind, ...]:
    """Return a flow that has started a step, and what follows."""
    started = StepStarted(index, definition.steps[index].id)
    return (_begun(definition), *_steps(definition, 0, index), started, *more)


_PROGRESS = StepSignal(2, "embed_conformers", "progress", {"conformers": 20, "energy": -76.5})
_OPTIMISED = StepSignal(1, "embed", "progress", {"cycle": 7})
_RETRY = RetryScheduled("embed_conformers", 1, "the server was away")
_CHILDREN = StepWaits(1, "judge_all", None, {"children": 100})

_CHILD = (
    _begun(JUDGEMENT, is_child=True),
    *_steps(JUDGEMENT, 0, 2),
    FlowCompleted("@f@ff"),
)
_FAILED_CHILD = (_CHILD[0], *_failure(JUDGEMENT, 0, "chem.JudgementError"))

_HISTORIES: dict[str, tuple[int, tuple[FlowEventKind, ...]]] = {
    "map": (1, (*_at(MAP, 1, _CHILDREN, *_steps(MAP, 1, 2)), FlowCompleted("@f@ff"))),
    "child": (97, _CHILD),
    "failed child": (3, _FAILED_CHILD),
    "screened": (629, _done(SCREENING, _PROGRESS)),
    "conformers": (150, _done(CONFORMERS, _OPTIMISED, _OPTIMISED)),
    "retried": (
        60,
        (
            *_failed(SCREENING, 2, "builtins.ConnectionError", _RETRY),
            *_steps(SCREENING, 2, 4),
            FlowCompleted("@f@ff"),
        ),
    ),
    "failed to embed": (25, _failed(SCREENING, 2, "builtins.ValueError")),
    "failed to optimise": (5, _failed(CONFORMERS, 2, "builtins.TimeoutError")),
    "cancelled": (10, (*_at(SCREENING, 1), FlowCancelled("nobody needs it"))),
    "waiting": (6, _at(SCREENING, 3, StepWaits(3, "screen", _LATER, {"job": "17"}))),
    "awaiting": (
        4,
        _at(CONFORMERS, 1, UserInteractionRequested(1, "embed", {"type": "boolean"}, "go on?")),
    ),
    "running": (5, _at(SCREENING, 2)),
    "pending": (3, (_begun(SCREENING),)),
    "retry scheduled": (2, _failed(SCREENING, 2, "builtins.ConnectionError", _RETRY)),
    "rare failure": (0, _failed(RARE_DEFINITION, 1, "chem.RareError")),
    "gathered": (0, (*_at(MAP, 1, StepWaits(1, "judge_all", None, {"children": 10_000})),)),
}

CHILD, RARE, GATHERED = (list(_HISTORIES).index(n) for n in ("child", "rare failure", "gathered"))

WEIGHTS = tuple(weight for weight, _ in _HISTORIES.values())
"""The number of flows with each history in a thousand; the map is the first, its children next."""


def _shape(name: str, history: tuple[FlowEventKind, ...]) -> Shape:
    _, changes = execution_changes(
        (fact, _START + timedelta(seconds=version)) for version, fact in enumerate(history)
    )
    rows = [
        (
            row.step_index,
            row.step_id,
            row.status.value,
            row.attempts,
            row.retry_count or 0,
            row.fingerprint,
            _version(row.started_at),
            _version(row.finished_at),
            None if row.error is None else canonical_json(row.error).decode(),
        )
        for row in changes
    ]
    events = [(event_type(fact), canonical_json(fact).decode()) for fact in history]
    return Shape(name, events, rows)


def _version(time: datetime | None) -> int | None:
    return None if time is None else int((time - _START).total_seconds())


SHAPES = tuple(_shape(name, history) for name, (_, history) in _HISTORIES.items())

"""Histories of flows, valid and invalid ones, as strategies; and how to append them to a store."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET

from chem_persistence import (
    Artifact,
    BranchCreated,
    ChemPersistenceError,
    FlowCancelled,
    FlowCompleted,
    FlowEvent,
    FlowEventKind,
    FlowInitialized,
    FlowParent,
    PropertyPreferenceAssigned,
    ResultOrigin,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
    canonical_json,
    content_hash,
)
from tests.support.flows.flows import DEFINITION, initialized
from tests.support.flows.json_values import I_JSON, TEXT
from tests.support.servers.backends import Backend

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = [(index, step.id) for index, step in enumerate(DEFINITION.steps)]


class TickingClock:
    """A clock that advances a second per reading, so that two clocks return the same times."""

    def __init__(self) -> None:
        self.ticks = 0

    def now(self) -> datetime:
        self.ticks += 1
        return BEGIN + timedelta(seconds=self.ticks)


class Append(msgspec.Struct, frozen=True):
    """One call of `append_kinds`.

    `expected_offset` is None, or is added to the flow's true version.

    `ids_of` repeats the event ids of an earlier append of the history; `again` makes the same call
    twice.
    """

    kinds: tuple[FlowEventKind, ...]
    artifacts: tuple[Artifact, ...] = ()
    metadata: dict[str, Any] | None = None
    expected_offset: int | None = None
    ids_of: int | None = None
    again: bool = False


ARTIFACTS = st.builds(
    lambda payload, metadata: Artifact.from_payload(
        kind="Value", payload=payload, metadata=metadata
    ),
    I_JSON,
    st.none() | st.dictionaries(TEXT, I_JSON, max_size=2),
) | st.builds(
    lambda content: Artifact.from_content(kind="Bytes", content=content, media_type="text/plain"),
    st.binary(max_size=50),
)
ERRORS = st.builds(StepError, TEXT, TEXT, TEXT)
HASHES = st.sampled_from(["a" * 64, "b" * 64, ""])
TIMES = st.datetimes(
    datetime(1, 1, 3),  # noqa: DTZ001  # the strategy adds the zones
    datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11)), timezone(timedelta(hours=14))]),
)
ADDED_TIMES = st.just(UNSET) | TIMES
ORIGINS = st.just(UNSET) | st.builds(ResultOrigin, st.uuids(), st.integers(0, 2**31 - 1))
PARENTS = st.just(UNSET) | st.builds(FlowParent, st.uuids(), st.integers(0, 9), st.integers(0, 9))
STEP = st.sampled_from(STEPS)
ANY_STEP = STEP | st.tuples(
    st.integers(0, 2**53 - 1), TEXT | st.sampled_from(["acquire", "compute"])
)


def about(step: st.SearchStrategy[tuple[int, str]]) -> st.SearchStrategy[FlowEventKind]:
    """Return facts of every kind but the first and the last, about these steps."""
    return st.one_of(
        st.builds(lambda at: StepStarted(at[0], at[1]), step),
        st.builds(
            lambda at, hashes, f, origin: StepFinished(at[0], at[1], tuple(hashes), f, origin),
            step,
            st.lists(HASHES),
            HASHES,
            ORIGINS,
        ),
        st.builds(lambda at, error, f: StepFailed(at[0], at[1], error, f), step, ERRORS, HASHES),
        st.builds(
            lambda at, signal, data: StepSignal(at[0], at[1], signal, data), step, TEXT, I_JSON
        ),
        st.builds(PropertyPreferenceAssigned, TEXT, TEXT, HASHES, I_JSON),
        st.builds(
            lambda at, n, why, time: RetryScheduled(at[1], n, why, time),
            step,
            st.integers(0, 3),
            TEXT,
            ADDED_TIMES,
        ),
        st.builds(
            lambda at, until, data: StepWaits(at[0], at[1], until, data),
            step,
            st.none() | TIMES,
            I_JSON,
        ),
        st.builds(BranchCreated, st.uuids(), st.uuids(), st.uuids(), TEXT, st.none() | HASHES),
        st.builds(
            lambda at, schema, until: UserInteractionRequested(at[0], at[1], schema, None, until),
            step,
            I_JSON,
            ADDED_TIMES,
        ),
        st.builds(
            lambda at, value: UserInteractionProvided(at[0], at[1], value, content_hash(value)),
            step,
            I_JSON,
        ),
    )


ANY_KIND = st.one_of(
    about(ANY_STEP),
    st.just(initialized()),
    st.builds(
        FlowInitialized,
        HASHES,
        st.integers(0, 2**53 - 1),
        st.none() | HASHES,
        ADDED_TIMES,
        PARENTS,
        st.just(UNSET) | TEXT,
        st.just(UNSET) | TEXT,
    ),
    st.builds(FlowCompleted, HASHES),
    st.builds(FlowCancelled, TEXT),
)
GARBAGE_KINDS = st.lists(ANY_KIND, min_size=3, max_size=12)
"""Facts in any order, about steps that may not exist."""

PLAUSIBLE_KINDS = st.lists(about(STEP), min_size=4, max_size=14).map(
    lambda kinds: [initialized(), *kinds]
)
"""Facts in any order about steps that do exist: many of these histories can be replayed."""


BRANCH = BranchCreated(UUID(int=3), UUID(int=2), UUID(int=1), "acquire")


@st.composite
def legal_kinds(draw: st.DrawFn) -> list[FlowEventKind]:
    """Draw facts as an engine writes them.

    There are attempts, failures, retries, crashes, waits, questions, and the end: completed, cut
    off, or cancelled at any point, after which somebody may still signal or branch.
    """
    kinds: list[FlowEventKind] = [
        FlowInitialized(DEFINITION.definition_hash, len(STEPS), draw(st.none() | HASHES))
    ]
    for index, step_id in STEPS:
        _run_step(draw, kinds, index, step_id)
    kinds.append(FlowCompleted("c" * 64))
    if draw(st.booleans()):
        return kinds
    kinds = kinds[: draw(st.integers(1, len(kinds) - 1))]
    if draw(st.booleans()):
        kinds.append(FlowCancelled(draw(TEXT)))
        late: list[FlowEventKind] = [StepSignal(0, "acquire", "late"), BRANCH]
        kinds += draw(st.lists(st.sampled_from(late)))
    return kinds


def _run_step(draw: st.DrawFn, kinds: list[FlowEventKind], index: int, step_id: str) -> None:
    retries = 0
    plan = draw(
        st.lists(
            st.sampled_from(
                ["fail", "crash", "wait", "wait and begin", "ask", "signal", "prefer", "branch"]
            ),
            max_size=4,
        )
    )
    kinds.append(StepStarted(index, step_id))
    for turn in plan:
        match turn:
            case "fail":
                retries += 1
                kinds += [
                    StepFailed(index, step_id, draw(ERRORS), "f" * 64),
                    RetryScheduled(step_id, retries, draw(TEXT)),
                    StepStarted(index, step_id),
                ]
            case "crash":
                kinds.append(StepStarted(index, step_id))
            case "wait":
                kinds.append(StepWaits(index, step_id, draw(st.none() | TIMES), draw(I_JSON)))
            case "wait and begin":
                kinds += [
                    StepWaits(index, step_id, draw(st.none() | TIMES), draw(I_JSON)),
                    StepStarted(index, step_id),
                ]
            case "ask":
                kinds += [
                    UserInteractionRequested(index, step_id, draw(I_JSON), draw(st.none() | TEXT)),
                    UserInteractionProvided(index, step_id, draw(I_JSON)),
                    StepStarted(index, step_id),
                ]
            case "signal":
                kinds.append(StepSignal(index, step_id, draw(TEXT), draw(I_JSON)))
            case "prefer":
                kinds.append(PropertyPreferenceAssigned("logP", draw(TEXT), "e" * 64, draw(I_JSON)))
            case _:
                kinds.append(BRANCH)
    kinds.append(
        StepFinished(index, step_id, tuple(draw(st.lists(HASHES, max_size=2))), draw(HASHES))
    )


RARELY = st.sampled_from([False] * 9 + [True])


@st.composite
def batched(draw: st.DrawFn, kinds: Sequence[FlowEventKind]) -> list[tuple[FlowEventKind, ...]]:
    """Cut facts into appends of any size."""
    batches: list[tuple[FlowEventKind, ...]] = []
    place = 0
    while place < len(kinds):
        size = draw(st.sampled_from([1, 2, 1, 3, 1, 8]))
        batches.append(tuple(kinds[place : place + size]))
        place += size
    return batches


@st.composite
def histories(draw: st.DrawFn, kinds: st.SearchStrategy[list[FlowEventKind]]) -> list[Append]:
    """Draw appends of these facts, with artifacts, metadata, stale versions and repeated ids."""
    appends: list[Append] = []
    for batch in draw(batched(draw(kinds))):
        artifacts = tuple(draw(st.lists(ARTIFACTS, max_size=2)))
        reuse, again = draw(RARELY), draw(RARELY)
        ids_of = draw(st.integers(0, len(appends) - 1)) if reuse and appends else None
        appends.append(
            Append(
                tuple(_with_output(kind, artifacts) for kind in batch),
                artifacts,
                draw(st.none() | st.dictionaries(TEXT, I_JSON, max_size=2)),
                draw(st.sampled_from([None, 0, None, 0, None, 0, 0, -1, 1, 5])),
                ids_of,
                again,
            )
        )
    return appends


def _with_output(kind: FlowEventKind, artifacts: tuple[Artifact, ...]) -> FlowEventKind:
    if isinstance(kind, StepFinished) and artifacts:
        return msgspec.structs.replace(kind, outputs=(artifacts[0].hash, *kind.outputs))
    return kind


def facts(events: Sequence[FlowEvent]) -> list[Any]:
    """Return what must be equal in every store.

    This is all but `seq` and the canonical forms, which distinguish 1 from true.
    """
    return [
        (
            msgspec.structs.replace(event, seq=0),
            canonical_json(event.kind),
            canonical_json(event.metadata),
        )
        for event in events
    ]


def failure(error: ChemPersistenceError) -> Any:
    """Return the parts of an error that must be equal in every store."""
    return type(error), vars(error)


async def outcomes(
    backend: Backend, flow_id: UUID, history: Sequence[Append]
) -> AsyncGenerator[Any]:
    """Append a history call by call; yield the outcome of each: its events or its error."""
    ids: list[list[UUID]] = []
    version = 0
    for number, append in enumerate(history):
        own = [UUID(int=1000 * number + place + 1) for place in range(len(append.kinds))]
        if append.ids_of is not None:
            own[: len(ids[append.ids_of])] = ids[append.ids_of][: len(own)]
        ids.append(own)
        expected = (
            None if append.expected_offset is None else max(version + append.expected_offset, 0)
        )
        for _ in range(2 if append.again else 1):
            try:
                events = await backend.store.append_kinds(
                    flow_id,
                    append.kinds,
                    artifacts=append.artifacts,
                    expected_version=expected,
                    event_ids=own,
                    metadata=append.metadata,
                )
            except ChemPersistenceError as error:
                yield failure(error)
            else:
                yield facts(events)
                version = max(version, events[-1].version + 1)


async def run_history(backend: Backend, flow_id: UUID, history: Sequence[Append]) -> list[Any]:
    """Append a history and return all outcomes."""
    return [outcome async for outcome in outcomes(backend, flow_id, history)]


async def run_interleaved(
    backend: Backend, flow_ids: Sequence[UUID], appends: Sequence[Sequence[Append]]
) -> list[Any]:
    """Append several histories in turn, one call of each, and return all outcomes."""
    running = [outcomes(backend, *pair) for pair in zip(flow_ids, appends, strict=True)]
    found: list[Any] = []
    while running:
        history = running.pop(0)
        async for outcome in history:
            found.append(outcome)
            running.append(history)
            break
    return found

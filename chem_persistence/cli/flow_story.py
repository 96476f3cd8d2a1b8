"""What `show` prints about a flow: its summary, every attempt at its steps, and its artifacts."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.cli.terminal.text import shown
from chem_persistence.domain.answers import FlowSummary
from chem_persistence.domain.definition import FlowDefinition, described_definition
from chem_persistence.domain.events import PropertyPreferenceAssigned
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.read.children import read_child_states
from chem_persistence.postgres.read.flows import iterate_events
from chem_persistence.postgres.read.results import list_taken_over
from chem_persistence.postgres.read.search import ArtifactDescription, describe_flow_artifacts
from chem_persistence.store.reuse.results import TakenOver
from chem_persistence.views.children import ChildrenView, children_views, possible_children
from chem_persistence.views.flow_fold import FlowFold
from chem_persistence.views.flow_view import AttemptView, PageLimits, StepView
from chem_persistence.views.origin.branches import BranchTree, is_in_a_tree, read_branch_tree
from chem_persistence.views.origin.parameters import ParameterView, parameter_views
from chem_persistence.views.origin.programs import RanView
from chem_persistence.views.wording import short, step_details, title

__all__ = [
    "FlowStory",
    "NamedArtifact",
    "definition_json",
    "definition_rows",
    "name_row",
    "read_story",
    "story_json",
]

MOST_STEPS = 20
"""A line of steps lists so many of them."""

MOST_CHILDREN = 100
"""Of the children of a step so many are listed; the counts are those of all."""


class NamedArtifact(msgspec.Struct, frozen=True):
    """An artifact stored with the event at `version`; `role` lists all its roles in the flow.

    `described` is None if the artifact is not stored.
    """

    hash: str
    version: int
    role: str
    described: ArtifactDescription | None


class FlowStory(msgspec.Struct, frozen=True, kw_only=True):
    """A flow up to its last event, read at `seen_at`.

    `cancelled` is the reason for which it was cancelled, or None; `definition` is None if it is not
    stored. `taken_over` has the first steps of other flows that took its results over.
    """

    summary: FlowSummary
    definition: FlowDefinition | None
    seen_at: datetime
    input: str | None
    flow_fingerprint: str | None
    cancelled: str | None
    steps: Sequence[StepView]
    artifacts: Sequence[NamedArtifact]
    children: Sequence[ChildrenView]
    branches: BranchTree
    parameters: Sequence[ParameterView]
    taken_over: Sequence[TakenOver]
    preferences: Sequence[PropertyPreferenceAssigned]
    programs: Sequence[RanView]


async def read_story(
    provider: ConnectionProvider, flow_id: UUID, *, html: Path | None = None
) -> FlowStory:
    """Read a flow, and write its page to the file `html` if one is given.

    The events are read once.

    Raises:
        InvalidArgument: the flow has no events.
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the database could not be read.
        OSError: the file could not be written.
    """
    seen_at = datetime.now(UTC)
    if html is None:
        return await _read(provider, flow_id, FlowFold(PageLimits()), seen_at)
    # imported here, because the import takes a tenth of a command's start-up time
    from chem_persistence.pages.gather import PageFold  # noqa: PLC0415

    fold = PageFold(PageLimits())
    story = await _read(provider, flow_id, fold, seen_at)
    page = await fold.page(PgEventStore(provider), seen_at=seen_at)
    html.write_text(page, encoding="utf-8")
    return story


async def _read(
    provider: ConnectionProvider, flow_id: UUID, fold: FlowFold, seen_at: datetime
) -> FlowStory:
    async for event in iterate_events(provider, flow_id, -1):
        fold.take(event)
    summary = fold.summary.summary()
    if summary is None:
        raise InvalidArgument("FLOW", f"there is no flow {flow_id}")
    named = [artifact_hash for artifact_hash, _, _ in fold.artifacts]
    definition_hash = summary.definition_hash or ""
    children = await _read_children(provider, flow_id, fold) if fold.waits else []
    fold.taken_over = await list_taken_over(Session(provider), flow_id, MOST_CHILDREN + 1)
    found = await describe_flow_artifacts(provider, flow_id, [*named, definition_hash])
    if definition_hash in found:
        metadata = found[definition_hash][0].metadata
        fold.take_definition(described_definition(definition_hash, metadata))
    for described, event_type, step_id in found.values():
        if described.flow_id == flow_id and described.version is not None and event_type:
            fold.take_artifact(described.hash, described.version, event_type, step_id)
    return FlowStory(
        summary=summary,
        definition=fold.definition,
        seen_at=seen_at,
        input=fold.input,
        flow_fingerprint=fold.flow_fingerprint,
        cancelled=fold.cancelled,
        steps=fold.attempts.steps(),
        artifacts=[
            NamedArtifact(artifact_hash, version, role, found.get(artifact_hash, (None,))[0])
            for artifact_hash, version, role in fold.artifacts
        ],
        children=children,
        branches=await _read_branches(provider, fold),
        parameters=parameter_views(fold.definition, fold.parameter_layers),
        taken_over=fold.taken_over[:MOST_CHILDREN],
        preferences=fold.preferences,
        programs=fold.programs.first,
    )


async def _read_children(
    provider: ConnectionProvider, flow_id: UUID, fold: FlowFold
) -> list[ChildrenView]:
    ids = possible_children(flow_id, fold.waits.values())
    states = await read_child_states(Session(provider), list(chain.from_iterable(ids.values())))
    return children_views(fold.waits, ids, states, MOST_CHILDREN)


async def _read_branches(provider: ConnectionProvider, fold: FlowFold) -> BranchTree:
    if fold.first is None or not is_in_a_tree(fold.first, has_branches=fold.has_branches):
        return BranchTree()
    return await read_branch_tree(PgEventStore(provider), fold.first)


def story_json(story: FlowStory) -> dict[str, Any]:
    """Return the object that `show --json` prints."""
    summary: dict[str, Any] = msgspec.to_builtins(story.summary)
    return summary | {
        "definition": definition_json(story.definition),
        "input": story.input,
        "flow_fingerprint": story.flow_fingerprint,
        "cancelled": story.cancelled,
        "steps": [_step_json(step) for step in story.steps],
        "artifacts": [
            {
                "hash": artifact.hash,
                "version": artifact.version,
                "role": artifact.role,
                "kind": artifact.described and artifact.described.kind,
                "media_type": artifact.described and artifact.described.media_type,
                "content_bytes": artifact.described and artifact.described.content_bytes,
            }
            for artifact in story.artifacts
        ],
        "children": [msgspec.to_builtins(children) for children in story.children],
        "branches": [msgspec.to_builtins(each) for each in story.branches.flows],
        "parameters": [msgspec.to_builtins(each) for each in story.parameters],
        "taken_over": [msgspec.to_builtins(taken) for taken in story.taken_over],
        "preferences": [_preference_json(each) for each in story.preferences],
        "ran": [msgspec.to_builtins(program) for program in story.programs],
    }


def _preference_json(preference: PropertyPreferenceAssigned) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(preference)
    del values["type"]
    return values


def definition_json(definition: FlowDefinition | None) -> list[dict[str, Any]] | None:
    """Return the steps of a definition as JSON prints them; None if it is not stored."""
    if definition is None:
        return None
    return [dict(step.identity()) for step in definition.steps]


def name_row(name: str | None, label: str | None) -> list[tuple[str, str]]:
    """Return the row of a table that has a flow's name and label; no row if it has neither."""
    called = title(name, label)
    return [("name", shown(called))] if called else []


def definition_rows(definition: FlowDefinition | None) -> list[tuple[str, str]]:
    """Return the rows of a table that have the steps of a definition; none if it is not stored.

    The first one has the steps' ids, the others the version and parameters of each that has any.
    """
    if definition is None:
        return []
    steps = definition.steps[:MOST_STEPS]
    ids = [short(step.id) for step in steps]
    if more := len(definition.steps) - len(steps):
        ids.append(f"and {more} more")
    details = [(f"  {short(step.id)}", step_details(step)) for step in steps]
    rows = [("its steps", ", ".join(ids)), *((key, value) for key, value in details if value)]
    return [(shown(key), shown(value)) for key, value in rows]


def _step_json(step: StepView) -> dict[str, Any]:
    return {
        "step_index": step.index,
        "step_id": step.id,
        "attempt_count": step.attempt_count,
        "retry_count": step.retry_count,
        "signal_count": step.signal_count,
        "reused_from": msgspec.to_builtins(step.origin),
        "invalidated": msgspec.to_builtins(step.invalidated),
        "attempts": [_attempt_json(attempt) for attempt in step.attempts],
    }


def _attempt_json(attempt: AttemptView) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(attempt)
    del values["last_sign"]
    return values | {"outcome": attempt.outcome.name.lower()}

"""The state of a flow for any version, by its events; they need not come with its definition."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    FlowCompleted,
    FlowEvent,
    FlowInitialized,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.flow_state import FlowState, state_of_instance
from chem_persistence.domain.instance import FlowInstance, empty_instance
from chem_persistence.domain.replay import replay_facts
from chem_persistence.errors import InvalidArgument, UnreplayableEvent

__all__ = ["UNNAMED", "ObservedFlow", "replay_observed"]

UNNAMED = ""
"""The id given to a step that no event of the flow names; no step has an empty id."""

_NAMING = (
    StepStarted,
    StepFinished,
    StepFailed,
    StepWaits,
    StepSignal,
    UserInteractionRequested,
    UserInteractionProvided,
)


class ObservedFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow after the first `instance.version` of its `events` events, at the time `at`."""

    instance: FlowInstance
    definition_hash: str
    name: str | None
    label: str | None
    flow_fingerprint: str | None
    events: int
    at: datetime

    @property
    def state(self) -> FlowState:
        """The state of the flow after these events."""
        return state_of_instance(self.instance)


def replay_observed(
    flow_id: UUID,
    events: Sequence[FlowEvent],
    at: int | None = None,
    definition: FlowDefinition | None = None,
) -> ObservedFlow:
    """Replay a flow's events up to and including version `at`, or all of them.

    The first event has the number of steps; their ids are those of the definition, if it is given,
    and otherwise those that any event of the flow names, a later one too.

    Raises:
        InvalidArgument: the flow has no event of version `at`.
        UnreplayableEvent: the first event is not a `FlowInitialized`, or an event contradicts
            those before it.
    """
    version = len(events) - 1 if at is None else at
    if not 0 <= version < len(events):
        raise InvalidArgument(
            "--at", f"flow {flow_id} has the versions 0 to {len(events) - 1}, not {version}"
        )
    first = events[0].kind
    if not isinstance(first, FlowInitialized):
        raise UnreplayableEvent(flow_id, 0, "the first event is not a FlowInitialized")
    named: dict[int, str] = {}
    for event in events:
        if isinstance(event.kind, _NAMING):
            named.setdefault(event.kind.step_index, event.kind.step_id)
    for index, step in enumerate(() if definition is None else definition.steps):
        named.setdefault(index, step.id)
    step_ids = [named.get(index, UNNAMED) for index in range(first.step_count)]
    replayed = events[: version + 1]
    facts = ((event.kind, event.ts) for event in replayed)
    completions = [event.kind for event in replayed if isinstance(event.kind, FlowCompleted)]
    return ObservedFlow(
        instance=replay_facts(empty_instance(flow_id, step_ids), facts, first.definition_hash),
        definition_hash=first.definition_hash,
        name=None if first.name is UNSET else first.name,
        label=None if first.label is UNSET else first.label,
        flow_fingerprint=completions[-1].flow_fingerprint if completions else None,
        events=len(events),
        at=events[version].ts,
    )

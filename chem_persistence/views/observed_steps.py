"""A flow's state without its definition, which the log does not hold: from what the events themselves name."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from chem_persistence.domain.events import (
    FlowEvent,
    FlowInitialized,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.instance import FlowInstance, empty_instance
from chem_persistence.domain.replay import replay_facts
from chem_persistence.errors import InvalidArgument, UnreplayableEvent

__all__ = ["UNNAMED", "ObservedFlow", "replay_observed"]

UNNAMED = ""
"""The id of a step that no event of the flow names yet; no step has it."""

_NAMING = (
    StepStarted,
    StepFinished,
    StepFailed,
    StepSignal,
    UserInteractionRequested,
    UserInteractionProvided,
)


class ObservedFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow after its first `instance.version` events, of `events` that it has; `definition_hash` is what it began with."""

    instance: FlowInstance
    definition_hash: str
    events: int
    at: datetime


def replay_observed(
    flow_id: UUID, events: Sequence[FlowEvent], at: int | None = None
) -> ObservedFlow:
    """Replay the first events of a flow, up to and with version `at`, by the library's one replay.

    How many steps there are is in the first event; their ids are those that any event of the flow names, also a later one.
    What cannot be known without the definition is whether it is the one that the flow was begun with.

    Raises:
        InvalidArgument: the flow has no event of version `at`.
        UnreplayableEvent: the first event is no `FlowInitialized`, or an event contradicts those before it.
    """
    version = len(events) - 1 if at is None else at
    if not 0 <= version < len(events):
        raise InvalidArgument(
            "--at", f"flow {flow_id} has the versions 0 to {len(events) - 1}, not {version}"
        )
    first = events[0].kind
    if not isinstance(first, FlowInitialized):
        raise UnreplayableEvent(flow_id, 0, "the first event is no FlowInitialized")
    named: dict[int, str] = {}
    for event in events:
        if isinstance(event.kind, _NAMING):
            named.setdefault(event.kind.step_index, event.kind.step_id)
    step_ids = [named.get(index, UNNAMED) for index in range(first.step_count)]
    facts = ((event.kind, event.ts) for event in events[: version + 1])
    instance = replay_facts(empty_instance(flow_id, step_ids), facts, first.definition_hash)
    return ObservedFlow(
        instance=instance,
        definition_hash=first.definition_hash,
        events=len(events),
        at=events[version].ts,
    )

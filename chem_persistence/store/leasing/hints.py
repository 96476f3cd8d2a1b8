"""Hints that flows are due, by which an idle worker need not wait for its next look.

A hint may be lost, and nothing depends on one: a worker also looks by itself.
"""

from collections.abc import Iterable

from msgspec import UNSET

from chem_persistence.domain.events import (
    FlowInitialized,
    RetryScheduled,
    StepSignal,
    UserInteractionProvided,
)
from chem_persistence.store.append_request import AppendRequest

__all__ = ["ANY_DEFINITION", "CALLS", "hinted_definitions"]

ANY_DEFINITION = ""
"""Given instead of a definition's hash where it is not known."""

CALLS = (FlowInitialized, RetryScheduled, StepSignal, UserInteractionProvided)
"""The facts that may make a flow due at once, if they end an append without a lease."""


def hinted_definitions(requests: Iterable[AppendRequest]) -> set[str]:
    """Return the definitions of the flows that are due once these appends are stored.

    Only the last event of an append decides: the engine's own appends end with others.
    """
    return {
        definition
        for request in requests
        if request.lease is None
        and isinstance(request.kinds[-1], CALLS)
        and (definition := _due_now(request)) is not None
    }


def _due_now(request: AppendRequest) -> str | None:
    match request.kinds[-1]:
        case FlowInitialized(due=due) if due is UNSET or due > request.ts:
            return None
        case FlowInitialized(definition_hash=definition):
            return definition
        case RetryScheduled(not_before=time) if time is not UNSET and time > request.ts:
            return None
        case _:
            return ANY_DEFINITION

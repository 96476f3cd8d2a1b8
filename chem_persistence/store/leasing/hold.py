"""How a program holds a flow that it runs by itself, by the same append that begins it."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from chem_persistence.domain.events import (
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    RetryScheduled,
    StepFailed,
    StepWaits,
    UserInteractionRequested,
)

__all__ = ["Hold", "only_pauses"]

_PAUSES = frozenset({RetryScheduled, StepWaits, UserInteractionRequested})
"""The facts that release the lease of a flow, unless a program runs it by itself."""

_RELEASES = _PAUSES | {StepFailed, FlowCompleted, FlowCancelled}
"""The facts that release it."""


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Who holds a flow from its first append on, and for how many seconds."""

    holder: UUID
    seconds: float


def only_pauses(kinds: Sequence[FlowEventKind]) -> bool:
    """Return whether facts would release a flow, but not for good."""
    if _RELEASES.isdisjoint(map(type, kinds)):
        return False
    releasing = [type(kind) for kind in kinds if type(kind) in _RELEASES]
    return releasing[-1] in _PAUSES

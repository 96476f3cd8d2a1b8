"""How a program holds a flow that it runs by itself, by the same append that begins it."""

from collections.abc import Iterable
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

_PAUSES = (RetryScheduled, StepWaits, UserInteractionRequested)
"""The facts that release the lease of a flow, unless a program runs it by itself."""

_RELEASES = (*_PAUSES, StepFailed, FlowCompleted, FlowCancelled)
"""The facts that release it."""


class Hold(msgspec.Struct, frozen=True, gc=False):
    """Who holds a flow from its first append on, and for how many seconds."""

    holder: UUID
    seconds: float


def only_pauses(kinds: Iterable[FlowEventKind]) -> bool:
    """Return whether facts would release a flow, but not for good."""
    releasing = [kind for kind in kinds if isinstance(kind, _RELEASES)]
    return bool(releasing) and isinstance(releasing[-1], _PAUSES)

"""Whether a flow may take results over: its submitter can rule that out, for its children as well.

That is part of the metadata of the flow's first event, so that every process that goes on with the
flow knows it, and no hash does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from chem_persistence.domain.events import FlowEvent

__all__ = ["allows_reuse", "may_reuse", "reuse_metadata"]

REUSE, NEVER = "reuse", "never"
"""The key and the value of the metadata of a flow whose steps all run."""


def reuse_metadata(*, reuse: bool) -> Mapping[str, Any]:
    """Return what the metadata of a flow's first event say about taking results over."""
    return {} if reuse else {REUSE: NEVER}


def may_reuse(events: Sequence[FlowEvent]) -> bool:
    """Return whether the steps of a flow that begins with these events may take results over."""
    return not events or allows_reuse(events[0].metadata)


def allows_reuse(metadata: Mapping[str, Any]) -> bool:
    """Return whether a flow may take results over whose first event has these metadata."""
    return metadata.get(REUSE) != NEVER

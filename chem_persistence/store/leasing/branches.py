"""The branches of flows: how a branch names its parent, and what reads them."""

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable
from uuid import UUID

from chem_persistence.domain.events import FlowEvent

__all__ = ["BRANCHED_FROM", "BranchReader", "branched_from", "root_of"]

BRANCHED_FROM = "branched_from"
"""The key of the metadata of a branch's first events that names its parent and its root."""


@runtime_checkable
class BranchReader(Protocol):
    """Reads the branches of flows.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def branches(self, flow_ids: Collection[UUID], limit: int) -> dict[UUID, Sequence[UUID]]:
        """Return the branches of each flow that has any, in the order in which they were made.

        At most `limit` are returned of all flows together.
        """
        ...


def root_of(first: FlowEvent) -> UUID:
    """Return the flow of which a flow is a branch of a branch; the flow itself if of none."""
    return _named(first, "root")


def branched_from(first: FlowEvent) -> UUID:
    """Return the flow of which a flow is a branch; the flow itself if of none."""
    return _named(first, "parent")


def _named(first: FlowEvent, key: str) -> UUID:
    origin = first.metadata.get(BRANCHED_FROM)
    named = origin.get(key) if isinstance(origin, dict) else None
    try:
        return UUID(named) if isinstance(named, str) else first.flow_id
    except ValueError:  # a program wrote something else under the key
        return first.flow_id

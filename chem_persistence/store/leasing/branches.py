"""The branches of flows: how a branch names its parent, and what reads them."""

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable
from uuid import UUID

from chem_persistence.domain.events import FlowEvent

__all__ = ["BRANCHED_FROM", "BranchReader", "root_of"]

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
    match first.metadata.get(BRANCHED_FROM):
        case {"root": str() as root}:
            try:
                return UUID(root)
            except ValueError:  # a program wrote something else under the key
                return first.flow_id
        case _:
            return first.flow_id

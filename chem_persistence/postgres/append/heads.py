"""The heads of the flows that were appended to last, so that going on with one needs no read of its end."""

from collections import OrderedDict
from uuid import UUID

from chem_persistence.store.append_request import EMPTY_FLOW, Head

__all__ = ["FlowHeads"]


class FlowHeads:
    """A bounded map from flow to a head that is known to be in the log; the longest unused goes first.

    A head in the log never changes, so an entry can be behind but not wrong.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._heads: OrderedDict[int, Head] = (
            OrderedDict()
        )  # by the flow id's integer, which hashes faster

    def at(self, flow_id: UUID, version: int | None) -> Head | None:
        """Give the flow's head if the one known is that of `version` events; with None, whichever is known."""
        if version == 0:
            return EMPTY_FLOW
        head = self._heads.get(flow_id.int)
        return head if head is not None and version in {None, head.version} else None

    def forget(self, flow_id: UUID) -> None:
        """Drop what is known of the flow."""
        self._heads.pop(flow_id.int, None)

    def keep(self, flow_id: UUID, head: Head) -> None:
        """Remember a head that was read or acknowledged."""
        self._heads[flow_id.int] = head
        self._heads.move_to_end(flow_id.int)
        if len(self._heads) > self._capacity:
            self._heads.popitem(last=False)

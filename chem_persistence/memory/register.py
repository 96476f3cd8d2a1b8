"""The register of the flows that were archived from a store in memory."""

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from uuid import UUID

from chem_persistence.store.transfer.register import ArchivedFlow

__all__ = ["MemoryRegister"]

_number = attrgetter("archive_no")


class MemoryRegister:
    """The rows of the register, in the order of their numbers, which begin with 1."""

    def __init__(self) -> None:
        self.rows: list[ArchivedFlow] = []
        self._of_flows: dict[UUID, list[ArchivedFlow]] = {}

    @property
    def last_no(self) -> int:
        """The number of the last row, or 0."""
        return len(self.rows)

    def add(self, row: ArchivedFlow) -> None:
        """Add the next row."""
        self.rows.append(row)
        self._of_flows.setdefault(row.flow_id, []).append(row)

    def of_flow(self, flow_id: UUID) -> Sequence[ArchivedFlow]:
        """Return the rows that name a flow."""
        return self._of_flows.get(flow_id, ())

    def after(self, number: int) -> Sequence[ArchivedFlow]:
        """Return the rows after a number."""
        return self.rows[bisect_right(self.rows, number, key=_number) :]

    def has_event(self, flow_id: UUID, seq: int) -> bool:
        """Return whether an event with a `seq` was archived with its flow."""
        return any(row.first_seq <= seq <= row.last_seq for row in self.of_flow(flow_id))

    def touches(self, since: int, seq: int) -> bool:
        """Return whether a flow was archived that may have had events in (since, seq]."""
        return any(row.first_seq <= seq and row.last_seq > since for row in self.rows)

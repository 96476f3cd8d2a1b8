"""What a call that appends to many flows takes, what it returns, and the port of stores with it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable
from uuid import UUID

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.errors import ChemPersistenceError
from chem_persistence.store.ports import EventStore

__all__ = ["AppendAsTuple", "BatchEventStore", "FlowAnswer", "FlowAppend"]


class FlowAppend(msgspec.Struct, frozen=True, gc=False):
    """One append of an `append_many`: events for the end of one flow, as for `append_kinds`."""

    flow_id: UUID
    kinds: Sequence[FlowEventKind]
    artifacts: Sequence[Artifact] = ()
    expected_version: int | None = None
    event_ids: Sequence[UUID] | None = None
    metadata: Mapping[str, Any] | None = None


AppendAsTuple: TypeAlias = tuple[UUID, Sequence[FlowEventKind], Sequence[Artifact], int | None]
"""The first four fields of a `FlowAppend`."""

FlowAnswer: TypeAlias = list[FlowEvent] | ChemPersistenceError
"""The events of a stored append, or the error for which nothing of it is stored."""


@runtime_checkable
class BatchEventStore(EventStore, Protocol):
    """An event store that appends to many flows by one call; `append_each` works with any store."""

    async def append_many(self, appends: Sequence[FlowAppend | AppendAsTuple]) -> list[FlowAnswer]:
        """Append to many flows, to each all or nothing, and return an answer for each, in order.

        An answer is the list of the flow's new events, or the error that `append_kinds` raises for
        it: then nothing is stored for this flow, and the others are stored all the same. The
        appends wait for the store like those of as many tasks, and share its transactions, but one
        task awaits them all, which costs much less. There may be any number of them; a flow may
        occur once.

        Repeat a call that has raised `StoreUnavailable`, or was cancelled, with the same
        `event_ids`: what is stored already is answered with the original events.

        Raises:
            InvalidArgument: a flow occurs twice, or an append is a tuple of another length; nothing
                is stored.
            StoreUnavailable: the store could not be reached, or was not in time, for at least one
                of the flows: it is not known which of all of them were appended to.
            StoreClosed: the store was closed; nothing is stored.
        """
        ...

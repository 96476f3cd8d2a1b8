"""The port that reads what became of many flows, without the events of each."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable
from uuid import UUID

import msgspec

from chem_persistence.domain.events import ResultOrigin, StepError
from chem_persistence.domain.flow_state import FlowState

__all__ = ["FlowOutcome", "OutcomeFilter", "OutcomeReader"]


class FlowOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a flow, and the hashes of its input and of the output of one of its steps.

    `output` is the first output of the last `StepFinished` of that step, None if there is none, and
    `origin` that event, or the one whose result it took over. `failed_step` and `failure` are those
    of the last step whose status is failed.
    """

    flow_id: UUID
    started_at: datetime
    state: FlowState
    definition_hash: str | None
    label: str | None
    input: str | None
    output: str | None
    origin: ResultOrigin | None
    failed_step: str | None
    failure: StepError | None


class OutcomeFilter(NamedTuple):
    """Which flows are listed: those to which all that is given applies.

    `since` is compared with the time of a flow's first event, and `state` with the state of the
    flows of the definition `state_of`: those of others are listed in every state.
    """

    name: str | None = None
    definition_hash: str | None = None
    label: str | None = None
    since: datetime | None = None
    state: FlowState | None = None
    state_of: str | None = None


@runtime_checkable
class OutcomeReader(Protocol):
    """Reads what became of flows, many in one query.

    `step` is the id of the step whose output is read; None stands for a flow's last step. Every
    method raises:
        UnreadableEvent: an event has no time that a datetime can hold, or a failure does not
            decode.
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def flow_outcomes(
        self, flow_ids: Sequence[UUID], step: str | None
    ) -> Mapping[UUID, FlowOutcome]:
        """Return what became of those flows that have events."""
        ...

    async def invalidated_results(self, flow_ids: Sequence[UUID]) -> Collection[ResultOrigin]:
        """Return those results of flows that were declared invalid, by their events."""
        ...

    async def list_outcomes(
        self, chosen: OutcomeFilter, step: str | None, *, before: FlowOutcome | None, limit: int
    ) -> Sequence[FlowOutcome]:
        """Return the next flows, the newest first: by the time of their first event, then by id.

        The first page is `before` None; the next one begins before the last flow of this one.
        """
        ...

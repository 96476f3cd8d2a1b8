"""The submission of flows to workers, one or many at a time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from chem_persistence.engine.flow import Flow
from chem_persistence.engine.parameters.changes import Params
from chem_persistence.errors import InvalidArgument
from chem_persistence.store.clock import SystemClock
from chem_persistence.store.definitions import unseen_definitions
from chem_persistence.store.leasing.submission import (
    store_submission,
    store_submissions,
    submission,
)
from chem_persistence.store.ports import Clock, EventStore

__all__ = ["Submissions"]

Input = TypeVar("Input")
Output = TypeVar("Output")

SUBMITTED_TOGETHER = 2_000
"""The number of flows whose submissions are one call of the store: some are encoded while the
server stores others."""


class Submissions:
    """Gives flows to workers, by appends to `store`."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._clock: Clock = getattr(store, "clock", SystemClock())

    async def submit(
        self,
        flow: Flow[Input, Output],
        input: Input,  # noqa: A002
        *,
        flow_id: UUID | None = None,
        due: datetime | None = None,
        ahead: timedelta | None = None,
        label: str | None = None,
        params: Params | None = None,
        reuse: bool = True,
    ) -> UUID:
        """Submit a flow to workers, and return its id.

        A worker that has the flow's definition runs it from `due` on (None: now). Of the flows that
        are due the longest due comes first; a flow that is submitted `ahead` comes before those
        submitted up to so much earlier. A `label` is shown beside the id. `params` are those in
        which the flow differs from `flow`, as `Flow.with_params` takes them; any worker that serves
        `flow` runs it. With `reuse=False` its steps, and those of the flows that they run, take
        over no result of another flow.

        A flow that exists already, with an equal definition and input, is the same submission: so
        with a `flow_id` a submission can be repeated. To submit within a transaction of your own,
        call `submit` of `store.transaction()`.

        Raises what `EventStore.append_kinds` raises but `ConcurrencyConflict`, and:
            InvalidArgument: the flow does not take such an input; the flow `flow_id` exists with
                another definition or input, or with `reuse`, or was not given to workers; `due` has
                no time zone; `ahead` is negative; or a parameter is unknown, or of another type.
            InvalidPayload: the input or the label is not I-JSON, or too large.
        """
        submitted = submission(
            _with(flow, params),
            input,
            clock=self._clock,
            flow_id=flow_id,
            due=due,
            ahead=ahead,
            label=label,
            reuse=reuse,
        )
        await store_submission(self._store, submitted)
        return submitted.flow_id

    async def submit_many(
        self,
        flow: Flow[Input, Output],
        inputs: Sequence[Input],
        *,
        flow_ids: Sequence[UUID] | None = None,
        due: datetime | None = None,
        ahead: timedelta | None = None,
        label: str | None = None,
        params: Params | None = None,
        reuse: bool = True,
    ) -> list[UUID]:
        """Submit a flow to workers for each input, and return the ids in the order of the inputs.

        The submissions share commits of the store, but each is stored by itself: after an error
        some may be stored. With `flow_ids` the call can be repeated.

        Raises what `submit` raises; nothing is stored if an input is refused.
        """
        if flow_ids is not None and len(flow_ids) != len(inputs):
            raise InvalidArgument("flow_ids", f"has {len(flow_ids)} ids for {len(inputs)} inputs")
        named: Sequence[UUID | None] = flow_ids or [None] * len(inputs)
        changed = _with(flow, params)
        submitted = [
            submission(
                changed,
                value,
                clock=self._clock,
                flow_id=flow_id,
                due=due,
                ahead=ahead,
                label=label,
                reuse=reuse,
            )
            for value, flow_id in zip(inputs, named, strict=True)
        ]
        # unless the definition is stored, the first one is alone: it is stored with that
        alone = 0
        if submitted and unseen_definitions(self._store, changed.definition):
            await store_submission(self._store, submitted[0])
            alone = 1
        for first in range(alone, len(submitted), SUBMITTED_TOGETHER):
            part = submitted[first : first + SUBMITTED_TOGETHER]
            await store_submissions(self._store, part)
        return [each.flow_id for each in submitted]


def _with(flow: Flow[Input, Output], params: Params | None) -> Flow[Input, Output]:
    return flow if params is None else flow.with_params(params, by="submission")

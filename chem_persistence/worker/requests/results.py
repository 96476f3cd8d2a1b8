"""The question for the results of flows, as a client asks it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from chem_persistence.domain.flow_state import FlowState
from chem_persistence.engine.flow import Flow
from chem_persistence.results.results import Results, results_of
from chem_persistence.store.ports import EventStore

__all__ = ["ResultQuestions"]


class ResultQuestions:
    """Reads the results of flows as rows."""

    _store: EventStore

    def results(
        self,
        flow: Flow[Any, Any] | str | UUID,
        *,
        step: str | None = None,
        since: datetime | None = None,
        state: FlowState | str | None = None,
        label: str | None = None,
        limit: int | None = None,
        page_size: int = 500,
    ) -> Results:
        """Return the results of runs of a flow as rows, which are read when they are iterated.

        `flow` is a flow (its runs with exactly this definition), the name of one (its runs under
        this name, with whatever steps and parameters), or the id of one run. A row is a run, with
        the run's input and the output of the step `step`, None for its last step.

        A map stands for its children: if `step` is a map, or a step of the flow that a map of the
        run runs, or is None and the run has a map, then each child is a row, with its own input
        and the output of `step`, or of its last step. A step of the run comes before one of a
        child. If the run took its map over from another run, the children of that one are its
        rows. Items that were not submitted yet have no row, and an older run that has no such step
        has none.

        `since` and `label` choose runs: those that began at `since` or later, and those with this
        label. `state` chooses rows, by the state of the run or of the child. Without `state` there
        are also rows of flows that run or have failed, which may have no output. At most `limit`
        rows are returned, None for all.

        Raises:
            InvalidArgument: the flow's name or the step is empty, the id cannot name a flow, the
                state is unknown, `since` has no time zone, the limit is negative, `page_size` is
                not from 1 to 10,000, or the store cannot read results.
        """
        return results_of(
            self._store,
            flow.name if isinstance(flow, Flow) else flow,
            definition_hash=flow.definition_hash if isinstance(flow, Flow) else None,
            step=step,
            since=since,
            state=state,
            label=label,
            limit=limit,
            page_size=page_size,
        )

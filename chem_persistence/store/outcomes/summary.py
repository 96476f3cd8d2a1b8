"""The summary of a flow, from the events of a reader that has them all."""

from msgspec import UNSET

from chem_persistence.domain.answers import FlowSummary
from chem_persistence.domain.events import FlowCancelled, FlowCompleted, FlowEvent, FlowInitialized
from chem_persistence.domain.flow_state import flow_state
from chem_persistence.domain.instance import StepStatus
from chem_persistence.domain.step_rows import StepChange, execution_changes, merged_change

__all__ = ["SummaryFold"]


class SummaryFold:
    """What the view `flows` returns of a flow, after the events taken; `take` them in order."""

    def __init__(self) -> None:
        self.rows: dict[int, StepChange] = {}
        """The steps that events name, by their index."""

        self._first: FlowEvent | None = None
        self._last: FlowEvent | None = None
        self._completed = False
        self._cancelled = False

    def take(self, event: FlowEvent) -> None:
        """Add the next event."""
        self._first = self._first or event
        self._last = event
        self._completed = self._completed or isinstance(event.kind, FlowCompleted)
        self._cancelled = self._cancelled or isinstance(event.kind, FlowCancelled)
        retries, steps = execution_changes([(event.kind, event.ts)])
        for retry in retries:
            for index, row in self.rows.items():
                if row.step_id == retry.step_id:
                    again = StepChange(step_index=index, step_id=row.step_id)
                    self.rows[index] = merged_change(row, again)
        for step in steps:
            self.rows[step.step_index] = merged_change(self.rows.get(step.step_index), step)

    def summary(self) -> FlowSummary | None:
        """Return the summary; None if no event was taken."""
        if self._first is None or self._last is None:
            return None
        begun = self._first.kind if isinstance(self._first.kind, FlowInitialized) else None
        rows = self.rows
        cursor = 0
        while cursor in rows and rows[cursor].status is StepStatus.FINISHED:
            cursor += 1
        statuses = [row.status for row in rows.values()]
        failed = -1
        for index, row in rows.items():
            failed = max(failed, index if row.status is StepStatus.FAILED else -1)
        return FlowSummary(
            flow_id=self._first.flow_id,
            state=flow_state(statuses, completed=self._completed, cancelled=self._cancelled),
            definition_hash=None if begun is None else begun.definition_hash,
            step_count=None if begun is None else begun.step_count,
            finished_steps=statuses.count(StepStatus.FINISHED),
            cursor=cursor,
            current_step=rows[cursor].step_id if cursor in rows else None,
            started_at=self._first.ts,
            last_event_at=self._last.ts,
            version=self._last.version + 1,
            failure=rows[failed].error if failed >= 0 else None,
            name=None if begun is None or begun.name is UNSET else begun.name,
            label=None if begun is None or begun.label is UNSET else begun.label,
            parent=None if begun is None or begun.parent is UNSET else begun.parent,
        )

"""The fold of a flow's events into the attempts at its steps, for people.

Replay keeps the last attempt of a step; a timeline shows them all. The fold needs no definition,
so a step without events is unknown to it, and it never raises: whether the events fit together is
decided by replay. The state of the flow is decided by `domain.flow_state`, from the status in which
the events leave each step.
"""

from collections import deque
from datetime import datetime
from typing import Any, assert_never

from msgspec import UNSET
from msgspec.structs import replace

from chem_persistence.domain.events import (
    INVALIDATED,
    SEALED,
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEvent,
    FlowInitialized,
    PropertyPreferenceAssigned,
    ResultOrigin,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.flow_state import FlowState, flow_state
from chem_persistence.domain.instance import StepStatus
from chem_persistence.views.attributions import event_actor
from chem_persistence.views.flow_view import (
    AttemptOutcome,
    AttemptView,
    Invalidation,
    PageLimits,
    StepView,
)
from chem_persistence.views.wording import short

__all__ = ["FlowAttempts"]

LONGEST_QUESTION = 400
LONGEST_ERROR_CLASS = 200


class FlowAttempts:
    """The attempts at a flow's steps; `take` its events in order."""

    def __init__(self, limits: PageLimits) -> None:
        self._limits = limits
        self._steps: dict[tuple[int, str], _Step] = {}
        self._completed = False
        self._cancelled = False

    @property
    def state(self) -> FlowState:
        """The state of the flow after the events taken so far."""
        statuses = (step.status for step in self._steps.values() if step.has_begun)
        return flow_state(statuses, completed=self._completed, cancelled=self._cancelled)

    def steps(self) -> list[StepView]:
        """Return the steps that an event names, in the definition's order."""
        return [step.view() for _, step in sorted(self._steps.items())]

    def take(self, event: FlowEvent) -> None:  # noqa: PLR0912  # one match over every event
        """Add the next event."""
        fact, ts = event.kind, event.ts
        match fact:
            case StepStarted():
                self._step(fact.step_index, fact.step_id).start(ts)
            case StepFinished():
                origin = None if fact.reused_from is UNSET else fact.reused_from
                self._step(fact.step_index, fact.step_id).finish(ts, origin)
            case StepFailed():
                self._step(fact.step_index, fact.step_id).fail(ts, self._shortened(fact.error))
            case StepSignal(signal=name) if name == SEALED:
                pass  # it is about the flow, long after its steps
            case StepSignal():
                self._step(fact.step_index, fact.step_id).signal(ts, _invalidation(event))
            case StepWaits():
                self._step(fact.step_index, fact.step_id).wait(ts, fact.until)
            case UserInteractionRequested():
                question = short(fact.hint or "", LONGEST_QUESTION)
                self._step(fact.step_index, fact.step_id).ask(ts, question)
            case UserInteractionProvided():
                self._step(fact.step_index, fact.step_id).answer(ts)
            case RetryScheduled():
                for step in self._steps.values():
                    if step.id == fact.step_id:
                        step.retry(None if fact.not_before is UNSET else fact.not_before)
            case FlowCompleted():
                self._completed = True
            case FlowCancelled():
                self._cancelled = True
            case FlowInitialized() | PropertyPreferenceAssigned() | BranchCreated():
                pass
            case _ as never:
                assert_never(never)

    def _step(self, index: int, step_id: str) -> "_Step":
        return self._steps.setdefault((index, step_id), _Step(index, step_id, self._limits))

    def _shortened(self, error: StepError) -> StepError:
        return StepError(
            short(error.error_class, LONGEST_ERROR_CLASS),
            short(error.message, self._limits.text),
            short(error.traceback, self._limits.text),
        )


def _invalidation(event: FlowEvent) -> Invalidation | None:
    """Return what a signal says of the step's result; None if it does not invalidate it."""
    fact = event.kind
    if not isinstance(fact, StepSignal) or fact.signal != INVALIDATED:
        return None
    reason = fact.data.get("reason") if isinstance(fact.data, dict) else None
    said = short(reason, LONGEST_QUESTION) if isinstance(reason, str) else ""
    return Invalidation(event.ts, event_actor(event), said)


class _Step:
    """One step: its status, its latest attempts and signals, and how many there were of each."""

    def __init__(self, index: int, step_id: str, limits: PageLimits) -> None:
        self.id = step_id
        self.status = StepStatus.PENDING
        self.has_begun = False
        self._index = index
        self._attempt_count = 0
        self._attempts: deque[AttemptView] = deque(maxlen=limits.attempts)
        self._signal_count = 0
        self._signals: deque[datetime] = deque(maxlen=limits.signals)
        self._retry_count = 0
        self._origin: ResultOrigin | None = None
        self._invalidated: Invalidation | None = None

    def view(self) -> StepView:
        return StepView(
            index=self._index,
            id=short(self.id),
            attempt_count=self._attempt_count,
            attempts=tuple(self._attempts),
            signal_count=self._signal_count,
            signals=tuple(self._signals),
            retry_count=self._retry_count,
            origin=self._origin,
            invalidated=self._invalidated,
        )

    def start(self, ts: datetime) -> None:
        """Start an attempt; it supersedes one that is still open and does not wait."""
        self.status, self.has_begun = StepStatus.RUNNING, True
        if self._is_open():
            last = self._attempts[-1]
            if last.outcome is AttemptOutcome.WAITED:
                self._change(ended=last.last_sign)
            else:
                self._change(ended=ts, outcome=AttemptOutcome.SUPERSEDED)
        self._attempt_count += 1
        self._attempts.append(
            AttemptView(
                number=self._attempt_count, began=ts, ended=None, outcome=AttemptOutcome.OPEN
            )
        )

    def finish(self, ts: datetime, origin: ResultOrigin | None) -> None:
        """End the open attempt with a result; a result that was taken over had none."""
        self._origin = origin
        if origin is not None and not self._is_open():
            self.status, self.has_begun = StepStatus.FINISHED, True
            reused = AttemptOutcome.REUSED
            self._attempts.append(AttemptView(number=0, began=ts, ended=ts, outcome=reused))
            return
        self._end(ts, StepStatus.FINISHED, outcome=AttemptOutcome.FINISHED)

    def fail(self, ts: datetime, error: StepError) -> None:
        self._end(ts, StepStatus.FAILED, outcome=AttemptOutcome.FAILED, error=error)

    def wait(self, ts: datetime, until: datetime | None) -> None:
        """Record that the open attempt waits, until an outcome or, in hindsight, the next start."""
        if not self._is_open():
            self.start(ts)
        self.status = StepStatus.WAITING
        self._change(outcome=AttemptOutcome.WAITED, last_sign=ts, until=until)

    def ask(self, ts: datetime, question: str) -> None:
        self._end(
            ts, StepStatus.AWAITING_USER_INPUT, outcome=AttemptOutcome.ASKED, question=question
        )

    def answer(self, ts: datetime) -> None:
        self.status, self.has_begun = StepStatus.PENDING, True
        if self._attempts and self._attempts[-1].outcome is AttemptOutcome.ASKED:
            self._change(answered=ts)

    def retry(self, not_before: datetime | None) -> None:
        self.status = StepStatus.PENDING
        self._retry_count += 1
        if self._attempts and self._attempts[-1].outcome is AttemptOutcome.FAILED:
            self._change(retry_at=not_before)

    def signal(self, ts: datetime, invalidation: Invalidation | None) -> None:
        self._invalidated = invalidation or self._invalidated
        self._signal_count += 1
        self._signals.append(ts)
        if self._is_open():
            self._change(last_sign=ts)

    def _end(self, ts: datetime, status: StepStatus, **changes: Any) -> None:
        """End the open attempt; without one, record an attempt of no duration."""
        if not self._is_open():
            self.start(ts)
        self.status = status
        self._change(ended=ts, **changes)

    def _is_open(self) -> bool:
        return bool(self._attempts) and self._attempts[-1].ended is None

    def _change(self, **changes: Any) -> None:
        self._attempts[-1] = replace(self._attempts[-1], **changes)

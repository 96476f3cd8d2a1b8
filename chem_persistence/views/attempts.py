"""The attempts at a flow's steps, and the flow's state, as its events tell them one after another.

Replay keeps the last attempt of a step; a picture shows them all. It needs no definition, so steps that no event
names are only known by their number, and it refuses nothing: whether the events fit together is what replay says.
"""

from collections import deque
from datetime import datetime
from typing import Any, assert_never

from msgspec.structs import replace

from chem_persistence.domain.answers import FlowState
from chem_persistence.domain.events import (
    BranchCreated,
    FlowCompleted,
    FlowEvent,
    FlowInitialized,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.views.flow_view import AttemptOutcome, AttemptView, StepView
from chem_persistence.views.page_limits import PageLimits
from chem_persistence.views.wording import short

__all__ = ["StepTracks"]


class StepTracks:
    """Takes a flow's events in order."""

    def __init__(self, limits: PageLimits) -> None:
        self.state = FlowState.RUNNING
        self._limits = limits
        self._tracks: dict[tuple[int, str], _Track] = {}

    def take(self, event: FlowEvent) -> None:
        """Go on with the next event."""
        kind, ts = event.kind, event.ts
        match kind:
            case StepStarted():
                self._track(kind.step_index, kind.step_id).begin(ts)
                self.state = FlowState.RUNNING
            case StepFinished():
                self._track(kind.step_index, kind.step_id).end(ts, AttemptOutcome.FINISHED)
                self.state = FlowState.RUNNING
            case StepFailed():
                self._track(kind.step_index, kind.step_id).fail(ts, self._shortened(kind.error))
                self.state = FlowState.FAILED
            case StepSignal():
                self._track(kind.step_index, kind.step_id).signal(ts)
            case UserInteractionRequested():
                self._track(kind.step_index, kind.step_id).ask(ts, short(kind.hint or "", 400))
                self.state = FlowState.AWAITING_USER_INPUT
            case UserInteractionProvided():
                self._track(kind.step_index, kind.step_id).answer(ts)
                self.state = FlowState.RUNNING
            case RetryScheduled():
                for track in self._tracks.values():
                    if track.step_id == kind.step_id:
                        track.retries += 1
                self.state = FlowState.RUNNING
            case FlowCompleted():
                self.state = FlowState.COMPLETED
            case FlowInitialized() | PropertyPreferenceAssigned() | BranchCreated():
                pass
            case _ as never:
                assert_never(never)

    def steps(self) -> list[StepView]:
        """Give the steps that were named, in the definition's order."""
        return [track.view() for _, track in sorted(self._tracks.items())]

    def _track(self, index: int, step_id: str) -> "_Track":
        return self._tracks.setdefault((index, step_id), _Track(index, step_id, self._limits))

    def _shortened(self, error: StepError) -> StepError:
        return StepError(
            short(error.error_class, 200),
            short(error.message, self._limits.text),
            short(error.traceback, self._limits.text),
        )


class _Track:
    """One step."""

    def __init__(self, index: int, step_id: str, limits: PageLimits) -> None:
        self.step_id = step_id
        self.retries = 0
        self._index = index
        self._count = 0
        self._attempts: deque[AttemptView] = deque(maxlen=limits.attempts)
        self._signal_count = 0
        self._signals: deque[datetime] = deque(maxlen=limits.signals)

    def view(self) -> StepView:
        """Give what is shown of it."""
        return StepView(
            index=self._index,
            id=short(self.step_id),
            attempt_count=self._count,
            attempts=tuple(self._attempts),
            signal_count=self._signal_count,
            signals=tuple(self._signals),
            retry_count=self.retries,
        )

    def begin(self, ts: datetime) -> None:
        """Begin an attempt; the one before it, if it is open, was interrupted."""
        if self._is_open():
            self._change(ended=ts, outcome=AttemptOutcome.INTERRUPTED)
        self._count += 1
        self._attempts.append(
            AttemptView(number=self._count, began=ts, ended=None, outcome=AttemptOutcome.OPEN)
        )

    def end(self, ts: datetime, outcome: AttemptOutcome) -> None:
        """End the open attempt; where none was begun, it is one without length."""
        if not self._is_open():
            self.begin(ts)
        self._change(ended=ts, outcome=outcome)

    def fail(self, ts: datetime, error: StepError) -> None:
        """End the open attempt with an error."""
        self.end(ts, AttemptOutcome.FAILED)
        self._change(error=error)

    def ask(self, ts: datetime, question: str) -> None:
        """End the open attempt with a question."""
        self.end(ts, AttemptOutcome.ASKED)
        self._change(question=question)

    def answer(self, ts: datetime) -> None:
        """Note when the question of the last attempt was answered."""
        if self._attempts and self._attempts[-1].outcome is AttemptOutcome.ASKED:
            self._change(answered=ts)

    def signal(self, ts: datetime) -> None:
        """Count a signal."""
        self._signal_count += 1
        self._signals.append(ts)
        if self._is_open():
            self._change(last_sign=ts)

    def _is_open(self) -> bool:
        return bool(self._attempts) and self._attempts[-1].ended is None

    def _change(self, **changes: Any) -> None:
        self._attempts[-1] = replace(self._attempts[-1], **changes)

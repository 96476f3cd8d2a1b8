"""A flow that is run by the holder of its lease.

Nobody else appends what runs the flow, but others may speak: send a signal, answer, prefer, branch.
Then the outcome of a step is appended again behind what they said. What a worker leaves behind when
it dies or is told to stop is in the log: a start without an outcome, and the signal that says why.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from enum import StrEnum
from typing import Any, NoReturn, TypeAlias
from uuid import UUID

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    RELEASED,
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEvent,
    FlowEventKind,
    LibrarySignal,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepFailed,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
)
from chem_persistence.domain.fingerprints import step_fingerprint
from chem_persistence.domain.instance import FlowInstance, StepStatus
from chem_persistence.domain.replay import replay
from chem_persistence.engine.attempt import Attempt, describe_failure
from chem_persistence.engine.leases.ending import cancellation, end_step
from chem_persistence.engine.next_step import Run
from chem_persistence.engine.run import FlowRun, Outcome
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.steps_fit import Steps
from chem_persistence.engine.watching import SharedStore
from chem_persistence.errors import (
    ConcurrencyConflict,
    FlowIsWaiting,
    FlowWasCancelled,
    StaleLease,
    StepRaised,
    StoreError,
    StoreUnavailable,
    WorkerLost,
)
from chem_persistence.store.leasing.slots import Slots, Taken
from chem_persistence.store.ports import EventStore
from chem_persistence.telemetry.flow_log import log_step_failed

__all__ = ["AroundAttempt", "Interruption", "LeasedRun", "nothing", "unchanged"]

_logger = logging.getLogger("chem_persistence.leases")

STORE_PAUSE = 0.5
"""The seconds after which an outcome is appended again that the store could not take."""

AroundAttempt: TypeAlias = Callable[[Step[Any, Any]], AbstractAsyncContextManager[None]]
"""Returns what a step runs in, such as the resources that it uses."""


AroundStep: TypeAlias = Callable[[Attempt, Awaitable[Outcome]], Awaitable[Outcome]]
"""Returns an attempt at a step whose start is in the log, as it is to be awaited."""


def nothing(_: object) -> AbstractAsyncContextManager[None]:
    """Return a block that does nothing."""
    return nullcontext()


def unchanged(_: Attempt, attempting: Awaitable[Outcome]) -> Awaitable[Outcome]:
    """Return an attempt as it is."""
    return attempting


_SPOKEN = (StepSignal, UserInteractionProvided, PropertyPreferenceAssigned, BranchCreated)
"""What others append to a flow that somebody runs."""

_GOES_ON = (StepStarted, RetryScheduled, FlowCompleted, FlowCancelled)
"""What does not follow the outcome of a step whose flow is cancelled."""


class Interruption(StrEnum):
    """Why the holder of a flow stops its running step."""

    LOST = "the lease is lost"
    CANCELLED = "the flow is cancelled"
    STOPPED = "the worker stops"


class LeasedRun(FlowRun):
    """A flow that is run under a lease, by which `store` appends.

    The start of a step that uses something, and its outcome, are appended in the block of
    `around_attempt`, and only if it has what it uses of `slots`. A step runs in the block of
    `around_step`. `cancelled` is the reason for which somebody asked to cancel the flow: the next
    append then cancels it, after the children of its step, and raises `FlowWasCancelled`.
    `parent` is the flow whose child it is. With `counts_crashes` a step that was started too often
    without an outcome fails. `on_begun` is called when a flow without events has its first ones.
    With `keeps_lease` the lease is kept while a step waits or is to be tried again.
    """

    slots: Slots | None = None
    takes_resources = True
    counts_crashes = True
    on_begun: Callable[[], object] | None = None
    keeps_lease = False
    lacks_slots = False
    """Whether `look_after` is set because slots were not free."""
    _taken_for: int | None = None  # the step that has slots

    def __init__(
        self,
        store: EventStore,
        steps: Steps,
        definition: FlowDefinition,
        instance: FlowInstance,
        *,
        shared: SharedStore | None = None,
        input_artifact: Artifact | None = None,
    ) -> None:
        super().__init__(store, steps, definition, instance)
        self.shared = shared
        self.parent: UUID | None = None
        self.interruption: Interruption | None = None
        self.cancelled: str | None = None
        self.around_attempt: AroundAttempt = nothing
        self.around_step: AroundStep = unchanged
        self._output = input_artifact
        self._looked_at = 0
        self._task: asyncio.Task[Any] | None = None  # in which a step runs

    @property
    def is_released(self) -> bool:
        """Whether what was appended last released the lease."""
        return self.instance.completed or (self.pauses and not self.keeps_lease)

    @property
    def pauses(self) -> bool:
        """Whether what was appended last lets the flow wait for a time or an event."""
        return self.retry_after is not None or self.has_parked

    @property
    def has_ended(self) -> bool:
        """Whether the flow is completed or cancelled, or has failed and is not tried again."""
        index = self.instance.cursor
        if self.instance.completed or self.instance.cancelled is not None:
            return True
        return (
            index < len(self.instance.steps)
            and self.instance.steps[index].status is StepStatus.FAILED
        )

    async def asked_to_cancel(self) -> str | None:
        """Return the reason for which others have asked to cancel the flow since it was loaded.

        Raises what `EventStore.list` raises.
        """
        version = max(self.instance.version, self._looked_at)
        events = await self._store.list(self.instance.id, after_version=version - 1)
        self._looked_at = version + len(events)
        return cancellation(events)

    async def cancel(self) -> None:
        """Cancel the flow with an event, unless it is completed.

        Raises:
            FlowWasCancelled: it is cancelled.
            FlowIsWaiting: it is not cancelled yet, since a job of it has to settle.
            StaleLease: the lease is lost.
        """
        await self._catch_up()
        if not self.instance.completed:
            await self._append([], [])

    async def leave(self) -> None:
        """Append that the step's start has no outcome since its worker stops, if it has none.

        Raises:
            FlowWasCancelled: somebody asked that the flow be cancelled, and it is.
            FlowIsWaiting: as `cancel`.
            StaleLease: the lease is lost.
        """
        while True:
            await self._catch_up()
            index = self.instance.cursor
            if self.instance.completed or index == len(self.instance.steps):
                return
            slot = self.instance.steps[index]
            if slot.status is not StepStatus.RUNNING or slot.starts == 0:
                return
            with suppress(ConcurrencyConflict):  # its own interrupted append is stored by now
                await self._append([LibrarySignal(index, slot.step_id, RELEASED)], [])
                return

    def _attempt(
        self, decided: Run, *, started_here: bool, go_on: bool
    ) -> Coroutine[Any, Any, None]:
        if self.counts_crashes and not started_here:
            index = decided.step_index
            starts, step = self.instance.steps[index].starts, self._steps[index]
            if starts >= step.retry.crashes:
                return self._fail_for_good(decided, WorkerLost(step.id, starts))
        return super()._attempt(decided, started_here=started_here, go_on=go_on)

    def may_start_ahead(self, index: int) -> bool:
        """Return whether the start of a step may be part of the append of the outcome before it."""
        return index >= len(self._steps) or not self._steps[index].uses

    async def _advance_with_resources(self, index: int, *, go_on: bool) -> None:
        """Run a step with what it uses; if that is not free, set `look_after` and append nothing.

        It waits for what is limited in this process, but not for slots: the flow is released.
        """
        step = self._steps[index]
        self.takes_resources = False
        try:
            if not self.instance.version:
                await self._append([], [])  # a flow without a row can have no slots
            async with self.around_attempt(step):
                taken = await self._take_slots(index, step)
                if taken.pause is not None:
                    _logger.debug("flow %s waits for %r", self.instance.id, taken.short_of)
                    self.look_after, self.lacks_slots = taken.pause, True
                    return
                await self.advance(go_on=go_on)
        finally:
            self.takes_resources = True

    async def _take_slots(self, index: int, step: Step[Any, Any]) -> Taken:
        self.lacks_slots = False
        if self.slots is None:
            return Taken(is_limited=False)
        taken = await self.slots.take(self.instance.id, index, step.uses)
        if taken.is_limited and taken.pause is None:
            self._taken_for = index
        return taken

    async def _call_next(self, context: StepContext, uses: Mapping[str, int]) -> None:
        """Call those who wait for what a step has freed; they also ask again by themselves."""
        status = self.instance.steps[context.step_index].status
        if self.slots is None or status not in (StepStatus.FINISHED, StepStatus.FAILED):
            return
        self._taken_for = None
        try:
            await self.slots.call_next(uses)
        except StoreError as error:
            _logger.info("the flows that wait for slots were not called: %s", type(error).__name__)

    async def free_unused(self, token: UUID) -> None:
        """Free the slots of a step that was not begun, before the lease `token` is released."""
        index = self._taken_for
        if (
            index is not None
            and self.slots is not None
            and self.instance.steps[index].status is StepStatus.PENDING
        ):
            await self.slots.give_back(self.instance.id, index, token)

    async def _fail_for_good(self, decided: Run, error: WorkerLost) -> NoReturn:
        step = self._definition.steps[decided.step_index]
        inputs = [] if decided.input is None else [decided.input]
        fingerprint = step_fingerprint(step.definition_hash, inputs)
        described = describe_failure(error)
        await self._append(
            [StepFailed(decided.step_index, decided.step_id, described, fingerprint)], []
        )
        log_step_failed(self.instance.id, decided.step_id, decided.attempts, described.error_class)
        raise StepRaised(self.instance.id, decided.step_id) from error

    async def _produce(self, attempt: Attempt) -> Outcome:
        self._task = asyncio.current_task()
        if self._is_interrupted():  # while the start was appended
            await asyncio.sleep(0)
        return await self.around_step(attempt, super()._produce(attempt))

    async def _save(self, index: int, step_id: str, artifact: Artifact) -> None:
        await super()._save(index, step_id, artifact)
        self._is_interrupted()  # while the value was appended

    def _is_interrupted(self) -> bool:
        """Return whether the running step is to end, and then cancel its task."""
        if self.interruption is not None and self._task is not None:
            self._task.cancel(self.interruption.value)
        return self.interruption is not None

    async def _fail(self, index: int, attempt: Attempt, error: BaseException) -> bool:
        if self.interruption is not None:  # the step failed because it was interrupted
            raise asyncio.CancelledError(self.interruption.value) from error
        return await super()._fail(index, attempt, error)

    async def _append(self, kinds: Sequence[FlowEventKind], artifacts: Sequence[Artifact]) -> None:
        """Append behind what others have said; if that was a cancellation, cancel the flow."""
        if self.interruption is Interruption.LOST:
            raise StaleLease(self.instance.id)
        self.is_appending, is_done = True, False
        try:
            while not is_done:
                try:
                    if self.cancelled is not None:
                        await self._end_step(self.cancelled, kinds)
                    await super()._append(self._unless_cancelled(kinds), artifacts)
                    is_done = True
                except ConcurrencyConflict:
                    if not self.instance.version:
                        raise  # somebody else has begun the flow
                    await self._hear()
                    is_done = self._is_answered(kinds)
        finally:
            self.is_appending = False
        if self.on_begun is not None:
            self.on_begun()
            self.on_begun = None
        if self.instance.cancelled is not None:
            raise FlowWasCancelled(self.instance.id, self.instance.cancelled)

    def _is_answered(self, kinds: Sequence[FlowEventKind]) -> bool:
        """Return whether a person has answered meanwhile, so that a default answer is too late."""
        index = self.instance.cursor
        return (
            isinstance(next(iter(kinds), None), UserInteractionProvided)
            and self.instance.steps[index].status is not StepStatus.AWAITING_USER_INPUT
        )

    async def _end_step(self, reason: str, kinds: Sequence[FlowEventKind]) -> None:
        """End what the step at which the flow is has begun elsewhere; see `end_step`.

        Raises:
            FlowIsWaiting: a job has to settle, or could not be cancelled: the flow is not either.
        """
        index = self.instance.cursor
        if self.shared is None or index == len(self._steps):
            return
        if self.instance.steps[index].has_begun:
            look = self._look_at(index, None, self.shared)
            left = await end_step(self._steps[index], look, kinds, reason)
            if isinstance(left, StepWaits):
                await super()._append([left], [])
                self.has_parked = True
            if left is not None:
                slot = self.instance.steps[index]
                raise FlowIsWaiting(self.instance.id, slot.step_id, slot.until)

    def _unless_cancelled(self, kinds: Sequence[FlowEventKind]) -> Sequence[FlowEventKind]:
        if self.cancelled is None:
            return kinds
        kept = [kind for kind in kinds if not isinstance(kind, _GOES_ON)]
        return [*kept, FlowCancelled(self.cancelled)]

    async def _hear(self) -> None:
        """Read what others have said.

        Raises:
            ConcurrencyConflict: somebody else has run the flow.
        """
        seen = self.instance.version
        events = await self._catch_up()
        if not events or not all(isinstance(event.kind, _SPOKEN) for event in events):
            raise ConcurrencyConflict(self.instance.id, seen, self.instance.version)

    async def _catch_up(self) -> list[FlowEvent]:
        """Replay the events that were appended after those that are known, and return them."""
        events = await self._store.list(self.instance.id, after_version=self.instance.version - 1)
        self.instance = replay(self.instance, events, self._definition)
        self.cancelled = self.cancelled or cancellation(events)
        return events

    async def _waits_for_store(self, unavailable: StoreUnavailable) -> bool:
        """Wait a moment for the store, again and again while it is away and the flow is held.

        What a step worked out in hours is not given up for a restart of the server. When the lease
        ends, or the worker stops, the task is cancelled. An attempt that was stored although its
        reply was lost makes the next one conflict; then the flow is loaded again, with the outcome.
        """
        if self.interruption is not None:
            return False
        _logger.warning("flow %s waits for the store: %s", self.instance.id, unavailable)
        await asyncio.sleep(STORE_PAUSE)
        return True

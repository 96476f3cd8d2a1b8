"""Carry out what `next_step` decides for one flow, one append at a time."""

import random
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, timedelta
from functools import partial
from typing import Any, TypeAlias, assert_never

from msgspec.structs import replace

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import (
    SAVED,
    FlowCompleted,
    FlowEventKind,
    LibrarySignal,
    RetryScheduled,
    StepFailed,
    StepFinished,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.engine.appends import FlowAppends
from chem_persistence.engine.attempt import (
    Attempt,
    decoded_input,
    describe_failure,
    is_interruption,
)
from chem_persistence.engine.next_step import Await, Complete, Refuse, Run, after_success, next_step
from chem_persistence.engine.steps.ask import Ask
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.engine.steps.step import Question, Step, Wait
from chem_persistence.engine.watching import (
    Begin,
    Later,
    Look,
    SharedStore,
    WatchingStep,
    needed_store,
    wait_until,
)
from chem_persistence.errors import (
    ArtifactCorrupt,
    ConcurrencyConflict,
    FlowAwaitsUser,
    HistoryLost,
    InvalidPayload,
    StepRaised,
    StoreError,
    StoreUnavailable,
)
from chem_persistence.store.attribution import event_metadata
from chem_persistence.telemetry.flow_log import (
    log_step_failed,
    log_step_finished,
    log_step_not_stored,
    log_step_retry,
)
from chem_persistence.telemetry.hooks import count_step_retry, watched_step

__all__ = ["FlowRun", "Outcome"]

BY_DEFAULT = "timeout"
"""The actor of an answer that nobody gave in time."""

Pause: TypeAlias = Wait | Question | Later | Begin
"""What an attempt at a step, or a look at one, comes to that has not finished the step."""

Outcome: TypeAlias = list[Artifact] | Pause
"""What an attempt at a step, or a look at one, comes to."""

_NOT_OF_THE_STEP = (StoreError, ConcurrencyConflict, HistoryLost)
"""Errors with which a look at other flows ends without an outcome: the next one may succeed."""


class FlowRun(FlowAppends):
    """One flow that is being run; `instance` is its state after everything that was appended.

    `retry_after` is set when a step has failed and its retry is scheduled: how long after that.
    `has_parked` is whether the last append let the step wait. `look_after` is set when a waiting
    step was looked at and there was nothing to append: after how long to look again.
    """

    shared: SharedStore | None = None
    """The store through which steps submit other flows and read them; None: its own, if it can."""

    takes_resources = False
    """Whether a step begins only when it has what it uses."""

    async def advance(self, *, go_on: bool) -> None:
        """Run the next step; with `go_on`, the append of its outcome also starts the step after it.

        A failure that the step's `retry` tries again is no error: `retry_after` is set.

        Raises:
            StepRaised, FlowHasFailed, FlowAwaitsUser, FlowIsWaiting, FlowWasCancelled,
            ConcurrencyConflict, StoreUnavailable: see `FlowEngine`.
        """
        self.retry_after, self.look_after, self.has_parked = None, None, False
        next_one = next_step(self.instance, self._definition)
        if isinstance(next_one, Run):
            go_on = go_on and self.may_start_ahead(next_one.step_index + 1)
        match next_one:
            case Run(waits=True) as decided if self._is_watching(decided.step_index):
                await self._attempt(decided, started_here=True, go_on=go_on)
            case Run() if self._reuse is not None and (
                reused := await self._reused(self.instance, go_on=go_on)
            ):
                await self._take_over(reused, go_on=go_on)
            case Run() as decided:
                if self.takes_resources and self._steps[decided.step_index].uses:
                    await self._advance_with_resources(decided.step_index, go_on=go_on)
                    return
                started_here = self._started == decided.step_index
                number = decided.attempts + (not started_here)
                work = self._attempt(decided, started_here=started_here, go_on=go_on)
                index, step_id = decided.step_index, decided.step_id
                await watched_step(
                    work,
                    self.instance.id,
                    index,
                    step_id,
                    number,
                    definition_hash=self.measured_as,
                )
            case Complete(flow_fingerprint=fingerprint):
                await self._append([FlowCompleted(fingerprint)], [])
            case Await() as decided:
                await self._answer_by_default(decided)
            case Refuse(error=error):
                raise error
            case _ as never:
                assert_never(never)

    async def _advance_with_resources(self, index: int, *, go_on: bool) -> None:
        """Run a step when it has what it uses."""
        raise NotImplementedError

    def _is_watching(self, index: int) -> bool:
        return isinstance(self._steps[index], WatchingStep)

    async def _attempt(self, decided: Run, *, started_here: bool, go_on: bool) -> None:
        index, step = decided.step_index, self._steps[decided.step_index]
        watching = isinstance(step, WatchingStep)
        given = None if watching else await self._artifact(decided.input)
        if not started_here:
            await self._append([StepStarted(index, step.id)], [])
        attempt = self._new_attempt(decided, step, given)
        try:
            outcome = await self._produce(attempt)
        except BaseException as error:
            if is_interruption(error) or (watching and isinstance(error, _NOT_OF_THE_STEP)):
                raise
            if await self._fail(index, attempt, error):
                return
            raise StepRaised(self.instance.id, step.id) from error
        try:
            if isinstance(outcome, list):
                await self._finish(index, attempt, outcome, go_on=go_on)
            else:
                await self._pause(decided, attempt, outcome, go_on=go_on)
        except (InvalidPayload, ArtifactCorrupt) as error:  # the store refuses the step's artifacts
            if not await self._fail(index, attempt, error):
                raise StepRaised(self.instance.id, step.id) from error

    async def _pause(self, decided: Run, attempt: Attempt, found: Pause, *, go_on: bool) -> None:
        """Append what an attempt, or a look, has come to that has not finished the step."""
        index = decided.step_index
        match found:
            case Later(after=after):
                self.look_after = after
            case Begin():
                await self._append([StepStarted(index, attempt.step.id)], [])
                await FlowRun._attempt(self, decided, started_here=True, go_on=go_on)
            case Wait():
                await self._park(index, attempt, found)
            case Question():
                await self._ask(index, attempt, found)
            case _ as never:
                assert_never(never)

    def _new_attempt(
        self, decided: Run | Await, step: Step[Any, Any], given: Artifact | None
    ) -> Attempt:
        index = decided.step_index
        slot = self.instance.steps[index]
        return Attempt(
            step,
            given,
            given_hash=decided.input,
            definition_hash=self._definition.steps[index].definition_hash,
            store=self._store,
            flow_id=self.instance.id,
            step_index=index,
            number=slot.attempts,
            reader=self._steps[index + 1] if index + 1 < len(self._steps) else None,
            data=slot.data,
            answer=slot.answer,
            keep=partial(self._save, index, step.id),
        )

    def _produce(self, attempt: Attempt) -> Coroutine[Any, Any, Outcome]:
        """Return the attempt at a step whose start is in the log, or the look at one that waits.

        It returns the artifacts, or what else it came to.
        """
        if isinstance(attempt.step, WatchingStep):
            return self._look(attempt, attempt.step)
        return attempt.produce()

    async def _look(self, attempt: Attempt, step: WatchingStep[Any, Any]) -> Outcome:
        index = attempt.context.step_index
        shared = needed_store(self.shared or self._store, step.id)
        found = await step.look(self._look_at(index, attempt.given_hash, shared))
        if not isinstance(found, Artifact):
            return found
        attempt.check_readable(found)
        return [found]

    def _look_at(self, index: int, given: str | None, shared: SharedStore) -> Look:
        slot, may_reuse = self.instance.steps[index], self.may_reuse
        return Look(
            self.instance.id,
            index,
            slot,
            given,
            shared,
            self.clock,
            self._results,
            may_reuse=may_reuse,
        )

    async def _save(self, index: int, step_id: str, artifact: Artifact) -> None:
        """Store a value that a running step saves."""
        signal = LibrarySignal(index, step_id, SAVED, {"artifact": artifact.hash})
        async with self._saving:
            await self._append([signal], [artifact])

    async def _park(self, index: int, attempt: Attempt, wait: Wait) -> None:
        """Append that a step waits."""
        waits = StepWaits(index, attempt.step.id, wait_until(wait, self.clock), wait.data)
        context = attempt.context
        await self._append_outcome(attempt, [*context.signals, waits], context.artifacts)
        self.has_parked = True

    async def _ask(self, index: int, attempt: Attempt, question: Question) -> None:
        """Append that a step asks a person."""
        asked = UserInteractionRequested(index, attempt.step.id, question.schema, question.text)
        if question.timeout is not None:
            until = self.clock.now().astimezone(UTC) + timedelta(seconds=question.timeout)
            asked = replace(asked, until=until)
        context = attempt.context
        await self._append_outcome(attempt, [*context.signals, asked], context.artifacts)
        self.has_parked = True

    async def _answer_by_default(self, decided: Await) -> None:
        """Append the default answer to a question whose time is over, unless a person answers.

        Whether the time is over is decided by the caller.

        Raises:
            FlowAwaitsUser: the question has no end.
            StepRaised: there is no default answer, and no retry.
        """
        index, step = decided.step_index, self._steps[decided.step_index]
        if not isinstance(step, Ask) or self.instance.steps[index].until is None:
            raise FlowAwaitsUser(self.instance.id, step.id)
        given = await self._artifact(decided.input)
        try:
            answer = step.default_answer(decoded_input(step, given))
        except Exception as error:
            if await self._fail(index, self._new_attempt(decided, step, given), error):
                return
            raise StepRaised(self.instance.id, step.id) from error
        with event_metadata(actor=BY_DEFAULT):
            provided = UserInteractionProvided(index, step.id, answer.payload)
            await self._append([provided], [answer])

    async def _finish(
        self, index: int, attempt: Attempt, artifacts: Sequence[Artifact], *, go_on: bool
    ) -> None:
        step_id = self._steps[index].id
        outputs = tuple(artifact.hash for artifact in artifacts)
        done = [StepFinished(index, step_id, outputs, attempt.fingerprint)]
        if go_on and self._reuse is not None:
            try:
                done += await self._reused(after_success(self.instance, done[0]), go_on=True)
            except StoreError:  # the outcome is stored, if that can wait: it is not lost for this
                go_on = False
        context = attempt.context
        ahead = self._ahead(done, go_on=go_on)
        kinds = [*context.signals, *context.preferences, *done, *ahead]
        await self._append_outcome(attempt, kinds, artifacts)
        self._output = artifacts[0]
        log_step_finished(self.instance.id, step_id, attempt.context.attempt)
        self._have_taken_over(done[1:])

    async def _fail(self, index: int, attempt: Attempt, error: BaseException) -> bool:
        """Append an attempt's failure; return whether its retry is scheduled."""
        step_id, described = self._steps[index].id, describe_failure(error)
        failed = StepFailed(index, step_id, described, attempt.fingerprint)
        kinds: list[FlowEventKind] = [*attempt.context.signals, failed]
        delay, retry = self._retry_of(index, error, described.error_class)
        if retry is not None:
            kinds.append(retry)
        await self._append_outcome(attempt, kinds, [])
        log_step_failed(self.instance.id, step_id, attempt.context.attempt, described.error_class)
        if retry is None:
            return False
        self.retry_after = delay
        count_step_retry(step_id, retry.retry_index, described.error_class)
        log_step_retry(self.instance.id, step_id, retry.retry_index)
        return True

    def _retry_of(
        self, index: int, error: BaseException, error_class: str
    ) -> tuple[timedelta, RetryScheduled] | tuple[None, None]:
        """Return the retry of a failure as the step's policy says, and how long after it."""
        step, retries = self._steps[index], self.instance.steps[index].retry_count
        delay = step.retry.delay(error, retries, random.random())  # noqa: S311  # no secret
        if delay is None:
            return None, None
        not_before = self.clock.now().astimezone(UTC) + delay
        retry = RetryScheduled(step.id, retries + 1, error_class, not_before=not_before)
        return delay, retry

    async def _append_outcome(
        self, attempt: Attempt, kinds: Sequence[FlowEventKind], artifacts: Sequence[Artifact]
    ) -> None:
        """Append an attempt's outcome; log that it was not stored if the attempt was superseded."""
        is_stored = False
        while not is_stored:
            try:
                async with self._saving:
                    await self._append(kinds, artifacts)
                is_stored = True
            except ConcurrencyConflict:
                context = attempt.context
                log_step_not_stored(self.instance.id, context.step_id, context.attempt)
                raise
            except StoreUnavailable as error:
                if not await self._waits_for_store(error):
                    raise
        if attempt.step.uses:
            await self._call_next(attempt.context, attempt.step.uses)

    async def _waits_for_store(self, unavailable: StoreUnavailable) -> bool:
        """Wait a moment for a store that could not take an outcome; return False to give it up."""
        del unavailable
        return False

    async def _call_next(self, context: StepContext, uses: Mapping[str, int]) -> None:
        """Call those who wait for what a step has freed that has an outcome."""

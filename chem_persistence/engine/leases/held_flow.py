"""A flow that this process holds: it is run, and then its lease is given back, whatever happens."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import Any, TypeVar
from uuid import UUID

from chem_persistence.domain.instance import FlowInstance, StepStatus
from chem_persistence.engine.attempt import Attempt
from chem_persistence.engine.leases.leased_run import Interruption, LeasedRun, unchanged
from chem_persistence.engine.leases.renewal import HeldLease, LeaseKeeper, seconds_since_boot
from chem_persistence.engine.run import Outcome
from chem_persistence.errors import (
    ChemPersistenceError,
    FlowAlreadyCompleted,
    FlowAwaitsUser,
    FlowHasFailed,
    FlowIsWaiting,
    FlowWasCancelled,
    StaleLease,
    StepRaised,
    StoreError,
    UnreadableEvent,
    UnreplayableEvent,
)
from chem_persistence.store.leasing.leases import Claim, Leases

__all__ = ["HeldFlow", "at_once"]

T = TypeVar("T")

_logger = logging.getLogger("chem_persistence.leases")

AGAIN = timedelta(minutes=1)
"""After how long a flow is looked at again that could not go on although its time had come."""

SECONDS_TO_LEAVE = 10.0
"""How long a flow that is interrupted may take to say so in the log, and to release its lease."""


def _ignored() -> None:
    """Do nothing for a flow that is not held any more."""


def at_once(_: BaseException) -> timedelta:
    """Return that a flow is due at once, whatever it was left for."""
    return timedelta(0)


class HeldFlow:
    """A flow under a lease, which `keeper` renews while it runs.

    `claimed_at` is when the claim was sent, in seconds since boot. A step that is `grace` past its
    time limit is believed to hang: its lease is not renewed any more. A flow that is left for an
    error is due as `due_after` says. When a child has ended, `call` is called with its parent.

    With `rest` the flow is one that a program runs by itself: `rest` is awaited, under the lease,
    before anything else, and whenever the flow waits. Such a flow is left to nobody.
    """

    rest: Callable[[], Awaitable[None]] | None = None

    def __init__(
        self,
        run: LeasedRun,
        claim: Claim,
        leases: Leases,
        keeper: LeaseKeeper,
        *,
        claimed_at: float,
        grace: timedelta,
        due_after: Callable[[BaseException], timedelta] = at_once,
        call: Callable[[UUID], None] | None = None,
    ) -> None:
        self.run = run
        self.claim = claim
        self._leases = leases
        self._keeper = keeper
        self._grace = grace.total_seconds()
        self._due_after = due_after
        self._call = call
        self._lease = HeldLease(
            claim,
            claimed_at + keeper.duration.total_seconds(),
            lambda: self.interrupt(Interruption.LOST),
            self._look,
        )
        self._is_last_step = False
        self._task: asyncio.Task[Any] | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def flow_id(self) -> UUID:
        """The flow's id."""
        return self.claim.flow_id

    async def go(
        self, *, steps: int | None = None, then_due: timedelta | None = timedelta(0)
    ) -> None:
        """Run the flow, at most `steps` steps of it, until it is released; then release it.

        After so many steps it is due after `then_due`, or not by itself with None. When this
        returns, the flow is completed, its retry is scheduled, or it was released.

        Raises what `FlowEngine.run_to_end` raises, and:
            StaleLease: the lease was lost; nothing more was appended.
        """
        self._task = asyncio.current_task()
        self.run.around_step = self._in_step
        with self._held():
            try:
                await self._advance(steps, then_due)
            except asyncio.CancelledError:
                if not await self._interrupted():
                    raise
            except (StepRaised, FlowWasCancelled, StaleLease, GeneratorExit):
                raise  # the lease is gone; or nothing can be awaited any more
            except (FlowHasFailed, FlowAwaitsUser, FlowIsWaiting, FlowAlreadyCompleted):
                await self.release(_due_in(self.run.instance, self.run.clock.now()))
                raise
            except BaseException as error:
                await self._leave_quietly(self._due_after(error))
                raise
            finally:
                if self._looking is not None:
                    self._looking.cancel()
                if self.run.parent and self._call and self.run.has_ended:
                    self.run.keep_output(self.run.shared)
                    self._call(self.run.parent)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Have the lease renewed, from the flow's first append on, until the block is left.

        Then nothing refers to this object any more, so that it needs no garbage collection.
        """
        run, lease = self.run, self._lease
        if run.instance.version:
            self._keeper.add(lease)
        else:
            run.on_begun = partial(self._keeper.add, lease)
        try:
            yield
        finally:
            self._keeper.drop(lease)
            lease.on_lost = lease.on_call = _ignored
            run.around_step = unchanged

    def stop_after_step(self) -> None:
        """Release the flow when the step that runs has an outcome."""
        self._is_last_step = True

    def interrupt(self, why: Interruption) -> None:
        """Stop the running step; an append that is under way is not interrupted."""
        if self.run.interruption is not None:
            return
        self.run.interruption = why
        if self._task is not None and not self.run.is_appending:
            self._task.cancel(why.value)

    async def abandon(self) -> None:
        """Release the flow although its step does not end; the step's outcome is then refused."""
        await self._leave_quietly()

    async def release(self, due_in: timedelta | None = timedelta(0)) -> None:
        """Release the lease; if that fails, it ends by itself."""
        try:
            if self.run.keeps_lease:
                await self._leases.leave(self.flow_id, self.claim.token)
            else:
                await self._leases.give_back(self.flow_id, self.claim.token, due_in)
        except StoreError as error:
            _logger.info("flow %s is not released: %s", self.flow_id, type(error).__name__)

    async def _advance(self, steps: int | None, then_due: timedelta | None) -> None:
        run, done = self.run, 0
        if self.rest is not None and run.instance.version:
            await self.rest()
        while not run.is_released:
            if run.cancelled is not None:
                await run.cancel()
            if run.interruption is Interruption.LOST:
                raise StaleLease(self.flow_id)
            if run.interruption is not None or self._is_last_step:
                await self._leave()
                return
            if done == steps:
                await self._leave(then_due)
                return
            await run.advance(go_on=steps is None and not self._is_last_step)
            done += 1
            if self.rest is not None and (run.pauses or run.look_after is not None):
                if done != steps:
                    await self.rest()
            elif run.look_after is not None:
                await self.release(run.look_after)
                return

    async def _interrupted(self) -> bool:
        """Do what is left to do when the flow's task was cancelled; return False from outside.

        Raises:
            FlowWasCancelled, FlowIsWaiting, StaleLease: as `go`.
        """
        task, why = self._task, self.run.interruption
        if why is not None and task is not None:
            task.uncancel()
            with suppress(asyncio.CancelledError):  # the step raised before it was cancelled
                await asyncio.sleep(0)
        match why:
            case None:
                await self._leave_quietly()
                return False
            case Interruption.STOPPED:
                await self._leave_quietly()
            case Interruption.CANCELLED:
                await self._cancel()
            case Interruption.LOST:
                raise StaleLease(self.flow_id)
        return True

    async def _cancel(self) -> None:
        """Cancel the flow; if a job of it settles before that, release it for that long.

        Raises:
            FlowWasCancelled, FlowIsWaiting, StaleLease: see `LeasedRun.cancel`.
        """
        try:
            await self.run.cancel()
        except FlowIsWaiting:
            await self.release(_due_in(self.run.instance, self.run.clock.now()))
            raise

    async def _leave(self, due_in: timedelta | None = timedelta(0)) -> None:
        if not self.run.keeps_lease:  # who starts the program again knows that it was interrupted
            await self.run.leave()
        if not self.run.is_released:
            await self.run.free_unused(self.claim.token)
            await self.release(due_in)

    async def _leave_quietly(self, due_in: timedelta = timedelta(0)) -> None:
        try:
            async with asyncio.timeout(SECONDS_TO_LEAVE):
                await self._leave(due_in)
        except (ChemPersistenceError, TimeoutError) as error:
            _logger.info("flow %s was left: %s", self.flow_id, type(error).__name__)
            if isinstance(error, UnreadableEvent | UnreplayableEvent):
                await self.release(due_in)

    def _look(self) -> None:
        """Read what was said to the flow, in a task of its own, unless one is doing so."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_cancellation())

    async def _look_for_cancellation(self) -> None:
        try:
            reason = await self.run.asked_to_cancel()
        except ChemPersistenceError as error:  # the next renewal makes it look again
            _logger.info("flow %s was not looked at: %s", self.flow_id, type(error).__name__)
            return
        if reason is not None:
            self.run.cancelled = reason
            self.interrupt(Interruption.CANCELLED)

    def _in_step(self, attempt: Attempt, attempting: Awaitable[Outcome]) -> Awaitable[Outcome]:
        if attempt.time_limit is None and attempt.heartbeat_limit is None:
            return attempting
        return self._limited(attempt, attempting)

    async def _limited(self, attempt: Attempt, attempting: Awaitable[Outcome]) -> Outcome:
        """Renew the lease for the step's time at most, and so long after the last heartbeat."""
        seconds, silence = attempt.time_limit, attempt.heartbeat_limit
        ends_at = seconds_since_boot() + (inf if seconds is None else seconds) + self._grace

        def beat() -> None:
            heard = inf if silence is None else seconds_since_boot() + silence + self._grace
            self._lease.limit = min(ends_at, heard)

        beat()
        attempt.context.beats = (*attempt.context.beats, beat)
        try:
            return await attempting
        finally:
            self._lease.limit = None


def _due_in(instance: FlowInstance, present: datetime) -> timedelta | None:
    """Return after how long a flow that cannot go on is looked at again; None: not by itself."""
    if instance.cursor == len(instance.steps):
        return None
    slot = instance.steps[instance.cursor]
    if slot.until is None or slot.status is StepStatus.FAILED:
        return None
    left = slot.until - present
    return left if left > timedelta(0) else AGAIN

"""Renews the leases of the flows that a process runs, in a thread of its own.

A step that blocks the event loop keeps its lease, since the thread has an event loop and a
connection of its own. Each third of the lease all leases are renewed in one call. Not renewed are
those whose step is past its time limit, and none at all once the event loop has not answered for a
long time: then the steps hang, and another process should have the flows. A process that holds
nothing has no such thread: its event loop does what else is done each third of a lease.

The process counts for itself how long it may believe in a lease: from the moment at which the
renewal that renewed it was sent. So its own view of the lease ends before the database's does,
whatever the clocks of the two say, and a flow is dropped in time when the database is away.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import timedelta
from functools import partial
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from chem_persistence.engine.leases.timer import TIMER
from chem_persistence.errors import ChemPersistenceError
from chem_persistence.store.leasing.leases import Claim, Leases, Renewal, SeparableLeases

__all__ = ["HeldLease", "LeaseKeeper", "seconds_since_boot"]

_logger = logging.getLogger("chem_persistence.leases")

LOOKS_PER_LEASE = 12
"""How often within the length of a lease the event loop looks for leases that have ended."""

IDLE_RENEWALS = 3
"""After so many renewals with nothing to renew the thread ends, and closes its connection."""

SECONDS_TO_END = 10.0
"""How long the end of the renewals is waited for; the thread never keeps the process alive."""


def seconds_since_boot() -> float:
    """Return a time that also passes while the machine is suspended, where the system has one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class HeldLease:
    """A lease of a flow, and what is done when it is lost, or when the flow is called.

    `ends_at` is when this process stops to believe in the lease; `limit` is when the running step
    should be over, after which the lease is not renewed. Both are in seconds since boot.
    """

    def __init__(
        self, claim: Claim, ends_at: float, on_lost: Callable[[], None], on_call: Callable[[], None]
    ) -> None:
        self.claim = claim
        self.ends_at = ends_at
        self.limit: float | None = None
        self.on_lost = on_lost
        self.on_call = on_call


class _RenewalThread:
    """A thread that runs `work` in an event loop of its own, from `after` seconds on, to its end.

    Most runs are over by then, and cost neither an event loop nor a connection.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]], after: float) -> None:
        self._owner = asyncio.get_running_loop()
        self._ended = self._owner.create_future()
        self._work = work
        self._is_told = False  # to end, before the work has begun
        self._lock = Lock()  # of the two
        self._task: asyncio.Task[None] | None = None
        thread = Thread(target=self._run, name="chem_persistence leases", daemon=True)
        self._start = TIMER.call_after(after, thread.start)

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        try:
            with self._lock:
                if self._is_told:
                    return
                self._task = loop.create_task(self._work())
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(self._task)
        except Exception:
            _logger.exception("the leases are not renewed any more")
        finally:
            loop.close()
            with suppress(RuntimeError):  # the owner's event loop is closed
                self._owner.call_soon_threadsafe(self._ended.set_result, None)

    async def end(self) -> None:
        """Stop the work, and wait until the thread has closed its connection."""
        TIMER.cancel(self._start)
        with self._lock:
            self._is_told = True
            task = self._task
        if task is None:
            return
        with suppress(RuntimeError):  # it has ended by itself
            task.get_loop().call_soon_threadsafe(task.cancel)
        await asyncio.wait([self._ended], timeout=SECONDS_TO_END)


class LeaseKeeper:
    """Renews the leases that are held, from the first one on and until the last one is dropped.

    `duration` is that of each renewal. Nothing is renewed when the event loop has not answered for
    `stall`. Leases that no other thread can have are renewed in the event loop. `beat` is awaited
    each third of `duration`: after a renewal, in its thread, and else in the event loop.
    """

    def __init__(
        self,
        leases: Leases,
        *,
        duration: timedelta,
        stall: timedelta,
        beat: Callable[[Leases], Awaitable[None]] | None = None,
    ) -> None:
        self.duration = duration
        self._beat = beat
        self._leases = leases
        self._separable = leases if isinstance(leases, SeparableLeases) else None
        self._seconds = duration.total_seconds()
        self._stall = stall.total_seconds()
        self._held: dict[UUID, HeldLease] = {}
        self._lock = Lock()  # of `_held`, which the thread reads
        self._between = min(1.0, self._seconds / LOOKS_PER_LEASE)
        self._is_idle = False
        self._users = 0
        self._has_warned = False
        self._answered_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look: asyncio.TimerHandle | None = None
        self._renewals: _RenewalThread | asyncio.TimerHandle | None = None
        self._has_begun = False  # the renewals, or their wait for the first one
        self._is_renewing = False
        self._renewing: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._beaten_at = 0.0

    async def __aenter__(self) -> Self:
        """Begin to renew; the keeper may be entered several times at once."""
        self._users += 1
        if self._users == 1:
            self._loop = asyncio.get_running_loop()
            self._answered_at = self._beaten_at = seconds_since_boot()
            self._is_idle = False
            self._look_after(self._between)
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._users:
            return
        if self._look is not None:
            self._look.cancel()
            self._look = None
        renewals, self._renewals = self._renewals, None
        self._has_begun = self._is_renewing = False
        if isinstance(renewals, _RenewalThread):
            await renewals.end()
        elif renewals is not None:
            renewals.cancel()
        tasks = [task for task in (self._renewing, self._beating) if task is not None]
        self._renewing = self._beating = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @contextmanager
    def hold(self, lease: HeldLease) -> Iterator[None]:
        """Renew a lease for the length of a block; an earlier one of the same flow is lost."""
        self.add(lease)
        try:
            yield
        finally:
            self.drop(lease)

    def add(self, lease: HeldLease) -> None:
        """Renew a lease from now on; an earlier one of the same flow is lost."""
        flow_id = lease.claim.flow_id
        with self._lock:
            earlier, self._held[flow_id] = self._held.get(flow_id), lease
            has_begun, self._has_begun = self._has_begun, True
        if not has_begun:
            self._renewals = self._begin()
        if self._is_idle and self._look is not None:
            self._is_idle = False
            self._look.cancel()
            self._look_after(self._between)
        if earlier is not None:  # it ended while this process was stopped, and then this one came
            earlier.on_lost()

    def drop(self, lease: HeldLease) -> None:
        """Renew a lease no more, if it was renewed."""
        flow_id = lease.claim.flow_id
        with self._lock:
            if self._held.get(flow_id) is lease:
                del self._held[flow_id]

    def _begin(self) -> _RenewalThread | asyncio.TimerHandle:
        if self._separable is not None:
            separate = self._separable.separate()
            if separate is not None:
                return _RenewalThread(partial(self._renew_apart, separate), self._seconds / 3)
            warn = _logger.debug if self._has_warned else _logger.warning
            self._has_warned = True
            warn(
                "leases are renewed in the event loop, since the provider of connections cannot "
                "open another one: a step that blocks the event loop loses its lease. Use a "
                "PoolProvider of build_pool"
            )
        return asyncio.get_running_loop().call_later(self._seconds / 3, self._renew_here)

    def _renew_here(self) -> None:
        self._renewing = asyncio.create_task(self._renew_each_third(self._leases))

    async def _renew_apart(self, separate: AbstractAsyncContextManager[Leases]) -> None:
        if self._ends_if_idle():
            return
        async with separate as leases:
            await self._renew_each_third(leases)

    def _ends_if_idle(self) -> bool:
        """Return whether the renewals end, since nothing is held; the next lease begins them."""
        with self._lock:
            if self._held:
                return False
            self._has_begun = self._is_renewing = False
            return True

    def _watch(self) -> None:
        """Show that the event loop answers, drop the leases that have ended, and look again.

        Without a lease it looks seldom, but so often that the event loop does not seem to hang.
        """
        self._answered_at = now = seconds_since_boot()
        for lease in self._snapshot():
            if lease.ends_at < now + self._between:
                self._report(lease, lease.on_lost)
        if self._beat is not None and not self._is_renewing:
            self._beat_if_due(self._beat, now)
        self._is_idle = not self._held
        self._look_after(min(self._seconds, self._stall) / 3 if self._is_idle else self._between)

    def _beat_if_due(self, beat: Callable[[Leases], Awaitable[None]], now: float) -> None:
        is_over = self._beating is None or self._beating.done()
        if is_over and now - self._beaten_at > self._seconds / 3 - self._between / 2:
            self._beaten_at = now
            self._beating = asyncio.ensure_future(beat(self._leases))

    def _look_after(self, seconds: float) -> None:
        if self._loop is not None:
            self._look = self._loop.call_later(seconds, self._watch)

    async def _renew_each_third(self, leases: Leases) -> None:
        idle = 0
        while idle < IDLE_RENEWALS or not self._ends_if_idle():
            self._is_renewing = True
            idle = 0 if self._held else idle + 1
            pause = self._seconds / 3
            try:
                await self._renew(leases)
            except ChemPersistenceError as error:
                _logger.warning("the leases were not renewed: %s", type(error).__name__)
                pause /= 4
                if leases is not self._leases and self._loop is not None:
                    with suppress(RuntimeError):  # the event loop is closed
                        self._loop.call_soon_threadsafe(self._renew_instead)
            await asyncio.sleep(pause)

    def _renew_instead(self) -> None:
        """Renew once in the event loop, on its connections: the thread may get none of its own."""
        if self._users and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew_once())

    async def _renew_once(self) -> None:
        with suppress(ChemPersistenceError):  # the thread tries again soon
            await self._renew(self._leases)

    async def _renew(self, leases: Leases) -> None:
        now = seconds_since_boot()
        if now - self._answered_at > self._stall:
            return
        held = {
            lease.claim.flow_id: lease
            for lease in self._snapshot()
            if lease.limit is None or now <= lease.limit
        }
        if held:
            await self._renew_held(leases, held, now)
        if self._beat is not None:
            self._beaten_at = now
            await self._beat(leases)

    async def _renew_held(self, leases: Leases, held: Mapping[UUID, HeldLease], now: float) -> None:
        tokens = [(flow_id, lease.claim.token) for flow_id, lease in held.items()]
        found = await leases.renew(tokens, self.duration)
        for flow_id, lease in held.items():
            match found[flow_id]:
                case Renewal.RENEWED:
                    lease.ends_at = now + self._seconds
                case Renewal.CALLED:
                    lease.ends_at = now + self._seconds
                    self._report(lease, lease.on_call)
                case Renewal.LOST:
                    self._report(lease, lease.on_lost)
                case Renewal.SKIPPED:
                    pass

    def _snapshot(self) -> list[HeldLease]:
        with self._lock:
            return list(self._held.values())

    def _report(self, lease: HeldLease, what: Callable[[], None]) -> None:
        """Have the event loop call `what`, unless the flow is not held any more by then."""

        def report() -> None:
            if self._held.get(lease.claim.flow_id) is lease:
                what()

        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(report)

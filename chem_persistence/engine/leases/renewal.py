"""Renews the leases of the flows that a process runs, in a thread of its own.

A step that blocks the event loop keeps its lease, since the thread has an event loop and a
connection of its own. Each third of the lease all leases are renewed in one call. Not renewed are
those whose step is past its time limit, and none at all once the event loop has not answered for a
long time: then the steps hang, and another process should have the flows.

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
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from chem_persistence.errors import ChemPersistenceError
from chem_persistence.store.leasing.leases import Claim, Leases, Renewal, SeparableLeases

__all__ = ["HeldLease", "LeaseKeeper", "seconds_since_boot"]

_logger = logging.getLogger("chem_persistence.leases")

LOOKS_PER_LEASE = 12
"""How often within the length of a lease the event loop looks for leases that have ended."""

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
        self._work, self._after = work, after
        self._told = Event()  # to end, before the work has begun
        self._lock = Lock()  # of the two
        self._task: asyncio.Task[None] | None = None
        Thread(target=self._run, name="chem_persistence leases", daemon=True).start()

    def _run(self) -> None:
        if self._told.wait(self._after):
            return
        loop = asyncio.new_event_loop()
        try:
            with self._lock:
                if self._told.is_set():
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
        with self._lock:
            self._told.set()
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
    after each renewal, in its thread.
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
        self._is_busy = asyncio.Event()
        self._users = 0
        self._has_warned = False
        self._answered_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: list[_RenewalThread | asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to renew; the keeper may be entered several times at once."""
        self._users += 1
        if self._users == 1:
            self._loop = asyncio.get_running_loop()
            self._answered_at = seconds_since_boot()
            self._running = [asyncio.create_task(self._watch()), self._renewals()]
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._users:
            return
        running, self._running = self._running, []
        for one in running:
            if isinstance(one, _RenewalThread):
                await one.end()
            else:
                one.cancel()
                await asyncio.wait([one])

    @contextmanager
    def hold(self, lease: HeldLease) -> Iterator[None]:
        """Renew a lease for the length of a block; an earlier one of the same flow is lost."""
        flow_id = lease.claim.flow_id
        with self._lock:
            earlier, self._held[flow_id] = self._held.get(flow_id), lease
        self._is_busy.set()
        if earlier is not None:  # it ended while this process was stopped, and then this one came
            earlier.on_lost()
        try:
            yield
        finally:
            with self._lock:
                if self._held.get(flow_id) is lease:
                    del self._held[flow_id]

    def _renewals(self) -> _RenewalThread | asyncio.Task[None]:
        leases = self._leases
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
        return asyncio.create_task(self._renew_each_third(leases))

    async def _renew_apart(self, separate: AbstractAsyncContextManager[Leases]) -> None:
        async with separate as leases:
            await self._renew_each_third(leases, pause=0)

    async def _watch(self) -> None:
        """Show that the event loop answers, and drop the leases that have ended."""
        between = min(1.0, self._seconds / LOOKS_PER_LEASE)
        while True:
            if self._held:
                await asyncio.sleep(between)
            else:
                await self._idle()
            self._answered_at = now = seconds_since_boot()
            for lease in self._snapshot():
                if lease.ends_at < now + between:
                    self._report(lease, lease.on_lost)

    async def _idle(self) -> None:
        """Wait until a lease is held, but not so long that the event loop seems to hang."""
        self._is_busy.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._seconds, self._stall) / 3):
                await self._is_busy.wait()

    async def _renew_each_third(self, leases: Leases, pause: float | None = None) -> None:
        pause = self._seconds / 3 if pause is None else pause
        while True:
            await asyncio.sleep(pause)
            pause = self._seconds / 3
            try:
                await self._renew(leases)
            except ChemPersistenceError as error:
                _logger.warning("the leases were not renewed: %s", type(error).__name__)
                pause /= 4

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

"""A worker: it claims flows that are due, and runs many of them at once."""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from chem_persistence.engine.flow import Flow
from chem_persistence.engine.leases.held_flow import HeldFlow
from chem_persistence.engine.leases.leased_run import Interruption, LeasedRun
from chem_persistence.engine.leases.own_flow import LEASE, STALL
from chem_persistence.engine.leases.renewal import LeaseKeeper, seconds_since_boot
from chem_persistence.engine.parameters.served import ServedFlows
from chem_persistence.engine.reuse import results_of
from chem_persistence.errors import (
    ChemPersistenceError,
    ConcurrencyConflict,
    FlowAlreadyCompleted,
    FlowAwaitsUser,
    FlowHasFailed,
    FlowIsWaiting,
    FlowWasCancelled,
    InvalidArgument,
    StaleLease,
    StepRaised,
    StoreUnavailable,
)
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.store.checks import check_poll_interval
from chem_persistence.store.clock import SystemClock
from chem_persistence.store.leasing.cancelled_claims import undone_if_cancelled
from chem_persistence.store.leasing.leases import (
    Claim,
    HintingLeases,
    Leases,
    WorkerRegister,
    check_duration,
)
from chem_persistence.store.leasing.slots import slots_of
from chem_persistence.store.ports import Clock
from chem_persistence.store.program.what_ran import introduction
from chem_persistence.telemetry.flow_log import log_completed, log_goes_on
from chem_persistence.telemetry.hooks import count_claim, watched_flow
from chem_persistence.worker.backlog import Backlog
from chem_persistence.worker.dropped import report_dropped
from chem_persistence.worker.hints import Hints
from chem_persistence.worker.limits import Limits
from chem_persistence.worker.loading import Loaded, Unloadable, WorkerStore, load_claims
from chem_persistence.worker.parents import ParentCalls
from chem_persistence.worker.signals import stop_on_signals

__all__ = ["Worker"]

_logger = logging.getLogger("chem_persistence.worker")

SECONDS_TO_LEAVE = 5.0
"""How long the steps that a stopping worker interrupts may take to end, and its own farewell."""

FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
"""When a flow that cannot be run is tried again; the pause doubles each time."""

_AS_STORED = (
    StepRaised,
    FlowHasFailed,
    FlowWasCancelled,
    FlowAwaitsUser,
    FlowIsWaiting,
    FlowAlreadyCompleted,
)
"""What the log says about a flow; there is nothing to report."""


class Worker:
    """Runs the due flows of some definitions, up to `at_once` of them at the same time.

    Any number of workers, in any number of processes, may serve the same flows: each flow is held
    by one of them, under a lease of the length `lease`, which is renewed while it runs. If a
    worker dies, others go on with its flows when their leases have ended. `store` may be a provider
    of connections. It serves `flows` and all flows that their steps run, with any parameters; flows
    of other steps are left to other workers. `limits` says how much of each resource the steps may
    use at once in this process; see `Step.uses`, and `FlowClient.set_limit` for a limit over all
    workers. `name` is for people: the host and the process's id by default.

    A worker that has found no due flow asks again after 80 to 95 % of `poll_interval` seconds, so
    that nearly every flow goes on within that time. It hears at once when flows are submitted, on a
    connection of its own, unless a pooler is in between: while it does, it asks when the next flow
    is due, and at least each five times `poll_interval`, in case a hint was lost.

    A worker that is told to stop claims no more, waits `grace` for the steps that run, and then
    cancels them and releases their flows. The time that a step may be past its `timeout` is `grace`
    as well: then its lease is not renewed any more, and no lease is when the event loop has not
    answered for `stall`.

    Raises:
        InvalidArgument: there is no flow, `at_once` is less than 1, a length of time is invalid, a
            limit is less than 1, or a step uses more than its limit.
    """

    def __init__(
        self,
        store: WorkerStore | ConnectionProvider,
        flows: Sequence[Flow[Any, Any]],
        *,
        at_once: int = 64,
        limits: Mapping[str, int] | None = None,
        lease: timedelta = LEASE,
        grace: timedelta = timedelta(seconds=20),
        stall: timedelta = STALL,
        poll_interval: float = 1.0,
        name: str | None = None,
    ) -> None:
        _check(flows, at_once, lease, grace, stall)
        check_poll_interval(poll_interval)
        self.id = uuid4()
        self.name = f"{socket.gethostname()}:{os.getpid()}" if name is None else name
        self._store = store if isinstance(store, WorkerStore) else PgEventStore(store)
        self._clock: Clock = getattr(self._store, "clock", None) or SystemClock()
        served = [inner for flow in flows for inner in (flow, *flow.inner)]
        self._registry = ServedFlows(served)
        self._children = frozenset(inner.definition_hash for flow in flows for inner in flow.inner)
        self._limits = Limits(limits or {})
        for flow in served:
            self._limits.check(flow.steps)
        self._at_once, self._grace = at_once, grace
        self._leases = self._store.leases
        self._slots, self._results = slots_of(self._leases), results_of(self._store)
        self._backlog = Backlog(self._registry)
        self._keeper = LeaseKeeper(self._leases, duration=lease, stall=stall, beat=self._beat)
        self._running: dict[asyncio.Task[None], HeldFlow] = {}
        self._pauses: dict[UUID, timedelta] = {}
        self._left_at: dict[UUID, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._woken = asyncio.Event()
        heard = self._registry.heard
        self._hints = Hints(
            self._leases, self._registry, self._woken, poll_interval, lease, heard=heard
        )
        self._parents = ParentCalls(self._leases, self._woken.set, self._has_room)

    async def run(self) -> None:
        """Serve until `stop` is called; in the main thread SIGTERM and SIGINT call it as well.

        A second signal ends the process at once. If the task is cancelled, the running steps are
        cancelled, and their flows released.

        Raises:
            InvalidArgument: the worker runs already.
            StoreError: the store refused a claim, for lack of a privilege, for example.
        """
        if self._loop is not None:
            raise InvalidArgument("worker", "runs already")
        self._loop = asyncio.get_running_loop()
        try:
            with stop_on_signals(self.stop):
                await self._serve_to_end()
        finally:
            self._loop, self._stopping = None, False

    def stop(self) -> None:
        """Stop the worker; `run` returns when its flows are released.

        It may be called in any thread, and before `run`, which then returns at once.
        """
        if self._loop is None:
            self._stopping = True
        else:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._stopping = True
        for held in self._running.values():
            held.stop_after_step()
        self._woken.set()

    async def _serve_to_end(self) -> None:
        try:
            async with self._keeper, self._hints.heard():
                try:
                    await self._beat(self._leases)
                    await self._serve()
                    await self._wait_for_steps()
                finally:
                    await self._leave_flows()
                    await self._parents.end()
        finally:
            self._backlog.end()
            await self._withdraw()

    async def _beat(self, leases: Leases) -> None:
        await self._announce(leases)
        await self._backlog.count(leases)

    async def _announce(self, leases: Leases) -> None:
        """Store that this worker is alive; nothing depends on it."""
        if not isinstance(leases, WorkerRegister):
            return
        try:
            await leases.announce(self.id, self.name, self._registry)
        except ChemPersistenceError as error:
            _logger.info("the worker is not announced: %s", type(error).__name__)

    async def _withdraw(self) -> None:
        """Send others a hint that flows may be due, and remove this worker from the register."""
        with suppress(ChemPersistenceError, TimeoutError):
            async with asyncio.timeout(SECONDS_TO_LEAVE):
                if isinstance(self._leases, HintingLeases):
                    await self._leases.hint(self._registry)
                if isinstance(self._leases, WorkerRegister):
                    await self._leases.withdraw(self.id)

    async def _serve(self) -> None:
        while not self._stopping:
            self._woken.clear()
            if not self._has_room():
                await self._woken.wait()  # a flow ends, or the worker is told to stop
                continue
            if not await self._hints.follow(self._claim):
                await self._hints.rest()

    def _has_room(self) -> bool:
        return self._at_once - len(self._running) >= max(1, self._at_once // 4)

    async def _claim(self) -> bool:
        """Claim flows and begin to run them; return whether there were any."""
        claimed_at = seconds_since_boot()
        free = self._at_once - len(self._running)
        try:
            await self._registry.look(self._leases, self._store)
            claiming = self._leases.claim(
                list(self._registry), self.id, free, self._keeper.duration
            )
            claims = await undone_if_cancelled(claiming, self._release)
            if claims and not self._stopping:
                await self._begin(claims, claimed_at)
            elif claims:
                await self._release(claims)
        except StoreUnavailable as error:
            _logger.warning("no flows were claimed: %s", error)
            return False
        return bool(claims)

    async def _begin(self, claims: Sequence[Claim], claimed_at: float) -> None:
        """Begin to run flows; one that cannot be begun does not keep the others from it."""
        left = dict.fromkeys(claims)
        try:
            for each in await load_claims(self._store, self._registry, claims):
                match each:
                    case Unloadable(claim=claim, error=error):
                        _logger.error("flow %s cannot be loaded: %s", claim.flow_id, error)
                        await self._give_back(claim, self._pause(claim.flow_id))
                    case Loaded() if (early := self._is_early(each)) is not None:
                        await self._give_back(each.claim, early)
                    case Loaded():
                        self._start(each, claimed_at)
                del left[each.claim]
        except BaseException:
            await self._release(list(left))
            raise

    def _start(self, loaded: Loaded, claimed_at: float) -> None:
        claim, flow = loaded.claim, self._registry[loaded.claim.definition_hash]
        run = LeasedRun(
            self._store.leased(claim.flow_id, claim.token),
            flow.steps,
            flow.definition,
            loaded.instance,
            shared=self._store,
            input_artifact=loaded.input,
        )
        run.cancelled, run.around_attempt = loaded.cancelled, self._limits.around
        run.measured_as, run.slots = claim.definition_hash, self._slots
        count_claim(claim.definition_hash, is_take_over=loaded.is_take_over)
        run.parent = loaded.parent
        run.introduction = introduction(loaded.ran, flow.records)
        run.take_over(self._results, may_reuse=loaded.may_reuse)
        held = HeldFlow(
            run,
            claim,
            self._leases,
            self._keeper,
            claimed_at=claimed_at,
            grace=self._grace,
            due_after=partial(self._due_after, claim.flow_id),
            call=partial(
                self._parents.child_ended, is_served=claim.definition_hash in self._children
            ),
        )
        if self._stopping:
            held.stop_after_step()
        task = asyncio.create_task(self._run_flow(held, flow), name=f"flow {claim.flow_id}")
        self._running[task] = held
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        was_full = not self._has_room()
        if not self._running.pop(task).run.has_ended:
            self._hints.leave()
        if was_full and self._has_room():
            self._woken.set()

    async def _run_flow(self, held: HeldFlow, flow: Flow[Any, Any]) -> None:
        """Run a flow and report what its log does not say."""
        flow_id, fields = held.flow_id, {"flow_id": str(held.flow_id)}
        log_goes_on(flow_id, held.run.instance.version)
        try:
            await watched_flow(held.go(), flow_id)
        except _AS_STORED:
            pass
        except (StaleLease, ConcurrencyConflict) as error:
            await report_dropped(self._store, held.run.instance, flow.definition_hash, error)
            return
        except ChemPersistenceError as error:
            _logger.warning("flow %s is left for now: %s", flow_id, error, extra=fields)
            return
        except Exception:
            _logger.exception("flow %s is left for now", flow_id, extra=fields)
            return
        self._pauses.pop(flow_id, None)
        self._left_at.pop(flow_id, None)
        if held.run.instance.completed:
            log_completed(flow_id)

    def _is_early(self, loaded: Loaded) -> timedelta | None:
        """Return how long to wait for the retry of a flow that was called before it; None: run it.

        At most once for each call: if the flow comes again, the database says that it is due. But a
        person's time for an answer is never cut short: there this machine's clock decides.
        """
        flow_id, version = loaded.claim.flow_id, loaded.instance.version
        if loaded.until is None:
            return None
        if self._left_at.get(flow_id) == version and not loaded.asks:
            return None
        left = min(loaded.until - self._clock.now().astimezone(UTC), loaded.longest)
        if left <= timedelta(0) or loaded.cancelled is not None:
            return None
        self._left_at[flow_id] = version
        return left

    def _due_after(self, flow_id: UUID, error: BaseException) -> timedelta:
        if isinstance(error, ConcurrencyConflict | StoreUnavailable):
            return timedelta(0)
        return self._pause(flow_id) if isinstance(error, Exception) else timedelta(0)

    def _pause(self, flow_id: UUID) -> timedelta:
        """Return when a flow that cannot be run is tried again, each time after a longer pause."""
        before = self._pauses.get(flow_id)
        pause = FIRST_PAUSE if before is None else min(2 * before, LONGEST_PAUSE)
        self._pauses[flow_id] = pause
        return pause

    async def _give_back(self, claim: Claim, due_in: timedelta) -> None:
        with suppress(StoreUnavailable):  # else it is due when its lease ends
            await self._leases.give_back(claim.flow_id, claim.token, due_in)

    async def _release(self, claims: Sequence[Claim]) -> None:
        with suppress(ChemPersistenceError):  # else they are due when their leases end
            await self._leases.release([(claim.flow_id, claim.token) for claim in claims])

    async def _wait_for_steps(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace.total_seconds())

    async def _leave_flows(self) -> None:
        """Interrupt what runs, and release its flows, also those whose steps do not end."""
        for held in self._running.values():
            held.interrupt(Interruption.STOPPED)
        if self._running:
            await asyncio.wait(self._running, timeout=SECONDS_TO_LEAVE)
        await asyncio.gather(*(held.abandon() for held in list(self._running.values())))


def _check(
    flows: Sequence[Flow[Any, Any]],
    at_once: int,
    lease: timedelta,
    grace: timedelta,
    stall: timedelta,
) -> None:
    if not flows:
        raise InvalidArgument("flows", "must name at least one flow")
    if at_once < 1:
        raise InvalidArgument("at_once", f"must be at least 1, not {at_once}")
    for name, duration in (("lease", lease), ("grace", grace), ("stall", stall)):
        check_duration(name, duration)
    if lease == timedelta(0):
        raise InvalidArgument("lease", "must be longer than 0")

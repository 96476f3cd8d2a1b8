"""A flow that a program runs by itself: it takes the lease, as a worker does."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

from msgspec import UNSET

from chem_persistence.domain.events import FlowEvent, FlowInitialized
from chem_persistence.domain.instance import FlowInstance, initial_instance
from chem_persistence.domain.replay import replay
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.leases.ending import cancellation, cancelled_with
from chem_persistence.engine.leases.held_flow import HeldFlow
from chem_persistence.engine.leases.holders import being_run, has_ended, own_holder
from chem_persistence.engine.leases.leased_run import LeasedRun
from chem_persistence.engine.leases.own_children import OwnChildren, Rest, rest_of, wait_for_time
from chem_persistence.engine.leases.renewal import LeaseKeeper, seconds_since_boot
from chem_persistence.engine.reuse import results_of
from chem_persistence.engine.watching import SharedStore
from chem_persistence.errors import (
    ChemPersistenceError,
    ConcurrencyConflict,
    FlowAlreadyCompleted,
    FlowIsRunning,
    FlowIsWaiting,
    FlowWasCancelled,
)
from chem_persistence.store.attribution import RUN_BY
from chem_persistence.store.clock import SystemClock
from chem_persistence.store.leasing.cancelled_claims import undone_if_cancelled
from chem_persistence.store.leasing.children import parent_of
from chem_persistence.store.leasing.hints import ANY_DEFINITION
from chem_persistence.store.leasing.leases import (
    Claim,
    FlowRunRow,
    HintingLeases,
    LeaseReader,
    LeasingEventStore,
    ProgramEventStore,
)
from chem_persistence.store.leasing.slots import slots_of
from chem_persistence.store.ports import Clock, EventStore
from chem_persistence.store.program.what_ran import introduction, last_program
from chem_persistence.store.reuse.choice import may_reuse

_logger = logging.getLogger("chem_persistence.leases")

__all__ = ["GRACE", "LEASE", "STALL", "OwnFlows", "is_leased"]

Taking: TypeAlias = tuple[float, Claim | None, timedelta | None]
"""When a claim was sent, the claim, and after how long the lease of another ends."""

Held: TypeAlias = tuple[HeldFlow, Sequence[FlowEvent] | None]
"""A flow that is held, and the events from which it was loaded, if it has any."""

LEASE = timedelta(seconds=30)
"""How long a flow is held without a renewal."""

STALL = timedelta(minutes=5)
"""After this time without an answer of the event loop, no lease is renewed."""

GRACE = timedelta(seconds=20)
"""How long a step may be past its time limit before its lease is not renewed any more."""


async def is_leased(store: EventStore, flow_id: UUID) -> bool:
    """Return whether a flow is run under a lease: it was given to workers, or a program began it.

    Raises what `EventStore.list` raises.
    """
    return any(
        RUN_BY in first.metadata
        or (isinstance(first.kind, FlowInitialized) and first.kind.due is not UNSET)
        for first in await store.list(flow_id, limit=1)
    )


class OwnFlows:
    """Runs flows under their leases as a worker does, each in the task of its caller.

    The flows that their steps run are run as well, in tasks of their own.
    """

    def __init__(self, store: LeasingEventStore, flow: Flow[Any, Any]) -> None:
        self._store = store
        self._programs = store if isinstance(store, ProgramEventStore) else None
        self._registry = {each.definition_hash: each for each in (flow, *flow.inner)}
        self._shared = store if isinstance(store, SharedStore) else None
        self._leases = store.leases
        self._keeper = LeaseKeeper(self._leases, duration=LEASE, stall=STALL)
        self._slots = slots_of(self._leases)
        self._results = results_of(store)
        self._clock: Clock = getattr(store, "clock", None) or SystemClock()

    def new(self, flow: Flow[Any, Any], instance: FlowInstance) -> HeldFlow | None:
        """Return a flow that has no events, to be held from its first append on.

        None if the store cannot store a flow's first events and its lease in one append.
        """
        if self._programs is None:
            return None
        claim = Claim(instance.id, uuid4(), flow.definition_hash)
        run = self._leased_run(claim, flow, instance, by_program=True)
        return self._held(run, claim, seconds_since_boot())

    async def begin(
        self, flow: Flow[Any, Any], held: HeldFlow | None, *, to_end: bool
    ) -> FlowInstance | None:
        """Run a `new` flow, whose input its run has, to its end, or one step of it.

        The append of its first events also takes the lease. Then the flow is left to nobody. Return
        None if there is none, or another program has begun it meanwhile.

        Raises what `FlowEngine.run_to_end` raises.
        """
        if held is None:
            return None
        with being_run(held.flow_id):
            taken = held, None
            try:
                return await self._run(flow, held.flow_id, taken, to_end=to_end, by_program=True)
            except ConcurrencyConflict as error:
                if error.expected:
                    raise
                return None

    async def run(self, flow: Flow[Any, Any], flow_id: UUID, *, to_end: bool) -> FlowInstance:
        """Run a flow that was begun to its end, or one step of it.

        A retry that a step's policy schedules is waited for, and so are a time until which a step
        waits and the flows that it runs; then the flow goes on, unless a worker comes first. No
        worker does if a program has begun the flow: it is held meanwhile, and then left to nobody.
        After one step another flow is due as it was before.

        Raises what `FlowEngine.run_to_end` raises.
        """
        events = await self._store.list(flow_id)
        by_program, then_due = self._is_programs(events), None
        if not by_program:
            instance = replay(initial_instance(flow_id, flow.definition), events, flow.definition)
            await wait_for_time(flow, instance, events, self._clock, to_end=to_end)
            row = None if to_end else await self._row(flow_id)
            is_due = row is None or row.token is not None or row.due_in is not None
            then_due = timedelta(0) if is_due else None
        with being_run(flow_id):
            return await self._run(
                flow, flow_id, to_end=to_end, by_program=by_program, then_due=then_due
            )

    def _is_programs(self, events: Sequence[FlowEvent]) -> bool:
        return self._programs is not None and RUN_BY in events[0].metadata

    async def _run(
        self,
        flow: Flow[Any, Any],
        flow_id: UUID,
        taken: Held | None = None,
        *,
        to_end: bool,
        by_program: bool,
        then_due: timedelta | None = None,
    ) -> FlowInstance:
        """Run a flow, which is left to nobody without `then_due`; `taken` is it if it is held."""
        steps = None if to_end else 1
        async with self._keeper, OwnChildren(self._store, flow_id, self.run_child) as children:
            while True:
                held, events = taken or await self._taken(flow, flow_id, by_program=by_program)
                taken, run = None, held.run
                if run.keeps_lease:
                    held.rest = Rest(flow, run, events, children, to_end=to_end)
                await self._run_once(held, steps, then_due)
                if steps and not run.lacks_slots:
                    return run.instance
                if not await rest_of(flow, run, children):
                    return run.instance

    async def _run_once(
        self, held: HeldFlow, steps: int | None, then_due: timedelta | None
    ) -> None:
        try:
            await held.go(steps=steps, then_due=then_due)
        except FlowIsWaiting:
            if held.run.cancelled is None:
                raise
            held.run.has_parked = True  # a job of the flow settles, before that is cancelled
        finally:
            if held.run.parent is not None and held.run.has_ended:
                await self._call(held.run.parent)

    async def _call(self, parent: UUID) -> None:
        """Call the parent of a child that has ended, which maybe a worker runs."""
        if await self._leases.call([parent]) and isinstance(self._leases, HintingLeases):
            await self._leases.hint([ANY_DEFINITION])

    async def run_child(self, flow_id: UUID) -> None:
        """Run a flow that a step of the engine's flow runs, at any depth, to its end.

        Raises what `FlowEngine.run_to_end` raises.
        """
        first = (await self._store.list(flow_id, limit=1))[0].kind
        assert isinstance(first, FlowInitialized)  # noqa: S101  # a child begins with it
        await self.run(self._registry[first.definition_hash], flow_id, to_end=True)

    async def _taken(self, flow: Flow[Any, Any], flow_id: UUID, *, by_program: bool) -> Held:
        release = self._leave if by_program else self._release
        taken = await undone_if_cancelled(self._take(flow_id), release)
        try:
            return await self._loaded(flow, flow_id, taken)
        except (Exception, asyncio.CancelledError):
            with suppress(ChemPersistenceError):  # else the lease ends by itself
                await release(taken)
            raise

    async def _release(self, taken: Taking) -> None:
        if (claim := taken[1]) is not None:
            await self._leases.release([(claim.flow_id, claim.token)])

    async def _leave(self, taken: Taking) -> None:
        if (claim := taken[1]) is not None:
            await self._leases.leave(claim.flow_id, claim.token)

    async def _loaded(self, flow: Flow[Any, Any], flow_id: UUID, taken: Taking) -> Held:
        """Load a flow that was claimed.

        Raises:
            FlowAlreadyCompleted, FlowWasCancelled, FlowIsRunning: it was not.
        """
        claimed_at, claim, left = taken
        events = await self._store.list(flow_id)
        instance = replay(initial_instance(flow_id, flow.definition), events, flow.definition)
        if claim is None:
            raise _not_taken(instance, left)
        run = self._leased_run(claim, flow, instance, by_program=self._is_programs(events))
        run.introduction = introduction(last_program(reversed(events)), flow.records)
        run.take_over(self._results, may_reuse=may_reuse(events))
        run.cancelled = cancellation(events)
        if (parent := parent_of(events)) is not None:
            run.parent = parent.flow_id
            if run.shared is not None and await run.shared.cancelled_flows([run.parent]):
                run.cancelled = run.cancelled or cancelled_with(run.parent)
        return self._held(run, claim, claimed_at), events

    def _leased_run(
        self, claim: Claim, flow: Flow[Any, Any], instance: FlowInstance, *, by_program: bool
    ) -> LeasedRun:
        if by_program and self._programs is not None:
            store = self._programs.of_program(claim, own_holder(), LEASE)
        else:
            store = self._store.leased(claim.flow_id, claim.token)
        run = LeasedRun(store, flow.steps, flow.definition, instance, shared=self._shared)
        run.keeps_lease = by_program
        run.counts_crashes = False  # who starts the program again has decided that
        run.slots = self._slots
        return run

    def _held(self, run: LeasedRun, claim: Claim, claimed_at: float) -> HeldFlow:
        return HeldFlow(run, claim, self._leases, self._keeper, claimed_at=claimed_at, grace=GRACE)

    async def _take(self, flow_id: UUID) -> Taking:
        """Claim a flow, at once if the process that holds it has ended.

        Return when that was sent, the claim, and after how long the lease of another ends.
        """
        claimed_at = seconds_since_boot()
        claim = await self._leases.take(flow_id, own_holder(), LEASE)
        if claim is not None or (row := await self._row(flow_id)) is None:
            return claimed_at, claim, None
        if row.token and row.holder and has_ended(row.holder, flow_id):
            _logger.info("flow %s was left by process %s, which has ended", flow_id, row.holder)
            await self._leases.release([(flow_id, row.token)])
            claimed_at = seconds_since_boot()
            claim = await self._leases.take(flow_id, own_holder(), LEASE)
        return claimed_at, claim, row.due_in

    async def _row(self, flow_id: UUID) -> FlowRunRow | None:
        leases = self._leases
        return await leases.read_run(flow_id) if isinstance(leases, LeaseReader) else None


def _not_taken(
    instance: FlowInstance, left: timedelta | None
) -> FlowAlreadyCompleted | FlowWasCancelled | FlowIsRunning:
    """Return why a flow in this state has no lease to take."""
    if instance.completed:
        return FlowAlreadyCompleted(instance.id)
    if instance.cancelled is not None:
        return FlowWasCancelled(instance.id, instance.cancelled)
    return FlowIsRunning(instance.id, left)

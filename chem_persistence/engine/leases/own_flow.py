"""A flow that was given to workers, and that a program runs by itself: it takes the lease."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from msgspec import UNSET

from chem_persistence.domain.events import FlowInitialized
from chem_persistence.domain.instance import FlowInstance, initial_instance
from chem_persistence.domain.replay import replay
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.leases.held_flow import HeldFlow
from chem_persistence.engine.leases.leased_run import LeasedRun, cancellation
from chem_persistence.engine.leases.renewal import LeaseKeeper, seconds_since_boot
from chem_persistence.errors import (
    FlowAlreadyCompleted,
    FlowIsRunning,
    FlowWasCancelled,
)
from chem_persistence.store.leasing.leases import Claim, LeasingEventStore
from chem_persistence.store.ports import EventStore

__all__ = ["GRACE", "LEASE", "STALL", "OwnFlows", "is_given"]

LEASE = timedelta(seconds=30)
"""How long a flow is held without a renewal."""

STALL = timedelta(minutes=5)
"""After this time without an answer of the event loop, no lease is renewed."""

GRACE = timedelta(seconds=20)
"""How long a step may be past its time limit before its lease is not renewed any more."""


async def is_given(store: EventStore, flow_id: UUID) -> bool:
    """Return whether a flow was given to workers.

    Raises what `EventStore.list` raises.
    """
    return any(
        isinstance(first.kind, FlowInitialized) and first.kind.due is not UNSET
        for first in await store.list(flow_id, limit=1)
    )


class OwnFlows:
    """Runs flows that were given to workers as a worker does, each in the task of its caller."""

    def __init__(self, store: LeasingEventStore, flow: Flow[Any, Any]) -> None:
        self._store = store
        self._flow = flow
        self._worker = uuid4()
        self._leases = store.leases
        self._keeper = LeaseKeeper(self._leases, duration=LEASE, stall=STALL)

    async def run(self, flow_id: UUID, *, to_end: bool) -> FlowInstance:
        """Run a flow to its end, or one step of it.

        A retry that a step's policy schedules is waited for, and run unless a worker comes first.

        Raises what `FlowEngine.run_to_end` raises.
        """
        async with self._keeper:
            while True:
                held = await self._taken(flow_id)
                await held.go(lambda _: True, steps=None if to_end else 1)
                after = held.run.retry_after
                if after is None or not to_end:
                    return held.run.instance
                await asyncio.sleep(after.total_seconds())

    async def _taken(self, flow_id: UUID) -> HeldFlow:
        claimed_at, definition = seconds_since_boot(), self._flow.definition
        claim = await self._leases.take(flow_id, self._worker, LEASE)
        events = await self._store.list(flow_id)
        instance = replay(initial_instance(flow_id, definition), events, definition)
        if claim is None:
            raise _not_taken(instance)
        return self._held(claim, claimed_at, instance, cancellation(events))

    def _held(
        self, claim: Claim, claimed_at: float, instance: FlowInstance, cancelled: str | None
    ) -> HeldFlow:
        store = self._store.leased(claim.flow_id, claim.token)
        run = LeasedRun(store, self._flow.steps, self._flow.definition, instance)
        run.cancelled = cancelled
        return HeldFlow(run, claim, self._leases, self._keeper, claimed_at=claimed_at, grace=GRACE)


def _not_taken(
    instance: FlowInstance,
) -> FlowAlreadyCompleted | FlowWasCancelled | FlowIsRunning:
    """Return why a flow in this state has no lease to take."""
    if instance.completed:
        return FlowAlreadyCompleted(instance.id)
    if instance.cancelled is not None:
        return FlowWasCancelled(instance.id, instance.cancelled)
    return FlowIsRunning(instance.id)

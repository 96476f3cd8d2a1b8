"""Claims and leases of the flows of a store in memory."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import groupby
from typing import Protocol
from uuid import UUID, uuid4

from chem_persistence.domain.events import FlowEvent
from chem_persistence.memory.runs import NEVER, MemoryRuns, later
from chem_persistence.memory.slots import MemorySlots
from chem_persistence.store.checks import check_flow_id, check_not_negative
from chem_persistence.store.leasing.leases import (
    Claim,
    FlowCounts,
    FlowRunRow,
    Renewal,
    check_duration,
    check_worker,
)

__all__ = ["InMemoryLeases"]


class _Store(Protocol):
    """The part of `InMemoryEventStore` that its leases need."""

    @property
    def runs(self) -> MemoryRuns: ...

    @property
    def slots(self) -> MemorySlots: ...

    async def read_feed(self, *, limit: int) -> list[FlowEvent]: ...


class InMemoryLeases:
    """The leases of the flows of a store in memory, by the store's clock; see `Leases`."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._runs = store.runs

    @property
    def slots(self) -> MemorySlots:
        """The slots of the limited resources; see `Slots`."""
        return self._store.slots

    @asynccontextmanager
    async def hear(self, told: Callable[[str], None]) -> AsyncIterator[None]:
        """Call `told` when flows become due; see `HintingLeases.hear`."""
        self._runs.listeners.append(told)
        try:
            yield
        finally:
            self._runs.listeners.remove(told)

    @property
    def hears(self) -> bool:
        """Whether hints are heard at present; see `ListeningLeases.hears`."""
        return bool(self._runs.listeners)

    async def next_due(self, definitions: Collection[str], within: timedelta) -> timedelta | None:
        """Return after how long the next flow is due; see `ListeningLeases.next_due`."""
        check_duration("within", within)
        present = self._runs.now()
        due = self._runs.due(definitions, later(present, within))
        return due[0][1].due_at - present if due else None

    async def hint(self, definitions: Collection[str]) -> None:
        """Notify all listeners that flows are due; see `HintingLeases.hint`."""
        for told in list(self._runs.listeners):
            for definition in definitions:
                told(definition)

    async def claim(
        self, definitions: Collection[str], worker: UUID, limit: int, duration: timedelta
    ) -> list[Claim]:
        """Claim due flows; see `Leases.claim`."""
        check_worker(worker)
        check_not_negative(limit=limit)
        check_duration("duration", duration)
        present, token = self._runs.now(), uuid4()
        due = self._runs.due(definitions, present)
        busy = dict.fromkeys(run.definition_hash for _, run in due)
        share = -(-limit // len(busy)) if busy else 0
        claims: list[Claim] = []
        for definition in busy:
            own = [item for item in due if item[1].definition_hash == definition]
            for flow_id, run in own[: min(share, limit - len(claims))]:
                run.hold(worker, token, later(present, duration))
                claims.append(Claim(flow_id, token, definition))
        return claims

    async def take(self, flow_id: UUID, worker: UUID, duration: timedelta) -> Claim | None:
        """Claim one flow; see `Leases.take`."""
        check_flow_id(flow_id)
        check_worker(worker)
        check_duration("duration", duration)
        run, present, token = self._runs.rows.get(flow_id), self._runs.now(), uuid4()
        if run is None or (run.lease is not None and run.due_at > present):
            return None
        run.hold(worker, token, later(present, duration))
        return Claim(flow_id, token, run.definition_hash)

    async def renew(
        self, held: Iterable[tuple[UUID, UUID]], duration: timedelta
    ) -> Mapping[UUID, Renewal]:
        """Renew leases; see `Leases.renew`."""
        check_duration("duration", duration)
        found: dict[UUID, Renewal] = {}
        for flow_id, token in held:
            run = self._runs.held(flow_id, token)
            if run is None:
                found[flow_id] = Renewal.LOST
                continue
            run.due_at = later(self._runs.now(), duration)
            found[flow_id] = Renewal.CALLED if run.called else Renewal.RENEWED
        return found

    async def give_back(self, flow_id: UUID, token: UUID, due_in: timedelta | None) -> bool:
        """Release a flow with which there is nothing to do; see `Leases.give_back`."""
        check_duration("due_in", due_in)
        run, present = self._runs.held(flow_id, token), self._runs.now()
        if run is None:
            return False
        due_at = NEVER if due_in is None else later(present, due_in)
        run.release(present if run.called else due_at)
        return True

    async def leave(self, flow_id: UUID, token: UUID) -> bool:
        """Release a flow that a program runs by itself; see `Leases.leave`."""
        run = self._runs.held(flow_id, token)
        if run is not None:
            run.release(NEVER)
        return run is not None

    async def release(self, held: Iterable[tuple[UUID, UUID]]) -> list[UUID]:
        """Release flows, due now; see `Leases.release`."""
        released: list[UUID] = []
        for flow_id, token in held:
            if run := self._runs.held(flow_id, token):
                run.release(self._runs.now())
                released.append(flow_id)
        return released

    async def call(self, flow_ids: Iterable[UUID]) -> list[UUID]:
        """Call flows without an event; see `Leases.call`."""
        called: list[UUID] = []
        for flow_id in dict.fromkeys(flow_ids):
            if run := self._runs.rows.get(flow_id):
                run.call(self._runs.now())
                called.append(flow_id)
        return called

    async def count_flows(self, definitions: Collection[str]) -> Mapping[str, FlowCounts]:
        """Count the flows of definitions that are due, or wait; see `FlowCounter.count_flows`."""
        present, due, waiting = self._runs.now(), Counter[str](), Counter[str]()
        for run in self._runs.rows.values():
            if run.due_at <= present:
                due[run.definition_hash] += 1
            elif run.lease is None and not run.by_program:
                waiting[run.definition_hash] += 1
        return {each: FlowCounts(due[each], waiting[each]) for each in definitions}

    async def other_definitions(self, known: Collection[str], limit: int) -> list[str]:
        """List the definitions of flows; see `DefinitionLister.other_definitions`."""
        check_not_negative(limit=limit)
        named = dict.fromkeys(run.definition_hash for run in self._runs.rows.values())
        return [each for each in named if each not in set(known)][:limit]

    async def read_run(self, flow_id: UUID) -> FlowRunRow | None:
        """Return the row of a flow; see `LeaseReader.read_run`."""
        if (run := self._runs.rows.get(flow_id)) is None:
            return None
        due_in = None if run.due_at == NEVER else run.due_at - self._runs.now()
        return FlowRunRow(due_in, run.lease, run.holder)

    async def rebuild(self) -> int:
        """Make the rows what the log implies; see `Leases.rebuild`."""
        events = sorted(await self._store.read_feed(limit=2**62), key=lambda event: event.flow_id)
        return sum(
            self._runs.rebuild(flow_id, sorted(flow, key=lambda event: event.version))
            for flow_id, flow in groupby(events, key=lambda event: event.flow_id)
        )

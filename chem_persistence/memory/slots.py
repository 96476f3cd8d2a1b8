"""The slots of the limited resources of a store in memory.

The rules are those of the functions of sql/migrations/0014_limits.sql. Nothing is locked: a call
awaits nothing.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from chem_persistence.domain.instance import StepStatus
from chem_persistence.domain.step_rows import execution_changes
from chem_persistence.memory.log import MemoryLog
from chem_persistence.store.codec import decode_event
from chem_persistence.store.leasing.hints import ANY_DEFINITION
from chem_persistence.store.leasing.slots import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    NOT_WAITED_FOR,
    PAUSE_PER_FLOW,
    ResourceLimit,
    SlotUser,
    Taken,
    check_limit,
    check_uses,
)

__all__ = ["MemorySlots"]

_ENDED = frozenset({StepStatus.FINISHED, StepStatus.FAILED})


class _Resource(msgspec.Struct):
    """A limited resource: how much there is, and how much each step uses."""

    most: int
    users: Counter[tuple[UUID, int]]


class _Wait(msgspec.Struct):
    """A flow whose step waits for slots; see the table `resource_waits`."""

    step_index: int
    amounts: Mapping[str, int]
    since: datetime
    asks_at: datetime
    is_possible: bool


class MemorySlots:
    """The slots of the resources of a store in memory; see `Slots`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._runs = log.runs
        self._resources: dict[str, _Resource] = {}
        self._waits: dict[UUID, _Wait] = {}

    async def take(self, flow_id: UUID, step_index: int, uses: Mapping[str, int]) -> Taken:
        """Take what a step uses; see `Slots.take`."""
        wanted = {
            resource: amount
            for resource, amount in check_uses(uses).items()
            if resource in self._resources
        }
        if not wanted:
            return Taken(is_limited=False)
        self._free_ended()
        present, user = self._runs.now(), (flow_id, step_index)
        known = self._waits.pop(flow_id, None)
        since = known.since if known is not None and known.step_index == step_index else present
        short = [
            resource
            for resource in sorted(wanted)
            if not self._fits(resource, wanted[resource], user, since, present)
        ]
        for resource, amount in wanted.items():
            self._resources[resource].users[user] = 0 if short else amount
        if not short:
            return Taken(is_limited=True)
        pause = max(
            FIRST_PAUSE,
            min((present - since) / 2, LONGEST_PAUSE),
            PAUSE_PER_FLOW * max(len(self._before(each, since, flow_id)) for each in short),
        )
        possible = all(self._resources[each].most >= wanted[each] for each in wanted)
        self._waits[flow_id] = _Wait(step_index, wanted, since, present + pause, possible)
        return Taken(is_limited=True, pause=pause, short_of=short[0])

    def _fits(
        self,
        resource: str,
        amount: int,
        user: tuple[UUID, int],
        since: datetime,
        present: datetime,
    ) -> bool:
        """Return whether a step may have what it wants of a resource, or has it already."""
        limited = self._resources[resource]
        if limited.users[user] >= amount:
            return True
        reserved = sum(
            self._waits[each].amounts[resource]
            for each in self._before(resource, since, user[0])
            if self._is_waited_for(each, present)
        )
        others = limited.users.total() - limited.users[user]
        return others + amount + reserved <= limited.most

    def _is_waited_for(self, flow_id: UUID, present: datetime) -> bool:
        wait = self._waits[flow_id]
        is_late = wait.asks_at <= present - NOT_WAITED_FOR
        return wait.is_possible and not is_late and flow_id in self._runs.rows

    def _before(self, resource: str, since: datetime, flow_id: UUID) -> list[UUID]:
        """Return the flows that have waited longer for a resource, the longest one first."""
        return [
            each
            for each in self._in_line(resource)
            if (self._waits[each].since, each) < (since, flow_id)
        ]

    def _in_line(self, resource: str) -> list[UUID]:
        waiting = [each for each, wait in self._waits.items() if resource in wait.amounts]
        return sorted(waiting, key=lambda each: (self._waits[each].since, each))

    def _free_ended(self) -> None:
        """Free the slots whose flow is over, or whose step has an outcome."""
        for limited in self._resources.values():
            for user, slots in list(limited.users.items()):
                if slots == 0 or self._has_ended(*user):
                    del limited.users[user]

    def _has_ended(self, flow_id: UUID, step_index: int) -> bool:
        if flow_id not in self._runs.rows:
            return True
        events = [decode_event(stored) for stored in self._log.stream(flow_id)]
        _, steps = execution_changes((event.kind, event.ts) for event in events)
        return any(step.step_index == step_index and step.status in _ENDED for step in steps)

    async def give_back(self, flow_id: UUID, step_index: int, token: UUID) -> None:
        """Free the slots of a step that was not begun; see `Slots.give_back`."""
        if self._runs.holds(flow_id, token):
            for limited in self._resources.values():
                del limited.users[flow_id, step_index]

    async def call_next(self, freed: Mapping[str, int]) -> list[UUID]:
        """Call the flows that may have what was freed; see `Slots.call_next`."""
        called: dict[UUID, None] = {}
        for resource, amount in freed.items():
            before = 0
            for flow_id in self._in_line(resource):
                wait = self._waits[flow_id]
                if before >= amount:
                    break
                if wait.is_possible and (run := self._runs.rows.get(flow_id)) is not None:
                    before += wait.amounts[resource]
                    run.call(self._runs.now())
                    called[flow_id] = None
        if called:
            for told in list(self._runs.listeners):
                told(ANY_DEFINITION)
        return list(called)

    async def set_limit(self, resource: str, most: int | None) -> None:
        """Limit a resource; see `Slots.set_limit`."""
        check_limit(resource, most)
        if most is not None:
            self._resources.setdefault(resource, _Resource(most, Counter())).most = most
            return
        self._resources.pop(resource, None)
        for flow_id, wait in list(self._waits.items()):
            amounts = {name: amount for name, amount in wait.amounts.items() if name != resource}
            wait.amounts = amounts
            if not amounts:
                del self._waits[flow_id]

    async def limits(self) -> list[ResourceLimit]:
        """Return the limits; see `Slots.limits`."""
        self._free_ended()
        listed = []
        for resource, limited in sorted(self._resources.items()):
            waiting = [each for each in self._in_line(resource) if each in self._runs.rows]
            listed.append(
                ResourceLimit(
                    resource=resource,
                    most=limited.most,
                    used=limited.users.total(),
                    users=tuple(
                        SlotUser(*user, slots) for user, slots in sorted(limited.users.items())
                    ),
                    waiting=len(waiting),
                    impossible=sum(not self._waits[each].is_possible for each in waiting),
                )
            )
        return listed

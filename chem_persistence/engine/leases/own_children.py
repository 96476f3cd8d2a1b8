"""What a program that runs a flow without a worker does while a step of it waits."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from chem_persistence.domain.events import (
    FlowEvent,
    RetryScheduled,
    StepSignal,
    StepWaits,
    UserInteractionProvided,
)
from chem_persistence.domain.instance import FlowInstance, StepStatus
from chem_persistence.engine.children.step import ChildrenStep
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.leases.leased_run import LeasedRun
from chem_persistence.engine.watching import WatchingStep
from chem_persistence.errors import (
    FlowAlreadyCompleted,
    FlowAwaitsUser,
    FlowHasFailed,
    FlowIsRunning,
    FlowIsWaiting,
    FlowWasCancelled,
    StepRaised,
)
from chem_persistence.store.leasing.children import (
    ChildReader,
    ChildState,
    child_count,
    child_id,
)
from chem_persistence.store.ports import Clock

__all__ = ["OwnChildren", "Rest", "called_before", "rest", "rest_of", "wait_for_time"]

AT_ONCE = 32
"""The number of a step's children that one program runs at the same time."""

SECONDS_BETWEEN_LOOKS = 0.1
"""How long a child is left that a worker runs."""


class OwnChildren:
    """The children of one flow that are run in this process, until the block is left.

    `run` runs one of them to its end.
    """

    def __init__(self, store: object, parent: UUID, run: Callable[[UUID], Awaitable[None]]) -> None:
        self._store = store
        self._parent = parent
        self._run = run
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._waiting: set[UUID] = set()  # children that nothing wakes but an event

    async def __aenter__(self) -> Self:
        """Begin without any."""
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def go_on(self, instance: FlowInstance) -> None:
        """Run children until half of those under way have ended, so that others can follow.

        Raises what `FlowEngine.run_to_end` raises but what it says of the child alone, and:
            FlowIsWaiting: all that are left wait for an event, or for a person.
        """
        slot = instance.steps[instance.cursor]
        left = await self._running(instance.cursor, child_count(slot.data))
        enough = len(left) // 2
        while len(left) > enough:
            for flow_id in left:
                if len(self._tasks) < AT_ONCE and flow_id not in self._tasks.keys() | self._waiting:
                    self._tasks[flow_id] = asyncio.create_task(self._run_one(flow_id))
            if not self._tasks:
                raise FlowIsWaiting(self._parent, slot.step_id, None)
            done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            for flow_id in [each for each, task in self._tasks.items() if task in done]:
                self._tasks.pop(flow_id).result()
                if flow_id in left and flow_id not in self._waiting:
                    left.remove(flow_id)

    async def _running(self, index: int, count: int) -> list[UUID]:
        if not isinstance(self._store, ChildReader):
            return []
        flow_ids = [child_id(self._parent, index, item) for item in range(count)]
        states = await self._store.child_states(flow_ids)
        return [flow for flow in flow_ids if states.get(flow) is ChildState.RUNNING]

    async def _run_one(self, flow_id: UUID) -> None:
        try:
            await self._run(flow_id)
        except (StepRaised, FlowHasFailed, FlowWasCancelled, FlowAlreadyCompleted):
            pass  # the parent's step finds it out
        except FlowIsRunning:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        except (FlowIsWaiting, FlowAwaitsUser):
            self._waiting.add(flow_id)


class Rest:
    """What a program does under its lease while a flow waits: at first, and then again and again.

    `run` is the flow, `events` are those from which it was loaded, if it has any, and `children`
    the flows that its steps run.
    """

    def __init__(
        self,
        flow: Flow[Any, Any],
        run: LeasedRun,
        events: Iterable[FlowEvent] | None,
        children: OwnChildren,
        *,
        to_end: bool,
    ) -> None:
        self._flow = flow
        self._run = run
        self._events = events
        self._children = children
        self._to_end = to_end

    async def __call__(self) -> None:
        """Wait once.

        Raises what `rest` and `wait_for_time` raise.
        """
        run, events, self._events = self._run, self._events, None
        if events is not None:
            await wait_for_time(self._flow, run.instance, events, run.clock, to_end=self._to_end)
        else:
            await rest_of(self._flow, run, self._children)


async def rest_of(flow: Flow[Any, Any], run: LeasedRun, children: OwnChildren) -> bool:
    """Do what a flow waits for that has paused; return False if it has not.

    Raises what `rest` raises.
    """
    if run.lacks_slots and run.look_after is not None:
        await asyncio.sleep(run.look_after.total_seconds())
    elif run.retry_after is not None:
        await asyncio.sleep(run.retry_after.total_seconds())
    elif run.has_parked or run.look_after is not None:
        await rest(flow, run.instance, children, run.clock, run.look_after)
    else:
        return False
    return True


async def rest(
    flow: Flow[Any, Any],
    instance: FlowInstance,
    children: OwnChildren,
    clock: Clock,
    look_after: timedelta | None,
) -> None:
    """Do what a step waits for: run its children, or let its time pass, or that to the next look.

    Raises what `OwnChildren.go_on` raises, and:
        FlowIsWaiting: the step waits for an event.
    """
    if isinstance(flow.steps[instance.cursor], ChildrenStep):
        await children.go_on(instance)
    elif look_after is not None:
        await asyncio.sleep(look_after.total_seconds())
    else:
        await wait_for_time(flow, instance, (), clock, to_end=True)


async def wait_for_time(
    flow: Flow[Any, Any],
    instance: FlowInstance,
    events: Iterable[FlowEvent],
    clock: Clock,
    *,
    to_end: bool,
) -> None:
    """Wait until the time of a step that waits, whose flow has these events.

    Raises:
        FlowAwaitsUser: it waits for a person, whose time is not over.
        FlowIsWaiting: it waits for an event that has not come, or not `to_end`, and its time has
            not come.
    """
    index = instance.cursor
    if index == len(instance.steps) or isinstance(flow.steps[index], ChildrenStep):
        return
    slot = instance.steps[index]
    left = None if slot.until is None else slot.until - clock.now().astimezone(UTC)
    if instance.cancelled is not None:
        return
    if slot.status is StepStatus.AWAITING_USER_INPUT and (left is None or left > timedelta(0)):
        raise FlowAwaitsUser(instance.id, slot.step_id)
    if slot.status is not StepStatus.WAITING or (slot.until is None and _is_called(events)):
        return
    if left is None or (left > timedelta(0) and not to_end):
        raise FlowIsWaiting(instance.id, slot.step_id, slot.until)
    await asyncio.sleep(max(left, timedelta(0)).total_seconds())


def _is_called(events: Iterable[FlowEvent]) -> bool:
    """Return whether something was said to a flow since a step began to wait."""
    called = False
    for event in events:
        if isinstance(event.kind, RetryScheduled | StepWaits):
            called = False
        elif isinstance(event.kind, StepSignal | UserInteractionProvided):
            called = True
    return called


def called_before(
    flow: Flow[Any, Any], instance: FlowInstance, events: Iterable[FlowEvent]
) -> datetime | None:
    """Return the time for which a flow waits if it was called since it began to wait.

    That is the time of its next retry, or until which its step waits, unless the step is one that
    is looked at, which decides itself whether it was called too early. Without a call a claim says
    that the time has come, whatever this machine's clock shows. A person's time is not cut short by
    a call that came before the question either, to a worker that held the flow then.
    """
    index = instance.cursor
    if index == len(instance.steps) or isinstance(flow.steps[index], WatchingStep):
        return None
    slot = instance.steps[index]
    if slot.status is StepStatus.AWAITING_USER_INPUT:
        return slot.until if any(isinstance(event.kind, StepSignal) for event in events) else None
    waits = slot.status in (StepStatus.PENDING, StepStatus.WAITING)
    return slot.until if waits and _is_called(events) else None

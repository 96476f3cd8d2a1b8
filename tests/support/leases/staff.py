"""Flows for workers, whose steps a test holds, lets go and counts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence import (
    Flow,
    FlowClient,
    FlowEvent,
    InMemoryFlowRepository,
    RetryPolicy,
    Step,
    StepContext,
    Worker,
    flow,
)
from tests.support.leases.desk import NOW, Desk

__all__ = [
    "Act",
    "Acts",
    "Number",
    "chain",
    "client_of",
    "submit",
    "trace",
    "until",
    "working",
]


class Number(msgspec.Struct):
    n: int


def chain(first: Step[Any, Any], *others: Step[Any, Any]) -> Flow[Any, Any]:
    """Return the flow of these steps."""
    made: Flow[Any, Any] = flow("acts", first)
    for step in others:
        made = made.then(step)
    return made


class Acts:
    """What steps do, by their number: `begun` is set when one runs, `may_end` lets it end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.runs: list[tuple[str, UUID]] = []
        self.cancelled: list[str] = []
        self.most_at_once = 0
        self.running = 0
        self.failures: list[BaseException] = []
        self.held: frozenset[str] = frozenset()
        self.raised_when_cancelled: Exception | None = None


class Act(Step[Number, Number]):
    """Count up; first do as `acts` says: raise, or wait until the test lets it go on."""

    def __init__(
        self,
        acts: Acts,
        id: str = "act",  # noqa: A002
        *,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        uses: dict[str, int] | None = None,
    ) -> None:
        self.id = id
        self.acts = acts
        self.retry = retry or RetryPolicy()
        self.timeout = timeout
        self.uses = uses or {}

    async def run(self, number: Number, context: StepContext) -> Number:
        acts = self.acts
        acts.runs.append((self.id, context.flow_id))
        acts.running += 1
        acts.most_at_once = max(acts.most_at_once, acts.running)
        try:
            if acts.failures:
                raise acts.failures.pop(0)
            if self.id in acts.held:
                acts.begun.set()
                await acts.may_end.wait()
        except asyncio.CancelledError:
            acts.cancelled.append(self.id)
            if acts.raised_when_cancelled is not None:
                raise acts.raised_when_cancelled from None
            raise
        finally:
            acts.running -= 1
        return Number(number.n + 1)


def client_of(desk: Desk) -> FlowClient:
    return FlowClient(desk.store, InMemoryFlowRepository(desk.store), poll_interval=0.02)


async def submit(desk: Desk, flow: Flow[Number, Any], n: int = 0, due_in: timedelta = NOW) -> UUID:
    """Submit a flow to workers."""
    return await client_of(desk).submit(flow, Number(n), due=datetime.now(UTC) + due_in)


async def trace(desk: Desk, flow_id: UUID) -> str:
    """Return the letters of a flow's events."""
    return "".join(event.variant for event in await desk.store.list(flow_id))


@asynccontextmanager
async def working(
    desk: Desk, flows: Sequence[Flow[Any, Any]], **options: Any
) -> AsyncIterator[Worker]:
    """Run a worker for the length of a block, then stop it."""
    worker = Worker(desk.store, flows, **{"poll_interval": 0.02} | options)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await task


async def until(
    desk: Desk, flow_id: UUID, reached: Callable[[Sequence[FlowEvent]], bool]
) -> list[FlowEvent]:
    """Look at a flow until its log is as a test waits for."""
    while not reached(events := await desk.store.list(flow_id)):
        await asyncio.sleep(0.005)
    return events

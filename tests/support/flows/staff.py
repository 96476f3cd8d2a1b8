"""Flows for workers, whose steps a test holds, lets go and counts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence import (
    Artifact,
    FlowDefinition,
    FlowEvent,
    FlowInitialized,
    RetryPolicy,
    Step,
    StepContext,
    Worker,
)
from chem_persistence.engine.steps_fit import Steps, extend_sequence
from tests.support.flows.desk import NOW, Desk
from tests.support.flows.flows import new_flow_id

__all__ = [
    "Act",
    "Acts",
    "Chain",
    "Number",
    "chain",
    "submit",
    "submit_artifact",
    "trace",
    "until",
    "working",
]


class Number(msgspec.Struct):
    n: int


class Chain(msgspec.Struct, frozen=True):
    """Steps that a worker can run."""

    definition: FlowDefinition
    steps: Steps


def chain(*steps: Step[Any, Any]) -> Chain:
    fitting: Steps = ()
    for step in steps:
        fitting = extend_sequence(fitting, step)
    return Chain(FlowDefinition(tuple(step.definition() for step in fitting)), fitting)


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


async def submit(desk: Desk, flow: Chain, n: int = 0, due_in: timedelta = NOW) -> UUID:
    """Give a flow to workers."""
    given = Artifact.from_payload(kind="Number", payload=Number(n))
    return await submit_artifact(desk, flow, given, due_in)


async def submit_artifact(
    desk: Desk, flow: Chain, given: Artifact, due_in: timedelta = NOW
) -> UUID:
    """Give a flow with any input to workers."""
    flow_id, definition = new_flow_id(), flow.definition.definition_hash
    due = datetime.now(UTC) + due_in
    await desk.store.append_kind(
        flow_id,
        FlowInitialized(definition, len(flow.steps), given.hash, due=due),
        artifacts=[given],
        expected_version=0,
    )
    return flow_id


async def trace(desk: Desk, flow_id: UUID) -> str:
    """Return the letters of a flow's events."""
    return "".join(event.variant for event in await desk.store.list(flow_id))


@asynccontextmanager
async def working(desk: Desk, flows: Sequence[Chain], **options: Any) -> AsyncIterator[Worker]:
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

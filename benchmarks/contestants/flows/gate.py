"""Flows that wait for a person: what an idle worker costs, and how soon an answer is followed."""

import asyncio
import random
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from benchmarks.contestants.flows.lines import Idle, Number, Steps
from benchmarks.contestants.load import Load, Slice, Window
from chem_persistence import (
    Ask,
    ConnectionProvider,
    Flow,
    PgEventStore,
    PoolProvider,
    Step,
    StepContext,
    Worker,
    build_pool,
    flow,
)
from chem_persistence.postgres.connection.ports import Connection

__all__ = ["AnsweredGate", "IdleGate"]

SEED = 20261128


class Verdict(msgspec.Struct, frozen=True):
    """Whether a person accepts."""

    accept: bool


class Review(Ask[Number, Verdict, Number]):
    """Asks, and counts its questions."""

    id = "review"
    answer = Verdict

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def question(self, number: Number) -> str:
        """Count, and ask."""
        self._steps.count()
        return f"Is {number.number} good?"

    def decide(self, number: Number, answer: Verdict) -> Number:
        """Go on, whatever the answer is."""
        del answer
        return number


class Note(Step[Number, Number]):
    """Sets the future of a flow's number to the time at which it began."""

    id = "note"

    def __init__(self) -> None:
        self.begun: dict[int, asyncio.Future[float]] = {}

    async def run(self, input: Number, context: StepContext) -> Number:  # noqa: A002, ARG002
        """Set the future of the flow to the present time."""
        self.begun.pop(input.number).set_result(time.perf_counter())
        return input


class IdleGate(Idle):
    """A worker without a due flow, while as many flows wait for answers as the load says."""

    def _made(self) -> Flow[Number, Any]:
        self._note = Note()
        return flow("gate", Review(self._steps)).then(self._note)


class AnsweredGate(IdleGate):
    """The time from the call that answers to the next step, in a worker that hears no hints.

    The answers come at random times, so that they meet the worker's polls at every moment.
    """

    async def run(self, load: Load) -> Slice:
        """Bring flows to their question, and answer each of them once."""
        first = self._submitted + 1
        await self._fill(load.flows)
        async with await build_pool(self._url) as pool:
            worker = Worker(PgEventStore(_WithoutHints(PoolProvider(pool))), [self._flow])
            window, moments = Window(load), random.Random(SEED)  # noqa: S311  # no secret
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(worker.run())
                await asyncio.sleep(load.warmup)
                window.open()
                answers = [
                    tasks.create_task(self._answered(number, moments.uniform(0, load.seconds)))
                    for number in range(first, self._submitted + 1)
                ]
                for answer in answers:
                    window.call_took(await answer, 1)
                window.close()
                worker.stop()
        return window.result()

    async def _answered(self, number: int, after: float) -> float:
        """Answer a flow after so many seconds; return how long its next step took to begin."""
        begun: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._note.begun[number] = begun
        await asyncio.sleep(after)
        answered_at = time.perf_counter()
        await self._client.answer(
            self._flow_ids[number], "review", Verdict(accept=True), actor="Ada"
        )
        return await begun - answered_at


class _WithoutHints:
    """A provider of connections that opens none of its own, so that no hint is heard."""

    def __init__(self, provider: ConnectionProvider) -> None:
        self._provider = provider

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        return self._provider.acquire()

"""absurd: tasks of eight trivial steps, each of which is a checkpoint; run by its worker."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import AsyncAbsurd

from benchmarks.contestants.flows.stepping import STEPS, Tally, drive_flows
from benchmarks.contestants.load import Load, Slice

__all__ = ["Tasks"]

_SCHEMA = Path(__file__).parent / "absurd" / "absurd.sql"
_QUEUE = "flows"


class Tasks:
    """One worker with a connection of its own, beside the client that spawns the tasks."""

    async def open(self, url: str) -> None:
        """Create its functions and a queue."""
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(_SCHEMA.read_bytes())
        self._url = url
        self._client = AsyncAbsurd(url, queue_name=_QUEUE)
        await self._client.create_queue()
        self._tally = Tally()

    async def run(self, load: Load) -> Slice:
        """Run a slice, with more tasks spawned than run at once."""
        worker = AsyncAbsurd(self._url, queue_name=_QUEUE)
        worker.register_task("eight")(self._eight)

        async def spawn(flows: Sequence[int]) -> None:
            await self._client.spawn("eight", {"flow": flows[0]}, queue=_QUEUE)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.start_worker(concurrency=load.flows))
            done = await drive_flows(spawn, self._tally, load)
            worker.stop_worker()
        await worker.close()
        return done

    async def close(self) -> None:
        """Close the client's connection."""
        await self._client.close()

    async def _eight(self, parameters: Any, context: Any) -> None:
        flow = parameters["flow"]
        for number in range(STEPS):
            await context.step(f"step_{number}", partial(self._step, flow, number))

    async def _step(self, flow: int, number: int) -> dict[str, int]:
        self._tally.step_ran(flow, number)
        return {"flow": flow, "step": number}

"""procrastinate: a job for each step, which defers the next one; run by its worker."""

import asyncio
from collections.abc import Sequence

import procrastinate

from benchmarks.contestants.flows.stepping import STEPS, Tally, drive_flows
from benchmarks.contestants.load import Load, Slice

__all__ = ["Jobs"]


class Jobs:
    """Eight jobs a flow. Nothing ties them together: a job that is run again defers again."""

    async def open(self, url: str) -> None:
        """Open the app and create its tables."""
        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        await self._app.open_async()
        await self._app.schema_manager.apply_schema_async()
        self._tally = Tally()

        @self._app.task(name="step")
        async def step(flow: int, number: int) -> None:
            if number < STEPS - 1:
                await self._step.defer_async(flow=flow, number=number + 1)
            self._tally.step_ran(flow, number)

        self._step = step

    async def run(self, load: Load) -> Slice:
        """Run a slice, with more jobs deferred than run at once."""

        async def defer(flows: Sequence[int]) -> None:
            await self._step.batch_defer_async(*({"flow": flow, "number": 0} for flow in flows))

        serving = asyncio.create_task(
            self._app.run_worker_async(concurrency=load.flows, install_signal_handlers=False)
        )
        try:
            return await drive_flows(defer, self._tally, load, together=32)
        finally:
            serving.cancel()
            await asyncio.wait([serving])

    async def close(self) -> None:
        """Close the pool."""
        await self._app.close_async()

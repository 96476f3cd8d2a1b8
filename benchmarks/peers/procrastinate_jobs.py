"""procrastinate: a job deferred."""

from uuid import uuid4

import procrastinate

from benchmarks.contestants.load import Load, Slice, drive
from benchmarks.data.history import ROWS_OF_TEN

__all__ = ["Batched", "Single"]

_PAYLOAD = ROWS_OF_TEN[2][1]


class Single:
    """One job per `defer_async`, on the connector's pool."""

    async def open(self, url: str) -> None:
        """Open the app and create its tables."""
        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        await self._app.open_async()
        await self._app.schema_manager.apply_schema_async()

        @self._app.task(name="step")
        def step(flow: str, payload: str) -> None:
            """Do nothing: no worker runs here."""

        self._task = step

    async def run(self, load: Load) -> Slice:
        """Run a slice."""

        async def append() -> int:
            await self._task.defer_async(flow=str(uuid4()), payload=_PAYLOAD)
            return 1

        return await drive([append] * load.flows, load)

    async def close(self) -> None:
        """Close the pool."""
        await self._app.close_async()


class Batched(Single):
    """One `batch_defer_async` for all flows, with one job of each."""

    async def run(self, load: Load) -> Slice:
        """Run a slice with one caller that acts for all flows."""

        async def append() -> int:
            jobs = [{"flow": str(uuid4()), "payload": _PAYLOAD} for _ in range(load.flows)]
            await self._task.batch_defer_async(*jobs)
            return load.flows

        return await drive([append], load)

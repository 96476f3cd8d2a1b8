"""DBOS: workflows of steps, each step's output checkpointed before the next one runs."""

from dbos import DBOS

from benchmarks.contestants.load import Load, Slice, drive, drive_threads
from benchmarks.data.history import ROWS_OF_TEN

__all__ = ["AsyncSteps", "ThreadSteps"]

_STEPS = 8
_EVENTS = _STEPS + 2
"""The start and the end of the workflow are recorded too, as our first and last event are."""


@DBOS.step()
async def async_step(index: int) -> str:
    """Return an output and do nothing else."""
    return ROWS_OF_TEN[index + 1][1]


@DBOS.workflow()
async def async_flow() -> None:
    """Run the steps one after another."""
    for index in range(_STEPS):
        await async_step(index)


@DBOS.step()
def thread_step(index: int) -> str:
    """Return an output and do nothing else."""
    return ROWS_OF_TEN[index + 1][1]


@DBOS.workflow()
def thread_flow() -> None:
    """Run the steps one after another."""
    for index in range(_STEPS):
        thread_step(index)


class AsyncSteps:
    """One workflow of async steps per call."""

    async def open(self, url: str) -> None:
        """Launch DBOS, which creates its tables."""
        DBOS(config={"name": "benchmark", "system_database_url": url})
        DBOS.launch()

    async def run(self, load: Load) -> Slice:
        """Run a slice with one task per flow."""

        async def append() -> int:
            await async_flow()
            return _EVENTS

        return await drive([append] * load.flows, load)

    async def close(self) -> None:
        """Stop its threads."""
        DBOS.destroy()


class ThreadSteps(AsyncSteps):
    """One workflow of ordinary steps per call, with one thread per flow."""

    async def run(self, load: Load) -> Slice:
        """Run a slice in threads."""

        def append() -> int:
            thread_flow()
            return _EVENTS

        return await drive_threads([append] * load.flows, load)

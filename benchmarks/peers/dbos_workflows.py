"""DBOS: workflows of eight trivial steps, called, and taken from a queue by its worker."""

from collections.abc import Sequence

from dbos import DBOS

from benchmarks.contestants.flows.stepping import STEPS, Tally, drive_flows
from benchmarks.contestants.load import Load, Slice

__all__ = ["Called", "Queued"]

_QUEUE = "flows"
_POLL_SECONDS = 0.05
_TALLY = Tally()


@DBOS.step()
async def trivial(flow: int, step: int) -> dict[str, int]:
    """Count the step, and return a new value."""
    _TALLY.step_ran(flow, step)
    return {"flow": flow, "step": step}


@DBOS.workflow()
async def eight(flow: int) -> None:
    """Run the steps one after another."""
    for number in range(STEPS):
        await trivial(flow, number)


class Called:
    """Workflows that are called, one a task: no queue."""

    async def open(self, url: str) -> None:
        """Launch DBOS, which creates its tables."""
        DBOS(config={"name": "benchmark", "system_database_url": url})
        DBOS.launch()

    async def run(self, load: Load) -> Slice:
        """Run a slice with one task per flow."""

        async def call(flows: Sequence[int]) -> None:
            await eight(flows[0])

        return await drive_flows(call, _TALLY, load, waiting=1)

    async def close(self) -> None:
        """Stop its threads."""
        DBOS.destroy()


class Queued(Called):
    """Workflows that are enqueued, and run by the queue's worker in this process."""

    async def run(self, load: Load) -> Slice:
        """Run a slice, with more workflows enqueued than run at once."""
        await DBOS.register_queue_async(
            _QUEUE, worker_concurrency=load.flows, polling_interval_sec=_POLL_SECONDS
        )

        async def enqueue(flows: Sequence[int]) -> None:
            await DBOS.enqueue_workflow_async(_QUEUE, eight, flows[0])

        return await drive_flows(enqueue, _TALLY, load)

"""The library inside somebody else's asyncio service: a queue of jobs, a pool of workers, and a shutdown that loses nothing.

    python examples/orchestrator.py

The service runs flows until a SIGTERM cancels it in the middle of a measurement. What was acknowledged is in the log, and a
cancelled flow needs no cleaning up: the second start is given the same jobs and goes on with the step that was cut off. It
ends with the fingerprint of a flow that nobody disturbed. The log is on the server that DATABASE_URL names, else on an
embedded one.
"""

import asyncio
import os
import signal
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec
from database import open_database

from chem_persistence import (
    ConnectionProvider,
    FlowAlreadyCompleted,
    FlowEngine,
    FlowHasFailed,
    PgEventStore,
    PgFlowRepository,
    Step,
    StepContext,
    StepRaised,
)


class Sample(msgspec.Struct, frozen=True):
    """A flow's input."""

    name: str


class Weighed(msgspec.Struct, frozen=True):
    """A sample on the balance, in milligrams."""

    name: str
    mass: float


class Reading(msgspec.Struct, frozen=True):
    """What the instrument showed."""

    name: str
    absorbance: float


class Instrument:
    """Stands for what takes hours: it answers once it is `free`, and `callers` counts who has begun to wait for it."""

    def __init__(self, *, free: bool) -> None:
        self.callers = asyncio.Semaphore(0)
        self._free = asyncio.Event()
        if free:
            self._free.set()

    async def measure(self, mass: float) -> float:
        """Give the absorbance of this many milligrams."""
        self.callers.release()
        await self._free.wait()
        return mass / 40


class WeighStep(Step[Sample, Weighed]):
    """Weigh the sample."""

    id = "weigh"

    async def run(self, sample: Sample, _context: StepContext) -> Weighed:
        """Give its mass."""
        return Weighed(sample.name, 10.0 * len(sample.name))


class MeasureStep(Step[Weighed, Reading]):
    """Measure the sample. The instrument is no parameter: it does not belong to the definition and is not hashed."""

    id = "measure"

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    async def run(self, sample: Weighed, _context: StepContext) -> Reading:
        """Wait for the instrument."""
        return Reading(sample.name, await self._instrument.measure(sample.mass))


class Job(NamedTuple):
    """A flow to be run; whoever hands it in chooses the id, and may hand it in again."""

    flow_id: UUID
    sample: Sample


class Service:
    """Works through jobs, `workers` at a time."""

    def __init__(self, engine: FlowEngine[Sample], *, workers: int) -> None:
        self._engine = engine
        self._workers = workers
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()

    async def serve(self, jobs: Iterable[Job]) -> bool:
        """Run the jobs; give True when all are done, and False when SIGTERM or SIGINT cut them off.

        Raises:
            ExceptionGroup: of StoreUnavailable, when the database is lost; hand the jobs in again when it is back.
        """
        for job in jobs:
            self._jobs.put_nowait(job)
        serving = asyncio.create_task(self._serve())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, serving.cancel)
        try:
            await (
                serving
            )  # whether a signal cancels it or somebody cancels us: its workers have ended
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        return True

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work()) for _ in range(self._workers)]
            await self._jobs.join()
            for worker in workers:
                worker.cancel()

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                await self._engine.run_to_end(job.flow_id, job.sample)
            except FlowAlreadyCompleted:
                pass  # handed in twice, or finished before the last shutdown
            except (StepRaised, FlowHasFailed) as error:
                print("failed:", error)  # it is in the log; the service goes on
            self._jobs.task_done()


async def start_service(
    provider: ConnectionProvider, jobs: Sequence[Job], instrument: Instrument
) -> None:
    """Do what a start of the process does, and show how far the flows have come when it ends."""
    store = PgEventStore(provider)
    engine = (
        FlowEngine.builder(store, PgFlowRepository(provider))
        .first_step(WeighStep())
        .add_step(MeasureStep(instrument))
        .build()
    )
    done = await Service(engine, workers=2).serve(jobs)
    print("all jobs are done" if done else "stopped by a signal")
    for job in jobs:
        measure = (await engine.load(job.flow_id)).steps[1]
        trace = " ".join(await engine.event_trace(job.flow_id))
        print(
            f"  {job.sample.name}: {trace} (measure: {measure.status}, attempts: {measure.attempts})"
        )
    if done:
        fingerprints = [await engine.flow_fingerprint(job.flow_id) for job in jobs]
        print(
            "the disturbed flow's fingerprint is the undisturbed one's:",
            fingerprints[0] == fingerprints[-1],
        )


async def send_signal(instrument: Instrument, callers: int) -> None:
    """Send this process a SIGTERM when so many flows are waiting for the instrument."""
    for _ in range(callers):
        await instrument.callers.acquire()
    os.kill(os.getpid(), signal.SIGTERM)


async def main() -> None:
    """Start the service, stop it in the middle, and start it again."""
    disturbed = [Job(uuid4(), Sample("caffeine")), Job(uuid4(), Sample("aspirin"))]
    undisturbed = Job(uuid4(), Sample("caffeine"))
    async with open_database() as provider:
        busy = Instrument(free=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(send_signal(busy, callers=len(disturbed)))
            print("first start")
            await start_service(provider, disturbed, busy)
        print("second start")
        await start_service(provider, [*disturbed, undisturbed], Instrument(free=True))


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# first start
# stopped by a signal
#   caffeine: I S F S (measure: running, attempts: 1)
#   aspirin: I S F S (measure: running, attempts: 1)
# second start
# all jobs are done
#   caffeine: I S F S S F C (measure: finished, attempts: 2)
#   aspirin: I S F S S F C (measure: finished, attempts: 2)
#   caffeine: I S F S F C (measure: finished, attempts: 1)
# the disturbed flow's fingerprint is the undisturbed one's: True

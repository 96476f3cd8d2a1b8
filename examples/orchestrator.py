"""The library inside an asyncio service: a queue of jobs, workers, a shutdown that loses nothing.

    python examples/orchestrator.py

The service runs flows until a SIGTERM cancels it in the middle of a measurement. What was
acknowledged is in the log, and a cancelled flow needs no cleaning up: the second start gets the
same jobs and continues with the interrupted step. It ends with the fingerprint of an uninterrupted
flow. The log is on the server that DATABASE_URL names, else on an embedded one.
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
    """The input of a flow."""

    name: str


class Weighed(msgspec.Struct, frozen=True):
    """A sample on the balance, in milligrams."""

    name: str
    mass: float


class Reading(msgspec.Struct, frozen=True):
    """The result of the instrument."""

    name: str
    absorbance: float


class Instrument:
    """An instrument that answers once it is `free`; `callers` counts the waiting calls."""

    def __init__(self, *, free: bool) -> None:
        self.callers = asyncio.Semaphore(0)
        self._free = asyncio.Event()
        if free:
            self._free.set()

    async def measure(self, mass: float) -> float:
        """Return the absorbance of this many milligrams."""
        self.callers.release()
        await self._free.wait()
        return mass / 40


class WeighStep(Step[Sample, Weighed]):
    """Weigh the sample."""

    id = "weigh"

    async def run(self, sample: Sample, _context: StepContext) -> Weighed:
        """Return its mass."""
        return Weighed(sample.name, 10.0 * len(sample.name))


class MeasureStep(Step[Weighed, Reading]):
    """Measure the sample. The instrument is not a parameter, so it is not hashed."""

    id = "measure"

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    async def run(self, sample: Weighed, _context: StepContext) -> Reading:
        """Wait for the instrument."""
        return Reading(sample.name, await self._instrument.measure(sample.mass))


class Job(NamedTuple):
    """A flow to be run; the caller chooses the id, and may submit the job again."""

    flow_id: UUID
    sample: Sample


class Service:
    """Runs jobs, `workers` at a time."""

    def __init__(self, engine: FlowEngine[Sample], *, workers: int) -> None:
        self._engine = engine
        self._workers = workers
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()

    async def serve(self, jobs: Iterable[Job]) -> bool:
        """Run the jobs; return False if SIGTERM or SIGINT stopped them, else True.

        Raises:
            ExceptionGroup: of StoreUnavailable: the database is lost; submit the jobs again.
        """
        for job in jobs:
            self._jobs.put_nowait(job)
        serving = asyncio.create_task(self._serve())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, serving.cancel)
        try:
            await serving  # its workers have ended
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
                pass  # submitted twice, or finished before the last shutdown
            except (StepRaised, FlowHasFailed) as error:
                print("failed:", error)  # it is in the log; the service continues
            self._jobs.task_done()


async def start_service(
    provider: ConnectionProvider, jobs: Sequence[Job], instrument: Instrument
) -> None:
    """Run the service as one start of the process, and print the state of the flows."""
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
            f"  {job.sample.name}: {trace} "
            f"(measure: {measure.status}, attempts: {measure.attempts})"
        )
    if done:
        fingerprints = [await engine.flow_fingerprint(job.flow_id) for job in jobs]
        print(
            "interrupted and uninterrupted flow have the same fingerprint:",
            fingerprints[0] == fingerprints[-1],
        )


async def send_signal(instrument: Instrument, callers: int) -> None:
    """Send SIGTERM to this process when `callers` flows wait for the instrument."""
    for _ in range(callers):
        await instrument.callers.acquire()
    os.kill(os.getpid(), signal.SIGTERM)


async def main() -> None:
    """Start the service, stop it in the middle, and start it again."""
    interrupted = [Job(uuid4(), Sample("caffeine")), Job(uuid4(), Sample("aspirin"))]
    uninterrupted = Job(uuid4(), Sample("caffeine"))
    async with open_database() as provider:
        busy = Instrument(free=False)
        async with asyncio.TaskGroup() as group:
            group.create_task(send_signal(busy, callers=len(interrupted)))
            print("first start")
            await start_service(provider, interrupted, busy)
        print("second start")
        await start_service(provider, [*interrupted, uninterrupted], Instrument(free=True))


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
# interrupted and uninterrupted flow have the same fingerprint: True

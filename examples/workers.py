"""Three worker processes share 30 flows; one is killed, one is stopped, and nothing is lost.

    python examples/workers.py

The flows are given to workers by a client in this process, which also strikes two of the three:
SIGKILL ends the first one, SIGSTOP freezes the second one for longer than its leases. The third one
goes on with their flows. A step that ran when its worker was struck is run again, and that is in
the log: a start more than it has outcomes. When the second worker is continued, it finds that its
leases are lost, and appends nothing. The log is on the server that DATABASE_URL names, else on an
embedded one.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec
from database import open_server

from chem_persistence import (
    ConnectionProvider,
    FlowClient,
    PgEventStore,
    PgFlowRepository,
    PgReadModels,
    PoolProvider,
    StepContext,
    StepSignal,
    StepStarted,
    build_pool,
    flow,
    step,
)

FLOWS = 30
AT_ONCE = 4
LEASE_SECONDS = 2
STEP_SECONDS = 0.2
POLL_SECONDS = 0.02


class Sample(msgspec.Struct, frozen=True):
    """The number of a sample."""

    number: int


class Mass(msgspec.Struct, frozen=True):
    """The mass of a sample, in milligrams."""

    milligrams: float


class Reading(msgspec.Struct, frozen=True):
    """What the instrument shows."""

    absorbance: float


@step("weigh")
async def weigh(sample: Sample, context: StepContext) -> Mass:
    """Weigh a sample."""
    await work(context)
    return Mass(10.0 + sample.number)


@step("dissolve")
async def dissolve(mass: Mass, context: StepContext) -> Mass:
    """Dissolve a tenth of it."""
    await work(context)
    return Mass(mass.milligrams / 10)


@step("measure")
async def measure(mass: Mass, context: StepContext) -> Reading:
    """Measure the solution."""
    await work(context)
    return Reading(mass.milligrams / 40)


async def work(context: StepContext) -> None:
    """Take some time, and record which process did; the signal is stored with the outcome."""
    context.signal("worked", {"pid": os.getpid()})
    await asyncio.sleep(STEP_SECONDS)


MEASUREMENT = flow("measurement", weigh).then(dissolve).then(measure)
"""What the command `chem-persistence worker workers:MEASUREMENT` serves."""


class Done(NamedTuple):
    """A step with an outcome: the process that it came from, and how often the step was started."""

    pid: int
    starts: int


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker of this module's flow until the end of the block."""
    program = [sys.executable, "-m", "chem_persistence", "worker", "workers:MEASUREMENT"]
    process = await asyncio.create_subprocess_exec(
        *(*program, "--at-once", str(AT_ONCE), "--lease", str(LEASE_SECONDS)),
        cwd=Path(__file__).parent,
        env=os.environ | {"DATABASE_URL": url},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,  # a worker reports the flows that it has lost
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_all_hold_flows(
    provider: ConnectionProvider, processes: Iterable[asyncio.subprocess.Process]
) -> None:
    """Wait until each worker has flows under way."""
    pids = {process.pid for process in processes}
    while pids:
        await asyncio.sleep(POLL_SECONDS)
        for each in await PgReadModels(provider).workers():
            if each.flows:
                pids.discard(int(each.name.rpartition(":")[2]))  # the name is host:pid


async def run_fleet(
    provider: ConnectionProvider, url: str, client: FlowClient
) -> tuple[list[UUID], list[int]]:
    """Run the flows on three workers of which two are struck; return the ids and the pids."""
    async with worker(url) as first, worker(url) as second, worker(url) as third:
        samples = [Sample(number) for number in range(FLOWS)]
        flow_ids = await client.submit_many(MEASUREMENT, samples, label="workers.py")
        await until_all_hold_flows(provider, (first, second, third))
        await client.result(MEASUREMENT, flow_ids[0])
        first.kill()
        second.send_signal(signal.SIGSTOP)
        readings = [await client.result(MEASUREMENT, flow_id) for flow_id in flow_ids]
        print("last reading:", readings[-1].absorbance)
        second.send_signal(signal.SIGCONT)
        for process in (second, third):
            process.terminate()
            await process.communicate()
            print("a worker that was told to stop ended with", process.returncode)
        return flow_ids, [first.pid, second.pid, third.pid]


async def read_done(store: PgEventStore, flow_ids: Sequence[UUID]) -> list[Done]:
    """Read the outcomes of all steps from the log."""
    done = []
    for flow_id in flow_ids:
        starts = 0
        for event in await store.list(flow_id):
            match event.kind:
                case StepStarted():
                    starts += 1
                case StepSignal(signal="worked", data=data):
                    done.append(Done(data["pid"], starts))
                    starts = 0
                case _:
                    pass
    return done


def print_table(done: Sequence[Done], pids: Sequence[int]) -> None:
    """Print how many flows, steps and runs there were, and what each worker did."""
    runs = sum(each.starts for each in done)
    print(f"{'flows':<24} {FLOWS:>9}")
    print(f"{'steps':<24} {len(done):>9}")
    print(f"{'step runs':<24} {runs:>9}")
    print(f"{'repeated':<24} {runs - len(done):>9}")
    print(f"{'worker':<24} {'outcomes':>9} {'of repeated steps':>18}")
    fates = ("killed", "stopped, continued", "undisturbed")
    for number, (fate, pid) in enumerate(zip(fates, pids, strict=True), start=1):
        own = [each for each in done if each.pid == pid]
        repeated = sum(each.starts > 1 for each in own)
        print(f"{f'{number} ({fate})':<24} {len(own):>9} {repeated:>18}")


async def main() -> None:
    """Run the flows, and print what is in the log."""
    async with open_server() as url, await build_pool(url) as pool:
        provider = PoolProvider(pool)
        store = PgEventStore(provider)
        client = FlowClient(store, PgFlowRepository(provider))
        flow_ids, pids = await run_fleet(provider, url, client)
        print_table(await read_done(store, flow_ids), pids)


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# last reading: 0.0975
# a worker that was told to stop ended with 0
# a worker that was told to stop ended with 0
# flows                           30
# steps                           90
# step runs                ...
# repeated                 ...
# worker                    outcomes  of repeated steps
# 1 (killed)               ...
# 2 (stopped, continued)   ...
# 3 (undisturbed)          ...

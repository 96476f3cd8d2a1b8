"""A process that is a worker of flows with jobs, and can kill itself at a call to the queue.

    python -m tests.support.jobs.fleet URL FOLDER [--die BOUNDARY] [--fault FAULT]
        [--lease SECONDS] [--slurm]

The queue is in FOLDER; the first submission has the fault. With --slurm it is Slurm, and FOLDER is
that of its jobs.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from chem_persistence import Flow, PgEventStore, PoolProvider, Worker, build_pool
from tests.support.jobs.queue import Queue
from tests.support.jobs.slurm import square
from tests.support.jobs.steps import cube
from tests.support.leases.staff import Number

__all__ = ["fleet_jobs", "job_worker", "killed_workers", "slurm_jobs"]

REPOSITORY = Path(__file__).resolve().parents[3]


AT_ONCE, WORKERS = 4, 5
PAUSE = 0.1
CRASHES = 1_000
"""The tests kill the workers: that is no fault of a job."""


def fleet_jobs(queue: Queue) -> Flow[Number, Number]:
    """Return the flow that all these workers serve."""
    return cube(queue, 3, CRASHES, settle=timedelta(seconds=0.3), pause=PAUSE)


def slurm_jobs(folder: Path) -> Flow[Number, Number]:
    """Return the flow that they serve on Slurm."""
    return square(folder, 3, CRASHES, settle=timedelta(seconds=1))


async def work(arguments: argparse.Namespace) -> None:
    queue = Queue(arguments.folder / "queue", lag=0.05)
    if arguments.fault:
        queue.faults["submit"] = [arguments.fault]

    def at(boundary: str) -> None:
        if boundary == arguments.die:
            os.kill(os.getpid(), signal.SIGKILL)

    queue.at = at
    async with await build_pool(arguments.url, max_size=4) as pool:
        store = PgEventStore(PoolProvider(pool))
        lease = timedelta(seconds=arguments.lease)
        jobs = slurm_jobs(arguments.folder) if arguments.slurm else fleet_jobs(queue)
        await Worker(store, [jobs], lease=lease, at_once=AT_ONCE, poll_interval=0.02).run()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die")
    parser.add_argument("--fault")
    parser.add_argument("--slurm", action="store_true")
    parser.add_argument("--lease", type=float, default=3600.0)
    asyncio.run(work(parser.parse_args()))


@asynccontextmanager
async def job_worker(
    url: str, folder: Path, *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a worker; kill it at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.jobs.fleet", url, str(folder), *options),
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def killed_workers(url: str, folder: Path, seconds: float, *options: str) -> None:
    """Run several workers at a time, and kill each after one to three seconds, for some time."""
    dice = random.Random(7)
    deadline = asyncio.get_running_loop().time() + seconds

    async def lives() -> None:
        while asyncio.get_running_loop().time() < deadline:
            async with job_worker(url, folder, "--lease", "1", *options):
                await asyncio.sleep(dice.uniform(1.0, 3.0))

    await asyncio.gather(*(lives() for _ in range(WORKERS)))


if __name__ == "__main__":
    main()

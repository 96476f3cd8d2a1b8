"""A process that is a worker of flows with jobs, and can kill itself at a call to the queue.

    python -m tests.support.jobs.fleet URL FOLDER [--die BOUNDARY] [--fault FAULT]
        [--lease SECONDS] [--slurm] [--kills NUMBER]

The queue is in FOLDER; the first submission has the fault. With --slurm it is Slurm, and FOLDER is
that of its jobs. With --kills the process is no worker, but forks several, and kills so many of
them, one each fifth of a second: a fork starts sooner than Python does.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from chem_persistence import Flow, PgEventStore, PoolProvider, Worker, build_pool
from tests.support.forks import ForkedProcess, ForkServer
from tests.support.jobs.queue import Queue
from tests.support.jobs.slurm import square
from tests.support.jobs.steps import cube
from tests.support.leases.staff import Number

__all__ = ["fleet_jobs", "job_worker", "killed_workers", "slurm_jobs"]

REPOSITORY = Path(__file__).resolve().parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
FORKED = ForkServer(
    "tests.support.jobs.fleet",
    *("postgresql://nobody@localhost:1/none", os.devnull),
    variables=ENVIRONMENT,
)

AT_ONCE, WORKERS = 4, 5
SECONDS_BETWEEN_KILLS = 0.2
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
    parser.add_argument("--kills", type=int)
    arguments = parser.parse_args()
    if arguments.kills is None:
        asyncio.run(work(arguments))
    else:
        fork_and_kill(arguments)


def fork_and_kill(arguments: argparse.Namespace) -> None:
    """Run several workers at a time, and kill one after the other."""
    dice = random.Random(7)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    running: list[int] = []
    try:
        for _ in range(arguments.kills):
            while len(running) < WORKERS:
                running.append(fork_worker(arguments))
            time.sleep(SECONDS_BETWEEN_KILLS)
            kill(running.pop(dice.randrange(WORKERS)))
    finally:
        for process in running:
            kill(process)


def fork_worker(arguments: argparse.Namespace) -> int:
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        asyncio.run(work(arguments))
        os._exit(0)
    return process


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


@asynccontextmanager
async def job_worker(url: str, folder: Path, *options: str) -> AsyncIterator[ForkedProcess]:
    """Start a worker; kill it at the end if it still runs."""
    process = await FORKED.process([url, str(folder), *options], variables=ENVIRONMENT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def killed_workers(url: str, folder: Path, number: int, *options: str) -> None:
    """Run workers of which one is killed each fifth of a second, so many in all."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.jobs.fleet", url, str(folder), "--lease", "1"),
        *("--kills", str(number), *options),
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


if __name__ == "__main__":
    main()

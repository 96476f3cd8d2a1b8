"""Twelve jobs of a batch queue, whose worker is killed twice: each job is submitted once.

    python examples/batch_jobs.py              # a queue in a folder, of file_queue.py
    python examples/batch_jobs.py --slurm      # the Slurm of this machine

A flow submits a job that computes the energy of a chain of atoms, waits for it without holding
anything, and collects the result. The worker is killed with SIGKILL, and replaced. If it was about
to submit a job, the log has a start without a job: the next worker waits until the queue's list is
complete, and asks the queue whether the job is there.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
from database import open_server
from file_queue import FileQueue

from chem_persistence import (
    BatchJob,
    FlowClient,
    JobState,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    RetryPolicy,
    build_pool,
    flow,
)
from chem_persistence.slurm import SlurmJob

SIZES = range(2, 14)
KILLED_AT = (3, 7)  # the number of jobs that are being submitted, or were
LEASE_SECONDS = 1
FIRST_DISTANCE = 2 ** (1 / 6)  # of neighbours, where the energy of a pair is least

if "JOBS_FOLDER" not in os.environ:  # this is the program itself, not a worker of it
    os.environ["JOBS_FOLDER"] = tempfile.mkdtemp(prefix="batch-jobs-")
    os.environ["JOBS_QUEUE"] = "slurm" if "--slurm" in sys.argv else "folder"
FOLDER = Path(os.environ["JOBS_FOLDER"])

COMMANDS = """
echo run >> ../runs.txt
sleep 0.1
awk 'BEGIN { for (i = 1; i < %(atoms)d; i++) { r = i * %(distance)r;
    energy += (%(atoms)d - i) * 4 * (r ^ -12 - r ^ -6) } print energy }' > energy
"""
"""What a job does; the first line counts the jobs that have run."""


class Chain(msgspec.Struct, frozen=True):
    """A chain of atoms at equal distances."""

    atoms: int


class Energy(msgspec.Struct, frozen=True):
    """The energy of a chain by the Lennard-Jones potential, in units of its depth."""

    epsilons: float


class QueueJob(msgspec.Struct, frozen=True):
    """What is remembered of a job in the folder."""

    id: str
    token: str


def commands_of(chain: Chain) -> str:
    """Return the commands that compute the energy of a chain."""
    return COMMANDS % {"atoms": chain.atoms, "distance": FIRST_DISTANCE}


def energy_in(folder: Path) -> Energy:
    """Read the energy that a job has left in its folder."""
    return Energy(float((folder / "energy").read_text(encoding="utf-8")))


class QueuedEnergy(BatchJob[Chain, QueueJob, Energy]):
    """The energy of a chain, by a job of the queue in a folder."""

    id = "energy"
    every = timedelta(seconds=0.2)
    settle = timedelta(seconds=1)
    retry = RetryPolicy(attempts=3)

    def __init__(self) -> None:
        self.queue = FileQueue(FOLDER)

    async def find(self, token: str) -> QueueJob | None:
        """Return the job of this name."""
        job_id = self.queue.find(token)
        return None if job_id is None else QueueJob(job_id, token)

    async def submit(self, chain: Chain, token: str) -> QueueJob:
        """Submit a job."""
        return QueueJob(self.queue.submit(token, commands_of(chain)), token)

    async def poll(self, job: QueueJob) -> JobState:
        """Return whether a job has ended, and how."""
        match self.queue.exit_code(job.token):
            case None:
                return JobState()
            case 0:
                return JobState(done=True)
            case code:
                return JobState(failed=f"job {job.id} ended with exit code {code}")

    async def collect(self, _chain: Chain, job: QueueJob) -> Energy:
        """Return the energy."""
        return energy_in(self.queue.folder(job.token))

    async def cancel(self, job: QueueJob) -> None:
        """End a job."""
        self.queue.cancel(job.token)

    def accepted(self) -> int:
        """Return how many jobs the queue has accepted."""
        return len(self.queue.accepted())


class SlurmEnergy(SlurmJob[Chain, Energy]):
    """The energy of a chain, by a job of Slurm."""

    id = "energy"
    every = timedelta(seconds=0.2)
    settle = timedelta(seconds=2)
    retry = RetryPolicy(attempts=3)
    folder = FOLDER

    def commands(self, chain: Chain) -> str:
        """Return what the job does."""
        return commands_of(chain)

    def result(self, _chain: Chain, folder: Path) -> Energy:
        """Return what the job has left."""
        return energy_in(folder)

    def accepted(self) -> int:
        """Return how many jobs Slurm has accepted; their names are those of the folders."""
        names = ",".join(folder.name for folder in FOLDER.glob("*-*-*/"))
        listing = ["squeue", "--noheader", "--states=all", f"--name={names}", "--format=%i"]
        return len(subprocess.check_output(listing, text=True).split())  # noqa: S603


STEP = SlurmEnergy() if os.environ["JOBS_QUEUE"] == "slurm" else QueuedEnergy()
ENERGIES = flow("energies", STEP)
"""What the command `chem-persistence worker batch_jobs:ENERGIES` serves."""


@asynccontextmanager
async def program(*words: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a Python program until the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words),
        cwd=Path(__file__).parent,
        env=os.environ | {"DATABASE_URL": url},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def killed_workers(url: str) -> None:
    """Run a worker, kill it, and run the next one; the last one is not killed."""
    worker = ("-m", "chem_persistence", "worker", "batch_jobs:ENERGIES")
    options = ("--lease", str(LEASE_SECONDS), "--at-once", "4")
    for killed_at in (*KILLED_AT, None):
        async with program(*worker, *options, url=url) as process:
            if killed_at is None:
                await process.wait()
            while count_folders() < (killed_at or 0):  # noqa: ASYNC110  # of other processes
                await asyncio.sleep(0.005)


def count_folders() -> int:
    """Return how many jobs are being submitted, or were: each has a folder of its own."""
    return len(list(FOLDER.glob("*-*-*/")))


async def main() -> None:
    """Run the flows, and print what became of the jobs."""
    async with (
        open_server() as url,
        await build_pool(url) as pool,
        program("-c", "import file_queue; file_queue.serve()", str(FOLDER), url=url),
    ):
        provider = PoolProvider(pool)
        client = FlowClient(PgEventStore(provider), PgFlowRepository(provider))
        chains = [Chain(atoms) for atoms in SIZES]
        flow_ids = await client.submit_many(ENERGIES, chains, label="batch_jobs.py")
        workers = asyncio.create_task(killed_workers(url))
        energies = [await client.result(ENERGIES, flow_id) for flow_id in flow_ids]
        workers.cancel()
        await asyncio.wait([workers])
    for chain, energy in list(zip(chains, energies, strict=True))[-3:]:
        print(f"{chain.atoms} atoms: {energy.epsilons:.3f}")
    print(f"{len(flow_ids)} flows, {STEP.accepted()} jobs, {count_runs()} runs")


def count_runs() -> int:
    """Return how many jobs have begun."""
    return len((FOLDER / "runs.txt").read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    try:
        asyncio.run(main())
    finally:
        shutil.rmtree(FOLDER)

# Output:
# 11 atoms: -10.306
# 12 atoms: -11.340
# 13 atoms: -12.374
# 12 flows, 12 jobs, 12 runs

"""Worker processes are killed with SIGKILL while they look after jobs: each is submitted once."""

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.jobs.fleet import fleet_jobs, job_worker, killed_workers, slurm_jobs
from tests.support.jobs.queue import Queue
from tests.support.leases.desk import postgres_desk
from tests.support.leases.staff import Number, client_of, submit, trace, working

if TYPE_CHECKING:
    import asyncpg


@pytest.mark.parametrize(
    ("boundary", "options"),
    [
        ("before submit", []),
        ("after submit", []),
        ("after find", ["--fault", "accepted"]),
        ("after collect", []),
    ],
)
async def test_a_worker_is_killed_at_a_call_to_the_queue(
    pool: "asyncpg.Pool[asyncpg.Record]",
    admin_url: str,
    tmp_path: Path,
    boundary: str,
    options: list[str],
) -> None:
    queue = Queue(tmp_path / "queue", lag=0.05)
    async with postgres_desk(pool) as desk:
        jobs = fleet_jobs(queue)
        flow_id = await submit(desk, jobs, 3)
        async with job_worker(admin_url, tmp_path, "--die", boundary, *options) as process:
            assert await process.wait() == -signal.SIGKILL
        await desk.make_due(flow_id)
        async with working(desk, [jobs]):
            assert await client_of(desk).result(jobs, flow_id) == Number(27)
    assert len(queue.accepted()) == len(queue.ran()) == 1


JOBS, KILLS = 200, 100


@pytest.mark.slow
async def test_many_jobs_are_submitted_once_while_workers_are_killed_all_the_time(
    pool: "asyncpg.Pool[asyncpg.Record]", admin_url: str, tmp_path: Path
) -> None:
    queue = Queue(tmp_path / "queue")
    async with postgres_desk(pool) as desk:
        jobs, client = fleet_jobs(queue), client_of(desk)
        flow_ids = await client.submit_many(jobs, [Number(n) for n in range(JOBS)])
        await killed_workers(admin_url, tmp_path, KILLS)
        async with job_worker(admin_url, tmp_path, "--lease", "1"):
            for n, flow_id in enumerate(flow_ids):
                assert await client.result(jobs, flow_id) == Number(n**3)
        starts = [await trace(desk, flow_id) for flow_id in flow_ids]
    assert (len(queue.accepted()), len(queue.ran())) == (JOBS, JOBS)
    assert "".join(starts).count("S") > JOBS  # some were started by a worker that died


@pytest.mark.slow
@pytest.mark.slurm
async def test_many_jobs_of_slurm_run_once_while_workers_are_killed_all_the_time(
    pool: "asyncpg.Pool[asyncpg.Record]", admin_url: str, tmp_path: Path
) -> None:
    async with postgres_desk(pool) as desk:
        jobs, client = slurm_jobs(tmp_path), client_of(desk)
        flow_ids = await client.submit_many(jobs, [Number(n) for n in range(JOBS)])
        await killed_workers(admin_url, tmp_path, KILLS, "--slurm")
        async with job_worker(admin_url, tmp_path, "--lease", "1", "--slurm"):
            for n, flow_id in enumerate(flow_ids):
                assert await client.result(jobs, flow_id) == Number(n**2)
    listing = ("squeue", "--noheader", "--states=all", "--format=%j")
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    tokens = [name for name in names if (tmp_path / name).is_dir()]
    assert len(tokens) == len(set(tokens)) == JOBS
    assert len((tmp_path / "runs.txt").read_text(encoding="utf-8").splitlines()) == JOBS

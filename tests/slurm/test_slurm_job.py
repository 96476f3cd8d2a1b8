"""Jobs of a real Slurm: each runs once, whatever the commands report and however it ends."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import Flow, FlowHasFailed, StepWaits
from chem_persistence.engine.jobs.step import JobState
from chem_persistence.slurm.commands import find_jobs, state_of
from chem_persistence.slurm.step import SlurmId
from tests.support.jobs.slurm import Square, square
from tests.support.leases.desk import Desk, memory_desk
from tests.support.leases.staff import Number, client_of, submit, trace, until, working

pytestmark = pytest.mark.slurm


@pytest.fixture
def desk() -> Desk:
    return memory_desk()


def step_of(jobs: Flow[Any, Any]) -> Square:
    (step,) = jobs.steps
    assert isinstance(step, Square)
    return step


def job_in(events: Any) -> dict[str, str]:
    """Return the job that a flow waits for."""
    waits = [event.kind for event in events if isinstance(event.kind, StepWaits)]
    job: dict[str, str] = waits[-1].data["batch_job"]["job"]
    return job


def command(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


async def state_is(job_id: str, *states: str) -> None:
    while (known := await state_of(job_id)) is None or known.state not in states:
        await asyncio.sleep(0.05)


async def completed(desk: Desk, jobs: Flow[Any, Any], flow_id: UUID) -> None:
    assert await client_of(desk).result(jobs, flow_id) == Number(25)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """Put a script before one of Slurm's commands, whose path it has as $REAL."""
    real = shutil.which(name)
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/bash\nREAL={real}\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


async def test_a_job_runs_and_its_result_is_read(desk: Desk, tmp_path: Path) -> None:
    jobs = square(tmp_path)
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        await completed(desk, jobs, flow_id)
    assert await trace(desk, flow_id) == "ISWFC"
    job = job_in(await desk.store.list(flow_id))
    assert await find_jobs(job["token"]) == [job["id"]]
    assert (tmp_path / job["token"] / "number").read_text(encoding="utf-8") == "5"


async def test_a_job_that_sbatch_accepted_although_it_failed_is_found(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = '"$REAL" "$@" >/dev/null; echo "Socket timed out on send/recv" >&2; exit 1'
    stand_in(tmp_path / "bin", monkeypatch, "sbatch", script)
    jobs = square(tmp_path)
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        await completed(desk, jobs, flow_id)
    assert await trace(desk, flow_id) == "ISWWFC"
    assert len(await find_jobs(job_in(await desk.store.list(flow_id))["token"])) == 1
    assert step_of(jobs).runs() == 1


async def test_a_submission_that_slurm_refuses_says_why(desk: Desk, tmp_path: Path) -> None:
    jobs = square(tmp_path, options=["--partition=nowhere"])
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        with pytest.raises(FlowHasFailed, match="invalid partition specified: nowhere"):
            await client_of(desk).result(jobs, flow_id)
    assert step_of(jobs).runs() == 0


async def test_while_the_list_lags_the_mark_of_the_script_tells_of_the_job(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 'while ! [ -e "$(dirname "${@: -1}")/ran/job" ]'
    accepted = f'"$REAL" "$@" >/dev/null; {begun}; do sleep 0.05; done; exit 1'
    stand_in(tmp_path / "bin", monkeypatch, "sbatch", accepted)
    stand_in(tmp_path / "bin", monkeypatch, "squeue", "exit 0")
    jobs = square(tmp_path)
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        await completed(desk, jobs, flow_id)
    assert step_of(jobs).runs() == 1


async def running(desk: Desk, jobs: Flow[Any, Any], flow_id: UUID) -> dict[str, str]:
    """Wait until the commands of a flow's job have begun; return the job."""
    job = job_in(await until(desk, flow_id, lambda events: events[-1].variant == "W"))
    while step_of(jobs).runs() == 0:
        await asyncio.sleep(0.05)
    return job


WAITS = "while ! [ -e ../go ]; do sleep 0.1; done"


async def test_a_job_that_is_queued_again_runs_again_and_is_collected_once(
    desk: Desk, tmp_path: Path
) -> None:
    jobs = square(tmp_path, extra=WAITS)
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        job = await running(desk, jobs, flow_id)
        command("scontrol", "requeue", job["id"])
        await state_is(job["id"], "PENDING")
        command("scontrol", "update", f"JobId={job['id']}", "StartTime=now")
        (tmp_path / "go").touch()
        await completed(desk, jobs, flow_id)
    assert await trace(desk, flow_id) == "ISWFC"
    assert await find_jobs(job["token"]) == [job["id"]]
    assert step_of(jobs).runs() == 2


async def test_commands_that_a_signal_ended_have_not_failed_while_their_job_is_queued_again(
    desk: Desk, tmp_path: Path
) -> None:
    """Slurm's signal may reach the commands before the script, which then writes their code."""
    jobs = square(tmp_path, extra=WAITS)
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        job = await running(desk, jobs, flow_id)
    command("scontrol", "requeuehold", job["id"])
    await state_is(job["id"], "PENDING")
    (tmp_path / job["token"] / "ran" / "exit").write_text("143\n", encoding="utf-8")
    assert await step_of(jobs).poll(SlurmId(job["id"], job["token"])) == JobState()
    command("scancel", job["id"])
    await state_is(job["id"], "CANCELLED")
    ended = await step_of(jobs).poll(SlurmId(job["id"], job["token"]))
    assert ended.failed is not None
    assert "CANCELLED" in ended.failed


async def test_a_second_job_of_the_same_token_does_nothing(desk: Desk, tmp_path: Path) -> None:
    jobs = square(tmp_path)
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        await completed(desk, jobs, flow_id)
    job = job_in(await desk.store.list(flow_id))
    script = tmp_path / job["token"] / "job.sh"
    second = command("sbatch", "--parsable", "--output=/dev/null", str(script)).strip()
    await state_is(second, "COMPLETED")
    assert step_of(jobs).runs() == 1


async def test_a_job_that_is_cancelled_from_outside_has_failed(desk: Desk, tmp_path: Path) -> None:
    jobs = square(tmp_path, 2, extra=WAITS)
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        job = await running(desk, jobs, flow_id)
        command("scancel", job["id"])
        await until(desk, flow_id, lambda events: any(event.variant == "R" for event in events))
        (tmp_path / "go").touch()
        await completed(desk, jobs, flow_id)
    assert await trace(desk, flow_id) == "ISWXRSWFC"
    events = await desk.store.list(flow_id)
    (failed,) = [event.kind for event in events if event.variant == "X"]
    assert f"job {job['id']} has failed: CANCELLED" in str(failed)


async def test_a_job_whose_commands_fail_has_failed(desk: Desk, tmp_path: Path) -> None:
    jobs = square(tmp_path, after="exit 3")
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        with pytest.raises(FlowHasFailed, match="ended with exit code 3"):
            await client_of(desk).result(jobs, flow_id)


async def test_a_cancelled_flow_ends_its_job(desk: Desk, tmp_path: Path) -> None:
    jobs = square(tmp_path, extra=WAITS)
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        job = await running(desk, jobs, flow_id)
        await client_of(desk).cancel(flow_id, reason="enough")
        await until(desk, flow_id, lambda events: events[-1].variant == "K")
    await state_is(job["id"], "CANCELLED")


async def test_a_controller_that_does_not_answer_is_asked_again(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = 'if ! [ -e "$ASKED" ]; then touch "$ASKED"; '
    away += 'echo "Unable to contact slurm controller" >&2; exit 1; fi; exec "$REAL" "$@"'
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    stand_in(tmp_path / "bin", monkeypatch, "squeue", away)
    jobs = square(tmp_path, extra=WAITS)
    flow_id = await submit(desk, jobs, 5)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda _: (tmp_path / "asked").exists())
        (tmp_path / "go").touch()
        await completed(desk, jobs, flow_id)
    assert await trace(desk, flow_id) == "ISWFC"
    assert "is polled again later: squeue ended with exit code 1" in caplog.text

"""What Slurm's commands say about a job, with stand-ins for them: no Slurm is needed."""

from pathlib import Path

import pytest

from chem_persistence import JobState
from chem_persistence.slurm import SlurmError, SlurmId
from chem_persistence.slurm.commands import (
    Known,
    cancel_job,
    find_jobs,
    state_of,
    submit_job,
)
from chem_persistence.slurm.folder import JobFolder
from tests.support.jobs.slurm import Square

INVALID = 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'
AWAY = 'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1'
DISABLED = 'echo "Slurm accounting storage is disabled" >&2; exit 1'
JOB = SlurmId("17", "token")


class Commands:
    """Scripts in place of Slurm's commands; nothing else is found."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))

    def are(self, **scripts: str) -> None:
        for name, script in scripts.items():
            program = self._folder / name
            program.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
            program.chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(tmp_path / "bin", monkeypatch)


@pytest.mark.parametrize(("printed", "job_id"), [("17", "17"), ("17;cluster", "17")])
async def test_a_submission_returns_the_id(commands: Commands, printed: str, job_id: str) -> None:
    commands.are(sbatch=f"echo '{printed}'")
    assert await submit_job(["--hold"], "job.sh") == job_id


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 17; echo 'Socket timed out' >&2; exit 1", "exit code 1: Socket timed out"),
        ("echo 'Submitted'", "exit code 0: Submitted"),
        (None, "the command 'sbatch' is not found: is Slurm installed"),
    ],
)
async def test_a_submission_that_fails_says_why(
    commands: Commands, script: str | None, message: str
) -> None:
    if script is not None:
        commands.are(sbatch=script)
    with pytest.raises(SlurmError, match=message):
        await submit_job([], "job.sh")


async def test_a_job_is_found_by_the_controller_and_by_accounting(commands: Commands) -> None:
    commands.are(squeue="echo 18", sacct="echo 9; echo 18")
    assert await find_jobs("token") == ["9", "18"]


@pytest.mark.parametrize("sacct", [None, DISABLED])
async def test_where_accounting_does_not_answer_the_controller_is_enough(
    commands: Commands, sacct: str | None
) -> None:
    commands.are(squeue="exit 0", **({} if sacct is None else {"sacct": sacct}))
    assert await find_jobs("token") == []


async def test_a_controller_that_does_not_answer_is_an_error(commands: Commands) -> None:
    commands.are(squeue=AWAY, sacct="exit 0", scancel=AWAY)
    for call in (find_jobs("token"), state_of("17"), cancel_job("17")):
        with pytest.raises(SlurmError, match=r"exit code 1: .* Unable to contact"):
            await call


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "COMPLETED"])
async def test_a_job_that_has_not_failed_is_only_named(commands: Commands, state: str) -> None:
    commands.are(squeue=f"echo {state}", sacct="echo 'PREEMPTED|0:0'")
    assert await state_of("17") == Known(state)


async def test_a_failure_has_the_reason_and_the_exit_code(commands: Commands) -> None:
    commands.are(
        squeue="echo OUT_OF_MEMORY",
        scontrol="echo 'JobId=17 JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125'",
    )
    known = await state_of("17")
    assert known == Known("OUT_OF_MEMORY", "OUT_OF_MEMORY, reason OutOfMemory, exit code 0:125")
    commands.are(scontrol="exit 1")
    assert await state_of("17") == Known("OUT_OF_MEMORY", "OUT_OF_MEMORY")


@pytest.mark.parametrize("squeue", [INVALID, "exit 0"])
@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("RUNNING|0:0", Known("RUNNING")),
        ("CANCELLED by 0|0:15", Known("CANCELLED", "CANCELLED by 0, exit code 0:15")),
        ("COMPLETED|0:0", Known("COMPLETED", "COMPLETED, exit code 0:0")),
        ("", None),
    ],
)
async def test_accounting_is_asked_for_what_the_controller_has_forgotten(
    commands: Commands, squeue: str, line: str, known: Known | None
) -> None:
    commands.are(squeue=squeue, sacct=f"echo '{line}'")
    assert await state_of("17") == known


async def test_a_job_that_has_ended_need_not_be_cancelled(commands: Commands) -> None:
    commands.are(scancel='echo "scancel: error: Invalid job id 17" >&2; exit 1')
    await cancel_job("17")


class Marks:
    """The marks that the script of a job leaves."""

    def __init__(self, jobs: Path) -> None:
        self._ran = JobFolder(jobs, JOB.token).path / "ran"

    def begun(self) -> None:
        self._ran.mkdir(parents=True)
        (self._ran / "job").write_text("17\n", encoding="utf-8")

    def ended(self, code: int) -> None:
        self.begun()
        (self._ran / "exit").write_text(f"{code}\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (0, JobState(done=True)),
        (2, JobState(failed="job 17 ended with exit code 2; see its output.txt")),
    ],
)
async def test_the_exit_code_tells_when_all_has_been_forgotten(
    commands: Commands, tmp_path: Path, code: int, state: JobState
) -> None:
    commands.are(squeue=INVALID, sacct=DISABLED)
    Marks(tmp_path).ended(code)
    assert await Square(tmp_path).poll(JOB) == state


async def test_a_job_that_left_nothing_and_is_not_known_has_failed(
    commands: Commands, tmp_path: Path
) -> None:
    commands.are(squeue=INVALID, sacct=DISABLED)
    Marks(tmp_path).begun()
    assert await Square(tmp_path).poll(JOB) == JobState(
        failed="job 17 is not known to Slurm any more, and has left no exit code"
    )


@pytest.mark.parametrize(
    ("squeue", "failed"),
    [
        ("echo COMPLETED", None),
        ("echo RUNNING", None),
        (AWAY, None),
        ("echo NODE_FAIL", "job 17 has failed: NODE_FAIL"),
    ],
)
async def test_a_job_without_an_exit_code_is_as_slurm_says(
    commands: Commands, tmp_path: Path, squeue: str, failed: str | None
) -> None:
    commands.are(squeue=squeue, scontrol="exit 1")
    assert await Square(tmp_path).poll(JOB) == JobState(failed=failed)


async def test_a_job_that_has_begun_is_found_by_its_mark(
    commands: Commands, tmp_path: Path
) -> None:
    commands.are(squeue=AWAY)
    Marks(tmp_path).begun()
    assert await Square(tmp_path).find(JOB.token) == JOB


async def test_a_job_is_not_believed_to_be_absent_while_the_controller_is(
    commands: Commands, tmp_path: Path
) -> None:
    commands.are(squeue=AWAY)
    with pytest.raises(SlurmError):
        await Square(tmp_path).find(JOB.token)

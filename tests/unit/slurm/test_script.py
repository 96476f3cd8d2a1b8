"""The script of a job, run by bash as Slurm runs it: once for a token, again for the same job."""

import os
import subprocess
from pathlib import Path

import pytest

from chem_persistence.slurm.folder import JobFolder


def run(folder: JobFolder, job_id: str) -> int:
    done = subprocess.run(
        ["/bin/bash", folder.script],
        env=os.environ | {"SLURM_JOB_ID": job_id},
        cwd="/",
        check=False,
        timeout=30,
    )
    return done.returncode


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "with 'quotes' and spaces", "token")
    made.make("echo run >> runs; exit $(cat wanted 2>/dev/null || echo 0)")
    return made


def runs(folder: JobFolder) -> int:
    return len((folder.path / "runs").read_text(encoding="utf-8").splitlines())


def test_it_leaves_its_id_and_the_exit_code(folder: JobFolder) -> None:
    assert (folder.job_id(), folder.exit_code()) == (None, None)
    (folder.path / "wanted").write_text("3", encoding="utf-8")
    assert run(folder, "17") == 3
    assert (folder.job_id(), folder.exit_code()) == ("17", 3)


def test_a_second_job_does_nothing(folder: JobFolder) -> None:
    assert (run(folder, "17"), run(folder, "18")) == (0, 0)
    assert (runs(folder), folder.job_id()) == (1, "17")


def test_the_same_job_runs_again(folder: JobFolder) -> None:
    assert (run(folder, "17"), run(folder, "17")) == (0, 0)
    assert (runs(folder), folder.job_id()) == (2, "17")


def test_it_keeps_its_marks_when_it_is_written_again(folder: JobFolder) -> None:
    run(folder, "17")
    folder.make("true")
    assert (run(folder, "18"), folder.job_id()) == (0, "17")

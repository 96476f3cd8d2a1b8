"""Slurm's command lines, and what they say about a job.

The controller (`squeue`, `scontrol`) knows the jobs that have not ended, and for a while (300 s by
default, MinJobAge) those that have; accounting (`sacct`), where the site has it, knows them for
long, but late. So the controller is asked first.
"""

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence

import msgspec

__all__ = [
    "Known",
    "SlurmError",
    "cancel_job",
    "find_jobs",
    "state_of",
    "submit_job",
]

UNKNOWN_JOB = "Invalid job id"
FIRST_DAY = "now-365days"
"""How far back accounting is asked."""

FAILURES = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    }
)
"""States with which a job has ended badly (squeue(1), "JOB STATE CODES").

A job that was preempted and is queued again is `PENDING` to the controller."""


class SlurmError(RuntimeError):
    """A command of Slurm failed, or is not there."""


class Known(msgspec.Struct, frozen=True):
    """What Slurm says about a job: its `state`, and why it has `failed`."""

    state: str
    failed: str | None = None


async def _run(*words: str) -> tuple[int, str, str]:
    """Run a command; return its exit code, and what it has printed, also as errors.

    It is killed if the task is cancelled: whether it has done its work by then is not known.

    Raises:
        SlurmError: there is no such command.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
    except FileNotFoundError as error:
        raise SlurmError(f"the command {words[0]!r} is not found: is Slurm installed?") from error
    try:
        printed, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, printed.decode(), complained.decode().strip()


async def submit_job(options: Sequence[str], script: str) -> str:
    """Submit a script; return the job's id.

    Raises:
        SlurmError: `sbatch` reports a failure; the job may have been accepted.
    """
    code, printed, complained = await _run("sbatch", "--parsable", *options, script)
    job_id = printed.strip().partition(";")[0]  # a cluster's name may follow
    if code or not job_id.isdigit():
        raise SlurmError(f"sbatch ended with exit code {code}: {complained or printed.strip()}")
    return job_id


async def find_jobs(name: str) -> list[str]:
    """Return the ids of all jobs of this name that Slurm knows, the oldest first.

    Raises:
        SlurmError: the controller does not answer, so that nothing is known.
    """
    listing = ("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%i")
    code, printed, complained = await _run(*listing)
    if code:
        raise SlurmError(f"squeue ended with exit code {code}: {complained}")
    found = {*printed.split(), *await _accounted(f"--name={name}", "--format=JobIDRaw")}
    return sorted((each for each in found if each.isdigit()), key=int)


async def state_of(job_id: str) -> Known | None:
    """Return what Slurm says about a job; None if it does not know the job any more.

    Once the controller has forgotten the job, its end is a failure: a success would have left its
    mark by now.

    Raises:
        SlurmError: the controller does not answer.
    """
    listing = ("squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T")
    code, printed, complained = await _run(*listing)
    if code and UNKNOWN_JOB not in complained:
        raise SlurmError(f"squeue ended with exit code {code}: {complained}")
    states = printed.split()
    if states and not code:
        return await _described(job_id, states[0])
    for line in await _accounted(f"--jobs={job_id}", "--format=State,ExitCode"):
        state, _, exit_code = line.partition("|")
        word = state.split()[0]
        has_ended = word in FAILURES or word == "COMPLETED"
        return Known(word, f"{state}, exit code {exit_code}" if has_ended else None)
    return None


async def cancel_job(job_id: str) -> None:
    """Cancel a job, unless it has ended.

    Raises:
        SlurmError: `scancel` reports a failure.
    """
    code, _, complained = await _run("scancel", job_id)
    if code and UNKNOWN_JOB not in complained:
        raise SlurmError(f"scancel ended with exit code {code}: {complained}")


async def _described(job_id: str, state: str) -> Known:
    if state not in FAILURES:
        return Known(state)
    code, printed, _ = await _run("scontrol", "show", "job", "--oneliner", job_id)
    fields = dict(word.partition("=")[::2] for word in printed.split()) if code == 0 else {}
    wanted = {"Reason": "reason", "ExitCode": "exit code"}
    details = [f"{text} {fields[name]}" for name, text in wanted.items() if name in fields]
    return Known(state, ", ".join([state, *details]))


async def _accounted(*options: str) -> list[str]:
    """Return what accounting says, line by line; nothing where it does not answer."""
    asked = ("--noheader", "--parsable2", "--allocations", f"--starttime={FIRST_DAY}")
    try:
        code, printed, _ = await _run("sacct", *asked, *options)
    except SlurmError:
        return []
    return [] if code else [line for line in printed.splitlines() if line.strip()]

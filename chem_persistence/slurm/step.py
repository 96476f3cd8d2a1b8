"""A step whose work is a job of Slurm."""

import asyncio
import logging
import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, final

import msgspec

from chem_persistence.engine.jobs.step import BatchJob, JobState
from chem_persistence.slurm.commands import (
    SlurmError,
    cancel_job,
    find_jobs,
    state_of,
    submit_job,
)
from chem_persistence.slurm.folder import JobFolder

__all__ = ["SlurmId", "SlurmJob"]

_logger = logging.getLogger("chem_persistence.slurm")

ENDED_BY_A_SIGNAL = 128
"""Exit codes of a shell above it: its last command was ended by the signal of the rest."""

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


class SlurmId(msgspec.Struct, frozen=True):
    """What is remembered of a job: its id, and the token that is its name and its folder's."""

    id: str
    token: str


class SlurmJob(BatchJob[Input_contra, SlurmId, Output_co]):
    """A step whose work is a job of Slurm: write `commands` and `result`.

    Each job has a folder of its own below `folder`, which the nodes and the workers share, and
    which is kept. `options` are those of `sbatch`, such as `"--partition=main"` or `"--time=60"`.
    The job's name is its token. Its script runs the commands once, whatever Slurm does: a second
    job of the same token ends at once. A job that was preempted, and is queued again, begins anew.

    The job has failed if its commands end with another exit code than 0, if Slurm says that it has,
    or if Slurm has forgotten it and it has left no exit code. What a signal has ended counts when
    Slurm says that the job has ended: it may be queued again. While the controller does not answer,
    nothing is known, and the job is polled again.
    """

    folder: str | os.PathLike[str]
    options: Sequence[str] = ()

    @abstractmethod
    def commands(self, input: Input_contra, /) -> str:  # noqa: A002
        """Return the commands for bash, which run in the job's folder."""

    def prepare(self, input: Input_contra, folder: Path, /) -> None:  # noqa: A002
        """Write the files that the commands read into the job's folder; called in a thread."""

    @abstractmethod
    def result(self, input: Input_contra, folder: Path, /) -> Output_co:  # noqa: A002
        """Return the output, of what the commands have left in the folder; called in a thread."""

    @final
    async def find(self, token: str, /) -> SlurmId | None:
        """Return the job of this name, or that which has begun under this token.

        Raises:
            SlurmError: the controller does not answer.
        """
        begun = await asyncio.to_thread(JobFolder(self.folder, token).job_id)
        if begun is not None:
            return SlurmId(begun, token)
        jobs = await find_jobs(token)
        return SlurmId(jobs[0], token) if jobs else None

    @final
    async def submit(self, input: Input_contra, token: str, /) -> SlurmId:  # noqa: A002
        """Write the job's files, and submit it.

        Raises:
            SlurmError: `sbatch` reports a failure.
        """
        folder = JobFolder(self.folder, token)
        await asyncio.to_thread(self._make, folder, input)
        own = (
            f"--job-name={token}",
            f"--comment={self.id}",
            f"--chdir={folder.path}",
            f"--output={folder.output}",
        )
        return SlurmId(await submit_job([*self.options, *own], str(folder.script)), token)

    @final
    async def poll(self, job: SlurmId, /) -> JobState:
        """Return what became of a job."""
        folder = JobFolder(self.folder, job.token)
        code = await asyncio.to_thread(folder.exit_code)
        if code is not None and code <= ENDED_BY_A_SIGNAL:
            return _ended(job, code)
        # commands that a signal has ended may be those of a job that Slurm queues again
        try:
            known = await state_of(job.id)
        except SlurmError as error:
            _logger.warning("job %s is polled again later: %s", job.id, error)
            return JobState()
        if known is not None and known.failed is None:
            return JobState()  # it has not ended, or its exit code is not to be seen here yet
        code = await asyncio.to_thread(folder.exit_code)
        if code is not None and (known is None or code <= ENDED_BY_A_SIGNAL):
            return _ended(job, code)
        if known is not None:
            return JobState(failed=f"job {job.id} has failed: {known.failed}")
        return JobState(
            failed=f"job {job.id} is not known to Slurm any more, and has left no exit code"
        )

    @final
    async def collect(self, input: Input_contra, job: SlurmId, /) -> Output_co:  # noqa: A002
        """Return the output of a job that is done."""
        folder = JobFolder(self.folder, job.token)
        return await asyncio.to_thread(self.result, input, folder.path)

    @final
    async def cancel(self, job: SlurmId, /) -> None:
        """Cancel a job.

        Raises:
            SlurmError: `scancel` reports a failure.
        """
        await cancel_job(job.id)

    def _make(self, folder: JobFolder, given: Input_contra) -> None:
        folder.make(self.commands(given))
        self.prepare(given, folder.path)


def _ended(job: SlurmId, code: int) -> JobState:
    if code == 0:
        return JobState(done=True)
    return JobState(failed=f"job {job.id} ended with exit code {code}; see its output.txt")

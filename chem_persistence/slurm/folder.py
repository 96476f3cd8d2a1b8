"""The folder of one job: its script, its output, and the marks that the script itself leaves.

The script's first line makes the folder `ran`, which only one job of a token can do; `ran/job` has
the id of that job, so that Slurm may run it again after a preemption. The last line writes the exit
code, which is there when Slurm has forgotten the job.
"""

import os
import shlex
from pathlib import Path

__all__ = ["JobFolder"]

SCRIPT = """\
#!/bin/bash
cd {folder} || exit 1
mkdir ran 2>/dev/null || [ "$(cat ran/job 2>/dev/null)" = "$SLURM_JOB_ID" ] || exit 0
echo "$SLURM_JOB_ID" > ran/job.new && mv ran/job.new ran/job
rm -f ran/exit
/bin/bash commands.sh
code=$?
echo "$code" > ran/exit.new && mv ran/exit.new ran/exit
exit "$code"
"""


class JobFolder:
    """The folder of the job with a token, below the folder of all jobs."""

    def __init__(self, jobs: str | os.PathLike[str], token: str) -> None:
        self.path = Path(jobs).absolute() / token
        self.script = self.path / "job.sh"
        self.output = self.path / "output.txt"

    def make(self, commands: str) -> None:
        """Write the scripts; a job that has begun keeps its marks."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "commands.sh").write_text(commands, encoding="utf-8")
        self.script.write_text(SCRIPT.format(folder=shlex.quote(str(self.path))), encoding="utf-8")

    def job_id(self) -> str | None:
        """Return the id of the job that has begun, or None."""
        return _read(self.path / "ran" / "job")

    def exit_code(self) -> int | None:
        """Return the exit code of the commands, or None if they have not ended."""
        code = _read(self.path / "ran" / "exit")
        return None if code is None else int(code)


def _read(path: Path) -> str | None:
    """Return the text of a file; None if it is not there, or empty."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None

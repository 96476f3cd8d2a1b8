"""A batch queue in a folder, for machines without one: a file for each job, run one after another.

Like a real queue it keeps its jobs when the process that has
submitted them dies.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

__all__ = ["FileQueue", "serve"]

SECONDS_BETWEEN_LOOKS = 0.05

SCRIPT = """\
mkdir ran 2>/dev/null || exit 0
/bin/bash commands.sh > output.txt 2>&1
echo $? > exit.new && mv exit.new exit
"""
"""The script of a job. Only one job of a token gets past the first line."""


class FileQueue:
    """The queue in a folder; `token` is the name of a job, and its folder's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._accepted = self._folder / "accepted"
        self._accepted.mkdir(parents=True, exist_ok=True)

    def submit(self, token: str, commands: str) -> str:
        """Accept a job of commands for bash; return its id."""
        folder = self.folder(token)
        folder.mkdir(exist_ok=True)
        (folder / "commands.sh").write_text(commands, encoding="utf-8")
        job_id = uuid4().hex[:8]
        (self._accepted / f"{token}.{job_id}").touch()  # from here on it is accepted
        return job_id

    def find(self, token: str) -> str | None:
        """Return the id of the job with this name, whatever became of it; None if there is none."""
        return next((path.suffix[1:] for path in self._accepted.glob(f"{token}.*")), None)

    def exit_code(self, token: str) -> int | None:
        """Return the exit code of a job; None if it has not ended."""
        try:
            return int((self.folder(token) / "exit").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def cancel(self, token: str) -> None:
        """End a job before it begins; one that runs already goes on."""
        with suppress(FileExistsError):
            self.folder(token).joinpath("ran").mkdir()
            self.folder(token).joinpath("exit").write_text("143", encoding="utf-8")

    def folder(self, token: str) -> Path:
        """Return the folder in which a job runs."""
        return self._folder / token

    def accepted(self) -> list[str]:
        """Return the tokens of all jobs that were accepted, one for each job."""
        return sorted(path.stem for path in self._accepted.iterdir())

    def run_new(self, seen: set[str]) -> Iterator[str]:
        """Run the jobs that are not among those seen, and yield their names."""
        for path in sorted(self._accepted.iterdir()):
            if path.name not in seen:
                seen.add(path.name)
                subprocess.run(  # noqa: S603  # a job lives on when the queue's own terminal is closed
                    ["/bin/bash", "-c", SCRIPT],
                    cwd=self.folder(path.stem),
                    start_new_session=True,
                    check=False,
                )
                yield path.name


def serve() -> None:
    """Run the jobs of the folder that the command line names, until this process is stopped."""
    queue, seen, parent = FileQueue(Path(sys.argv[1])), set[str](), os.getppid()
    while os.getppid() == parent:  # else the program that has started the queue is gone
        for _ in queue.run_new(seen):
            pass
        time.sleep(SECONDS_BETWEEN_LOOKS)

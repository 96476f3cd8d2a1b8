"""A batch queue in a folder, which several processes share, and whose faults a test chooses.

A job is a file; it runs when somebody polls it, and at most one job of a token can run to its end,
as with the first line of a job's script: `mkdir "$TOKEN.ran" || exit 0`.
"""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

__all__ = ["BOUNDARIES", "Queue", "QueueError"]

BOUNDARIES = tuple(
    f"{when} {call}"
    for call in ("find", "submit", "poll", "collect", "cancel")
    for when in ("before", "after")
)
"""The points that each call of a step passes, at which a worker can die."""


class QueueError(Exception):
    """The queue does not answer, or says that it has failed."""


class Queue:
    """A queue below a folder; `lag` is after how many seconds its list has a job.

    `faults` says what happens at the next calls, by the name of the call, in order: None is no
    fault; `accepted` a submission that reports a failure, but was accepted; `failed` a job that has
    failed; any other text is an error. `runs` is whether jobs run.
    """

    def __init__(self, folder: Path, *, lag: float = 0.0) -> None:
        self.lag = lag
        self.faults: dict[str, list[str | None]] = {}
        self.runs = True
        self.passed: Counter[str] = Counter()
        self.at: Callable[[str], None] = lambda _: None
        self._folders = {name: folder / name for name in ("jobs", "ran", "ended", "cancelled")}
        for each in self._folders.values():
            each.mkdir(parents=True, exist_ok=True)

    def pass_by(self, boundary: str) -> None:
        self.passed[boundary] += 1
        self.at(boundary)

    def fault(self, call: str) -> str | None:
        """Return the fault of this call, unless it raises."""
        planned = self.faults.get(call)
        fault = planned.pop(0) if planned else None
        if fault not in (None, "accepted", "failed"):
            raise QueueError(fault)
        return fault

    def submit(self, token: str) -> str:
        fault = self.fault("submit")
        job = f"{token}.{uuid4().hex[:8]}"
        (self._folders["jobs"] / job).touch()
        if fault == "accepted":
            raise QueueError("socket timed out")
        return job

    def find(self, token: str) -> str | None:
        self.fault("find")
        listed = (
            path.name
            for path in self._folders["jobs"].glob(f"{token}.*")
            if path.stat().st_mtime <= time.time() - self.lag
        )
        return next(listed, None)

    def run(self, job: str) -> None:
        """Run a job, unless it was cancelled, or one with its token has run."""
        if not self._is("ended", job) and not self._is("cancelled", job):
            try:
                (self._folders["ran"] / job.partition(".")[0]).mkdir()
            except FileExistsError:
                return
            (self._folders["ended"] / job).touch()

    def has_ended(self, job: str) -> bool:
        return self._is("ended", job)

    def is_cancelled(self, job: str) -> bool:
        return self._is("cancelled", job)

    def cancel(self, job: str) -> None:
        self.fault("cancel")
        (self._folders["cancelled"] / job).touch()

    def _is(self, what: str, job: str) -> bool:
        return (self._folders[what] / job).exists()

    def accepted(self) -> list[str]:
        """Return all jobs that were ever accepted."""
        return self._names("jobs")

    def cancelled(self) -> list[str]:
        return self._names("cancelled")

    def tokens(self) -> list[str]:
        """Return the tokens of all jobs that were ever accepted, one for each job."""
        return [job.partition(".")[0] for job in self.accepted()]

    def ran(self) -> list[str]:
        """Return the tokens of the jobs that have run."""
        return self._names("ran")

    def _names(self, what: str) -> list[str]:
        return sorted(path.name for path in self._folders[what].iterdir())

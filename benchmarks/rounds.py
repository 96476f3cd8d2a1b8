"""Interleaved rounds: each task gets a short slice in every round, in a rotating order."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from benchmarks.contestants.load import Load, Slice

__all__ = ["Results", "Run", "Task", "fail", "run_rounds"]

Run = Callable[[Load], Awaitable[Slice]]


class Task(msgspec.Struct, frozen=True):
    """One line of the results: a competitor under a load."""

    competitor: str
    load: Load

    @property
    def key(self) -> str:
        """Return its name in the results, such as `ours/32`."""
        return f"{self.competitor}/{self.load.flows}"


class Results(msgspec.Struct):
    """The slices of each task, one per round; and why a competitor failed."""

    slices: dict[str, list[Slice]] = {}
    failures: dict[str, str] = {}


async def run_rounds(
    tasks: Sequence[Task],
    runs: dict[str, Run],
    rounds: int,
    say: Callable[[str], None],
    results: Results,
) -> None:
    """Run all tasks `rounds` times; drop a competitor that fails, with its slices."""
    for number in range(rounds):
        first = number * len(tasks) // rounds
        for task in [*tasks[first:], *tasks[:first]]:
            if task.competitor in results.failures:
                continue
            try:
                done = await runs[task.competitor](task.load)
            except Exception as error:  # noqa: BLE001  # any failure of a peer is reported, not raised
                fail(results, task.competitor, error)
                say(f"  {task.competitor} failed: {results.failures[task.competitor]}")
            else:
                results.slices.setdefault(task.key, []).append(done)
        say(f"  round {number + 1} of {rounds}")


def fail(results: Results, competitor: str, error: Exception) -> None:
    """Record the failure and drop the slices: figures from some of the rounds do not compare."""
    results.failures[competitor] = str(error) or type(error).__name__
    for key in [key for key in results.slices if key.rpartition("/")[0] == competitor]:
        del results.slices[key]

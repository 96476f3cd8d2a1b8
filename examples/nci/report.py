"""The results of the NCI screen, as tables."""

from collections import Counter

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chem_persistence import content_hash
from nci.molecules import Verdict

__all__ = ["Failure", "Outcome", "Report"]


class Failure(msgspec.Struct, frozen=True):
    """Why a flow has failed: the step, the class of the exception, and the message."""

    step_id: str
    reason: str
    message: str


class Outcome(msgspec.Struct, frozen=True):
    """The state of one molecule's flow after this run, and what this run added to it.

    `repeated` counts the runs of its steps that have no outcome. `computed` and `taken` count the
    outcomes of this run: of steps that ran, and results that were taken over from earlier runs.
    """

    key: str
    name: str
    events: int
    new_events: int
    repeated: int
    computed: int
    taken: int
    artifacts: frozenset[str]
    fingerprint: str | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None


class Report:
    """Sums up outcomes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._artifacts: set[str] = set()
        self._failures: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], Outcome] = {}
        self._verdicts: Counter[str] = Counter()
        self._violations: Counter[str] = Counter()
        self._results: list[tuple[str, str]] = []

    def add(self, outcome: Outcome) -> None:
        """Add one molecule."""
        when = "now" if outcome.new_events else "before"
        self.counts.update(molecules=1, events=outcome.events, new_events=outcome.new_events)
        self.counts["repeated"] += outcome.repeated
        self.counts.update(computed=outcome.computed, taken=outcome.taken)
        self._artifacts |= outcome.artifacts
        if (failure := outcome.failure) is not None:
            reason = (failure.step_id, failure.reason)
            self.counts[f"failed {when}"] += 1
            self._failures[reason] += 1
            first = self._examples.get(reason, outcome)
            self._examples[reason] = min(first, outcome, key=lambda example: example.key)
            self._results.append((outcome.key, ": ".join(reason)))
        elif outcome.fingerprint is not None and outcome.verdict is not None:
            self.counts[f"finished {when}"] += 1
            self._verdicts["drug-like" if outcome.verdict.drug_like else "not drug-like"] += 1
            self._violations.update(outcome.verdict.violations)
            self._results.append((outcome.key, outcome.fingerprint))

    def fingerprint(self) -> str:
        """Return a hash over the results of all molecules, so that two runs can be compared."""
        return content_hash(sorted(self._results))

    def show(self, console: Console, seconds: float) -> None:
        """Print the tables."""
        counts = self.counts
        flows = counts["finished now"] + counts["failed now"]
        totals = _table("screen", "")
        for label in (
            "molecules",
            "finished now",
            "finished before",
            "failed now",
            "failed before",
        ):
            totals.add_row(label, f"{counts[label]:,}")
        totals.add_row("events", f"{counts['events']:,}")
        totals.add_row("events appended now", f"{counts['new_events']:,}")
        totals.add_row("artifacts", f"{len(self._artifacts):,}")
        totals.add_row("steps computed now", f"{counts['computed']:,}")
        totals.add_row("results taken over", f"{counts['taken']:,}")
        totals.add_row("step runs repeated", f"{counts['repeated']:,}")
        if "killed" in counts:
            totals.add_row("workers killed", f"{counts['killed']:,}")
        totals.add_row("seconds", f"{seconds:.1f}")
        totals.add_row("flows a second", f"{flows / seconds:.1f}")
        totals.add_row("events a second", f"{counts['new_events'] / seconds:.1f}")
        console.print(totals)
        verdicts = _table("verdict", "molecules")
        for label, count in sorted(self._verdicts.items()):
            verdicts.add_row(label, f"{count:,}")
        for label, count in sorted(self._violations.items()):
            verdicts.add_row(f"  {label}", f"{count:,}")
        console.print(verdicts)
        if self._failures:
            console.print(self._failure_table())

    def _failure_table(self) -> Table:
        table = _table("failed in", "molecules")
        table.add_column("for example", overflow="fold")
        for (step_id, reason), count in sorted(self._failures.items()):
            example = self._examples[step_id, reason]
            message = example.failure.message if example.failure is not None else ""
            table.add_row(f"{step_id}: {reason}", f"{count:,}", Text(f"{example.name}: {message}"))
        return table


def _table(first: str, second: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left")
    table.add_column(first, min_width=30)
    table.add_column(second, justify="right", min_width=9)
    return table

"""The table at the end of a run, and the verdict."""

from bisect import bisect_right
from collections.abc import Iterable
from statistics import median

import msgspec

from tests.torture.checker.findings import COLUMNS, Finding
from tests.torture.checker.ledger import Append
from tests.torture.run import Outcome, Window

__all__ = ["BROKEN", "NOT_SHOWN", "exit_status", "not_shown", "report"]

BROKEN, NOT_SHOWN = 1, 3
"""Exit statuses: something is wrong; nothing is, but not all of it was tried or seen in time."""

HEADS = (
    "fault",
    "injected",
    "in flight",
    "acknowledged",
    "lost",
    "doubled",
    "torn",
    "other",
    "recovery median s",
    "max s",
)
OUTSIDE = "(no fault near it)"
MOST_FINDINGS = 40


class Row(msgspec.Struct):
    fault: str
    injected: int = 0
    in_flight: set[str] = set()
    acknowledged: int = 0
    flaws: dict[str, int] = {}
    recoveries: list[float] = []

    def cells(self) -> list[str]:
        flaws = [str(self.flaws.get(name, 0)) for name in (*COLUMNS, "other")]
        times = (
            [f"{median(self.recoveries):.2f}", f"{max(self.recoveries):.2f}"]
            if self.recoveries
            else ["-"] * 2
        )
        counts = [self.injected, len(self.in_flight), self.acknowledged]
        return [self.fault, *map(str, counts), *flaws, *times]


def exit_status(outcome: Outcome, missing: Iterable[str]) -> int:
    """Return 0, or which of both is the case; `missing` is what `not_shown` returned."""
    if outcome.verdict.findings:
        return BROKEN
    return NOT_SHOWN if list(missing) else 0


def not_shown(outcome: Outcome, wanted: Iterable[str], *, long_enough: bool) -> list[str]:
    """Return what the run did not show: that each writer recovers in time from each fault.

    In a run that is long enough, each fault must also have been injected.
    """
    injected = {window.fault for window in outcome.windows}
    late = {window.fault for window in outcome.windows if window.recovered is None}
    never = [name for name in wanted if long_enough and name not in injected]
    return [f"never injected: {name}" for name in never] + [
        f"not recovered from within the limit: {name}" for name in sorted(late)
    ]


def report(
    outcome: Outcome, wanted: Iterable[str], impossible: Iterable[str], missing: Iterable[str]
) -> str:
    """Return the table, one row per fault, the findings, and what was not shown."""
    rows = _rows(outcome, wanted)
    total = Row("all", sum(row.injected for row in rows))
    total.acknowledged = sum(1 for append in outcome.ledger.appends.values() if append.told)
    total.in_flight = set(outcome.ledger.appends)
    for finding in outcome.verdict.findings:
        total.flaws[_column(finding)] = total.flaws.get(_column(finding), 0) + 1
    total.recoveries = [time for row in rows for time in row.recoveries]
    lines = [_line(HEADS), _line("-" * 3 for _ in HEADS)]
    lines += [_line(row.cells()) for row in [*rows, total]]
    verdict = outcome.verdict
    states = ", ".join(f"{state} x {count}" for state, count in sorted(outcome.refusals.items()))
    lines += ["", *_sizes(outcome), f"The server's refusals, by SQLSTATE: {states}"]
    lines += [f"Not possible here: {name}" for name in impossible]
    lines += [
        f"Not struck, {outcome.not_struck.count(name)} times: {name}"
        for name in sorted(set(outcome.not_struck))
    ]
    lines += [f"A fault stumbled: {note}" for note in outcome.notes]
    lines += [str(finding) for finding in verdict.findings[:MOST_FINDINGS]]
    lines += (
        [f"... {len(verdict.findings)} findings in all"]
        if verdict.findings
        else ["Nothing is wrong."]
    )
    lines += [f"Not everything was shown: {each}" for each in missing]
    return "\n".join(lines)


def _sizes(outcome: Outcome) -> Iterable[str]:
    verdict, appends = outcome.verdict, outcome.ledger.appends.values()
    yield (
        f"The log: {verdict.events} events in {verdict.flows} flows, {verdict.artifacts} artifacts."
    )
    yield (
        f"{verdict.engine_flows} flows were ended by engines. "
        f"The subscriber of the feed saw {verdict.followed} events."
    )
    answered = sum(1 for append in appends if append.told)
    conflicts = sum(1 for append in appends if append.conflicts and not append.told)
    again = sum(1 for append in appends if len(append.calls) > 1)
    stored = outcome.verdict.stored_unanswered
    yield (
        f"{len(appends)} appends: {answered} acknowledged, {conflicts} refused as conflicts, "
        f"{len(appends) - answered - conflicts} never answered (of which {stored} are in the log); "
        f"{again} were sent more than once."
    )
    yield f"{outcome.seconds:.0f} s, the check included."


def _rows(outcome: Outcome, wanted: Iterable[str]) -> list[Row]:
    rows = {name: Row(name) for name in wanted}
    begins = [window.began for window in outcome.windows]
    for window in outcome.windows:
        row = rows.setdefault(window.fault, Row(window.fault))
        row.injected += 1
        row.recoveries += [] if window.recovered is None else [window.recovered]
    under: dict[str, set[str]] = {}
    for append in outcome.ledger.appends.values():
        faults = {window.fault for window in _windows_of(append, outcome.windows, begins)}
        under[append.token] = faults
        for fault in faults:
            rows[fault].in_flight.add(append.token)
            rows[fault].acknowledged += bool(append.told)
    for finding in outcome.verdict.findings:
        for fault in under.get(finding.token or "") or {OUTSIDE}:
            flaws = rows.setdefault(fault, Row(fault)).flaws
            flaws[_column(finding)] = flaws.get(_column(finding), 0) + 1
    return list(rows.values())


def _windows_of(append: Append, windows: list[Window], begins: list[float]) -> Iterable[Window]:
    """Return the injections during a call of the append; windows do not overlap."""
    for call in append.calls:
        ended = call.ended
        if ended is None:  # the next fault killed its writer
            ended = next(iter(begins[bisect_right(begins, call.began) :][:1]), call.began)
        place = bisect_right(begins, ended) - 1
        while place >= 0 and windows[place].lifted >= call.began:
            yield windows[place]
            place -= 1


def _column(finding: Finding) -> str:
    return next((name for name, flaws in COLUMNS.items() if finding.flaw in flaws), "other")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"

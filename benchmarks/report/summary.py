"""The text that a run prints at its end: the goals, then every figure."""

from collections.abc import Iterator, Sequence

from benchmarks.contestants.load import Slice
from benchmarks.data.spread import Spread, spread
from benchmarks.facts import OPTIMISED
from benchmarks.report.goals import judge
from benchmarks.report.references import reference_of
from benchmarks.report.report import RATE, Report

__all__ = ["heading", "summary", "table"]

_BUSY_LOAD = 0.5


def summary(report: Report) -> str:
    """Return the text: medians, with the lowest and the highest round in brackets."""
    return "\n".join(
        [*heading(report), "", *_goals(report), "", *_figures(report), "", *_others(report)]
    )


def heading(report: Report) -> Iterator[str]:
    """Yield the lines about the run: what makes its figures incomparable is on the first one."""
    facts = report.facts
    build = facts["python build"]
    caution = "" if build == OPTIMISED else f"; NOT OPTIMISED: {build}"
    yield f"{report.command}, {report.minutes:.1f} minutes, {facts['date']}{caution}"
    yield (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory']}, {facts['system']}, "
        f"Python {facts['python']}"
    )
    yield (
        f"PostgreSQL {facts['server_version']}, "
        f"fsync {facts['fsync']} ({facts['wal_sync_method']}, "
        f"{facts['fdatasync of 8 KB']} for 8 KB), synchronous_commit {facts['synchronous_commit']}"
    )
    if float(facts["load before the run"]) > _BUSY_LOAD:
        yield f"NOISY: the machine was busy before the run (load {facts['load before the run']})"


def _goals(report: Report) -> Iterator[str]:
    lines = judge(report)
    rows = [("goal", "target", "measured, median (lowest..highest round)", "")]
    rows += [(line.goal, line.target, line.measured, line.verdict) for line in lines]
    yield from table(rows)
    counts = {
        verdict: sum(line.verdict == verdict for line in lines) for verdict in ("met", "not met")
    }
    rest = len(lines) - sum(counts.values())
    yield f"{counts['met']} met, {counts['not met']} not met, {rest} not measured"
    if counts["not met"]:
        yield "Why, and what was tried: benchmarks/README.md, 'Where the time goes'"


def _figures(report: Report) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [
        (
            "competitor/flows",
            "events a second",
            "x its floor",
            "CPU us an event: client",
            "server",
            "p50 ms",
            "p99 ms",
        )
    ]
    rows += [_row(report, key, slices) for key, slices in report.slices.items()]
    yield from table(rows)
    for competitor, reason in report.failures.items():
        yield f"{competitor} gave up: {reason}"


def _row(report: Report, key: str, slices: Sequence[Slice]) -> tuple[str, ...]:
    def microseconds(used: Sequence[float]) -> Spread:
        return spread(
            cpu / max(done.events, 1) * 1e6 for cpu, done in zip(used, slices, strict=True)
        )

    floor = reference_of(report, key)
    ratio = report.ratio(key, floor, RATE) if floor else None
    return (
        key,
        spread(map(RATE, slices)).text(",.0f"),
        f"{ratio.text()} {floor}" if ratio else "",
        microseconds([done.client_cpu for done in slices]).text(",.1f"),
        microseconds([done.server_cpu for done in slices]).text(",.1f"),
        spread(done.p50 for done in slices).scaled(1000).text(".2f"),
        ""
        if slices[0].p99 is None
        else spread(done.p99 or 0.0 for done in slices).scaled(1000).text(".2f"),
    )


def _others(report: Report) -> Iterator[str]:
    if counted := report.instructions:
        yield (
            f"instructions of the server an event: alone {counted.alone:,.0f}, "
            f"a prepared INSERT with our checks {counted.insert:,.0f}, "
            f"of 500 {counted.together:,.0f}, COPY with our checks {counted.copy:,.0f}"
        )
    for payload, times in report.encodings.items():
        yield f"canonical JSON, {payload}: {times.ratio.text()} x msgspec's sorted"
    for what, rate in report.written.items():
        yield f"written for the reads: {what}: {rate:,.0f} events/s (once)"
    for size, seconds in report.grown_seconds.items():
        yield f"a log of {size} events was written on the server in {seconds:.0f} s"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, its columns as wide as they have to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

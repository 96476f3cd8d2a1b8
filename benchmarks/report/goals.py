"""The goals of the project, each judged by what a run measured."""

from collections.abc import Iterator

from benchmarks.contestants.competitors import GROWTH_SIZES, PEERS
from benchmarks.data.spread import Spread
from benchmarks.report.report import CPU, P50, RATE, Report
from benchmarks.report.verdicts import Line, at_least, at_most, unmeasured
from benchmarks.report.worker_goals import judge_workers

__all__ = ["judge"]

BATCHED = ("eventsourcing recorder", "eventsourcing application", "pgqueuer", "procrastinate")
"""The peers that one caller can batch."""


def judge(report: Report) -> list[Line]:
    """Return a line for every goal, in the order of the project's list."""
    return [
        *_against_pgbench(report),
        *_against_peers(report),
        *_by_one_caller(report),
        _cpu(report),
        *_instructions(report),
        *judge_workers(report),
        *_replay(report),
        _opening(report),
        *_growth(report),
        *_imports(report),
    ]


def _against_pgbench(report: Report) -> Iterator[Line]:
    best = report.best_of("pgbench")
    note = (
        report.why_missing("pgbench")
        if best is None
        else f"best with {best.rpartition('/')[2]} clients"
    )
    for flows, target in ((32, 1.25), (128, 1.7), (1000, 1.9)):
        found = report.ratio(f"ours/{flows}", best or "", RATE)
        yield at_least(f"append, {flows} concurrent flows", target, "x pgbench's best", found, note)
    yield at_most(
        "append, one at a time, p50",
        1.5,
        "x one prepared INSERT with our checks",
        report.ratio("ours/1", "INSERT, our table/1", P50),
        report.why_missing("INSERT, our table"),
    )
    best = report.best_of("pgbench, artifact")
    note = (
        report.why_missing("pgbench, artifact")
        if best is None
        else f"with {best.rpartition('/')[2]} clients"
    )
    found = report.ratio("ours, artifact/32", best or "", RATE)
    yield at_least("event + 4 KB artifact, 32 concurrent", 0.8, "x pgbench's best", found, note)


def _against_peers(report: Report) -> Iterator[Line]:
    """Yield the lines of the peers, each in its fastest mode in which each flow calls by itself."""
    for peer in PEERS:
        for flows, target in ((32, 5.0), (1, 1.5)):
            modes = [
                key
                for key in report.slices
                if key.startswith(peer) and key.endswith(f"/{flows}") and ", batched/" not in key
            ]
            best = report.best(modes)
            found = report.ratio(f"ours/{flows}", best or "", RATE)
            if best is None:
                note = report.why_missing(peer)
            else:
                note = best.rpartition("/")[0].removeprefix(peer).removeprefix(", ")
            load = "32 flows, each calls" if flows > 1 else "one at a time"
            yield at_least(f"{peer}, {load}", target, "x", found, note)


def _by_one_caller(report: Report) -> Iterator[Line]:
    """Yield the lines of `append_many`, beside peers that one caller batches, and 32 callers."""
    many = "ours, append_many/32"
    for peer in (
        "eventsourcing recorder",
        "eventsourcing application",
        "pgqueuer",
        "procrastinate",
    ):
        found = report.ratio(many, f"{peer}, batched/32", RATE)
        goal = f"append_many of 32, {peer} batched by one caller"
        yield at_least(goal, 1.1, "x", found, report.why_missing(peer))
    yield at_most(
        "CPU of append_many of 32 / of 32 callers",
        0.59,
        "x",
        report.ratio(many, "ours/32", CPU),
        report.why_missing("ours"),
    )


def _cpu(report: Report) -> Line:
    """Return the line of the CPU: pgbench's best, client and server, over ours."""
    best, ours = report.best_of("pgbench"), report.spread_of("ours/128", CPU)
    floor = report.spread_of(best or "", CPU)
    note = (
        f"{floor.median * 1e6:.0f} us for {ours.median * 1e6:.0f}"
        if floor and ours
        else report.why_missing("pgbench")
    )
    found = report.ratio(best or "", "ours/128", CPU)
    return at_least("CPU an event at 128, pgbench's best / ours", 1.9, "x", found, note)


def _instructions(report: Report) -> Iterator[Line]:
    """Yield the lines of what callgrind counts, which is the same in each round."""
    found = report.instructions
    why = "" if found else report.why_not_counted
    together = f"{found.together / 1e3:.1f} k for {found.copy / 1e3:.1f} k" if found else why
    yield at_most(
        "server, instructions an event, 500 events a call",
        1.1,
        "x COPY into a table with our checks",
        Spread(*[found.together / found.copy] * 3) if found else None,
        together,
    )


def _replay(report: Report) -> Iterator[Line]:
    ours = "ours, replay/1"
    goal = "replay of 100,000 events to an instance"
    yield at_least(goal, 0.75, "of the row floor", report.ratio(ours, "row floor/1", RATE))
    peak = report.spread_of(ours, lambda done: done.peak_bytes / 2**20)
    highest = Spread(peak.high, peak.low, peak.high) if peak else None
    yield at_most(
        f"{goal}, peak memory", 32, "MiB", highest, "the highest round counts" if peak else ""
    )
    other = "eventsourcing replay"
    found = report.ratio(ours, f"{other}/1", RATE)
    yield at_least(goal, 2, "x eventsourcing", found, report.why_missing(other))


def _opening(report: Report) -> Line:
    found = report.spread_of("ours, opening/1", lambda done: done.p50 * 1000)
    return at_most("open a flow of 100,000 events with a snapshot, p50", 5, "ms", found)


def _growth(report: Report) -> Iterator[Line]:
    measured = [
        name
        for name in GROWTH_SIZES
        if any(key.startswith(f"growth append, {name}") for key in report.slices)
    ]
    largest = measured[-1] if measured else ""
    for operation in ("append", "append with id", "list", "last event", "feed page"):
        keys = [f"growth {operation}, {name}/1" for name in ("10 thousand", largest)]
        found = report.ratio(keys[1], keys[0], P50) if len(measured) > 1 else None
        goal, note = (
            f"growth: p50 of {operation}",
            f"10 thousand to {largest} events" if found else "",
        )
        if largest == "10 million" or found is None:
            yield at_most(goal, 1.3, "x", found, note)
        else:
            yield unmeasured(goal, "at most 1.3 x", f"{found.text()} only from {note}")


def _imports(report: Report) -> Iterator[Line]:
    whole = beyond = None
    if report.imports is not None:
        whole, beyond = report.imports.whole.scaled(1000), report.imports.beyond.scaled(1000)
    yield at_most("import chem_persistence", 150, "ms", whole)
    yield at_most("import chem_persistence, beyond asyncpg and msgspec", 40, "ms", beyond)

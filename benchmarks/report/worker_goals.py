"""The goals of workers, each judged by CPU: two cores are shared by client and server."""

from collections.abc import Iterator

from benchmarks.data.spread import Spread
from benchmarks.report.report import CPU, P50, P99, Report
from benchmarks.report.verdicts import Line, at_least, at_most

__all__ = ["judge_workers"]

_OURS = "worker, ours/32"


def judge_workers(report: Report) -> Iterator[Line]:
    """Yield a line for every goal of the part `workers`."""
    for peer, target in (("DBOS", 8.5), ("absurd", 2.2)):
        modes = [key for key in report.slices if key.startswith(f"worker, {peer}")]
        best = report.least(modes, CPU)
        note = report.why_missing(f"worker, {peer}") if best is None else _step(report, best)
        found = report.ratio(best or "", _OURS, CPU)
        yield at_least(f"CPU a step in a worker, {peer} / ours, 32 flows", target, "x", found, note)
    yield at_most(
        "CPU a step in a worker / in the bare engine, 32 flows",
        1.15,
        "x",
        report.ratio(_OURS, "worker, bare engine/32", CPU),
        _step(report, _OURS) or report.why_missing("worker"),
    )
    yield from _idle(report)
    yield at_most(
        "submission to first step in an idle worker, p50",
        25,
        "ms",
        _scaled(report.spread_of("first step/1", P50), 1000),
        report.why_missing("first step"),
    )
    yield from _gate(report)
    key = _of(report, "map")
    yield at_most(
        "map of trivial items, CPU a child",
        1.5,
        "ms",
        _scaled(report.spread_of(key, CPU), 1000),
        f"{key.rpartition('/')[2]} items" if key else report.why_missing("map"),
    )
    for goal, target, one, other in (
        ("CPU of a leased append / of a plain one", 1.05, "append, leased", "append, plain"),
        ("CPU of a plain append / without fence", 1.02, "append, plain", "append, unfenced"),
    ):
        found = report.ratio(f"{one}/32", f"{other}/32", CPU)
        yield at_most(goal, target, "x", found, report.why_missing(one))


def _idle(report: Report) -> Iterator[Line]:
    key = _of(report, "idle worker")
    waiting = f"{int(key.rpartition('/')[2]):,} flows wait" if key else ""
    why = report.why_missing("idle worker")
    yield at_most(
        "idle worker, CPU of worker and server",
        0.1,
        "% of a core",
        _scaled(report.spread_of(key, CPU), 100),
        waiting or why,
    )
    empty = "idle worker, nothing waits/0"
    more = None
    if key in report.slices and empty in report.slices:
        counts = [max(done.connections for done in report.slices[each]) for each in (key, empty)]
        more = Spread(*[float(counts[0] - counts[1])] * 3)
        waiting += f", {counts[0]} connections"
    yield at_most("idle worker, connections for flows that wait", 0, "", more, waiting or why)


def _gate(report: Report) -> Iterator[Line]:
    key = _of(report, "idle gate")
    yield at_most(
        "idle worker whose flows wait for people, CPU of worker and server",
        0.1,
        "% of a core",
        _scaled(report.spread_of(key, CPU), 100),
        f"{int(key.rpartition('/')[2]):,} flows wait" if key else report.why_missing("idle gate"),
    )
    key = _of(report, "answer")
    yield at_most(
        "answer to the next step without hints, p99",
        1_000,
        "ms",
        _scaled(report.spread_of(key, P99), 1000),
        f"{key.rpartition('/')[2]} answers" if key else report.why_missing("answer"),
    )


def _of(report: Report, competitor: str) -> str:
    """Return the key of a competitor under the only load that it has; empty without figures."""
    return next((key for key in report.slices if key.rpartition("/")[0] == competitor), "")


def _scaled(found: Spread | None, factor: float) -> Spread | None:
    return None if found is None else found.scaled(factor)


def _step(report: Report, key: str) -> str:
    """Write what a step costs, as client and server."""
    client = report.spread_of(key, lambda done: done.client_cpu / max(done.events, 1))
    server = report.spread_of(key, lambda done: done.server_cpu / max(done.events, 1))
    if client is None or server is None:
        return ""
    name = key.rpartition("/")[0].removeprefix("worker, ")
    return f"{name}: {client.median * 1e6:,.0f} + {server.median * 1e6:,.0f} us"

"""The goals of the project, each judged by what a run measured."""

from collections.abc import Iterator

from benchmarks.contestants.canonical import PAYLOADS
from benchmarks.contestants.competitors import GROWTH_SIZES, PEERS
from benchmarks.data.spread import Spread
from benchmarks.report.report import CPU, P50, RATE, Report
from benchmarks.report.verdicts import Line, at_least, at_most, unmeasured
from benchmarks.report.worker_goals import judge_workers

__all__ = ["judge"]


def judge(report: Report) -> list[Line]:
    """Return a line for every goal, in the order of the project's list."""
    return [
        *_against_pgbench(report),
        *_against_peers(report),
        *_by_one_caller(report),
        _cpu(report),
        *judge_workers(report),
        *_replay(report),
        _opening(report),
        *_growth(report),
        *_imports(report),
        *_encodings(report),
    ]


def _against_pgbench(report: Report) -> Iterator[Line]:
    best = report.best_of("pgbench")
    note = (
        report.why_missing("pgbench")
        if best is None
        else f"best with {best.rpartition('/')[2]} clients"
    )
    for flows, target in ((32, 2), (128, 3), (1000, 5)):
        found = report.ratio(f"ours/{flows}", best or "", RATE)
        yield at_least(f"append, {flows} concurrent flows", target, "x pgbench's best", found, note)
    yield at_most(
        "append, one at a time, p50",
        1.25,
        "x one prepared INSERT",
        report.ratio("ours/1", "plain INSERT/1", P50),
        report.why_missing("plain INSERT"),
    )
    best = report.best_of("pgbench, artifact")
    note = (
        report.why_missing("pgbench, artifact")
        if best is None
        else f"with {best.rpartition('/')[2]} clients"
    )
    found = report.ratio("ours, artifact/32", best or "", RATE)
    yield at_least("event + 4 KB artifact, 32 concurrent", 2, "x pgbench's best", found, note)


def _against_peers(report: Report) -> Iterator[Line]:
    for peer in PEERS:
        for flows, target in ((32, 5.0), (1, 1.5)):
            modes = [
                key for key in report.slices if key.startswith(peer) and key.endswith(f"/{flows}")
            ]
            best = report.best(modes)
            found = report.ratio(f"ours/{flows}", best or "", RATE)
            note = report.why_missing(peer) if best is None else _mode(report, peer, best)
            load = "32 concurrent, best mode" if flows > 1 else "one at a time"
            yield at_least(f"{peer}, {load}", target, "x", found, note)


def _mode(report: Report, peer: str, best: str) -> str:
    """Name the best mode; if one caller acted for all flows, add the figure without that."""
    mode = best.rpartition("/")[0].removeprefix(peer).removeprefix(", ")
    if mode != "batched":
        return mode
    single = report.ratio("ours/32", f"{peer}/32", RATE)
    return (
        f"batched by one caller; {single.median:.1f} x when each flow calls"
        if single
        else "batched"
    )


def _by_one_caller(report: Report) -> Iterator[Line]:
    """Yield the lines of `append_many`, beside peers that one caller batches, and 32 callers."""
    many = "ours, append_many/32"
    for peer in ("eventsourcing recorder", "pgqueuer"):
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
    def microseconds(client: bool, server: bool) -> Spread | None:  # noqa: FBT001  # named in calls
        return report.spread_of(
            "ours/128",
            lambda done: (
                (client * done.client_cpu + server * done.server_cpu) / max(done.events, 1) * 1e6
            ),
        )

    client, server = (
        microseconds(client=True, server=False),
        microseconds(client=False, server=True),
    )
    note = f"= {client.median:.1f} + {server.median:.1f}" if client and server else ""
    total = microseconds(client=True, server=True)
    return at_most("CPU an event, client + server, at 128", 45, "us", total, note)


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


def _encodings(report: Report) -> Iterator[Line]:
    for payload in PAYLOADS:
        times = report.encodings.get(payload)
        note = f"{_microseconds(times.ours)} us for {_microseconds(times.msgspec)}" if times else ""
        yield at_most(
            f"canonical JSON, {payload}",
            3,
            "x msgspec's sorted",
            times.ratio if times else None,
            note,
        )


def _microseconds(seconds: Spread) -> str:
    return f"{seconds.median * 1e6:.2g}"

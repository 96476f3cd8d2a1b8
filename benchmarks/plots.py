"""Draw the figures of a run into the documentation.

python -m benchmarks.plots [RESULTS.json [DIRECTORY]]
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.contestants.competitors import GROWTH_SIZES, PEERS
from benchmarks.contestants.load import Slice
from benchmarks.data.spread import spread
from benchmarks.report.report import P50, RATE, Figure, Report
from benchmarks.report.summary import summary
from benchmarks.report.svg import Bar, chart

__all__ = ["draw"]

_HERE = Path(__file__).parent
_RATE_UNIT = (
    "durable events a second; longer is better; the line spans the lowest to the highest round"
)


class _Plot(msgspec.Struct, frozen=True):
    """A plot of the tasks with these keys, in this order."""

    title: str
    unit: str
    keys: Callable[[Report], Sequence[str]]
    figures: Sequence[Figure]


def _client_cpu(done: Slice) -> float:
    return done.client_cpu / max(done.events, 1) * 1e6


def _server_cpu(done: Slice) -> float:
    return done.server_cpu / max(done.events, 1) * 1e6


def _p50_microseconds(done: Slice) -> float:
    return P50(done) * 1e6


def _of(*names: str) -> Callable[[Report], Sequence[str]]:
    """Choose all tasks of these competitors, for any number of flows."""
    return lambda report: [
        key for name in names for key in report.slices if key.rpartition("/")[0] == name
    ]


def _of_peers(flows: int) -> Callable[[Report], Sequence[str]]:
    return lambda report: (
        [f"ours/{flows}"]
        + [key for key in report.slices if key.startswith(PEERS) and key.endswith(f"/{flows}")]
    )


def _grown(report: Report) -> Sequence[str]:
    operations = ("append", "append with id", "list", "last event", "feed page")
    keys = [f"growth {what}, {size}/1" for what in operations for size in GROWTH_SIZES]
    return [key for key in keys if key in report.slices]


_PLOTS = {
    "append": _Plot(
        "One event a call, by concurrent flows",
        _RATE_UNIT,
        _of("ours", "ours, without uvloop", "pgbench", "plain INSERT"),
        [RATE],
    ),
    "batches": _Plot(
        "500 events a call, one caller", _RATE_UNIT, _of("ours, batches", "COPY"), [RATE]
    ),
    "artifact": _Plot(
        "An event with 4 KB of JSON", _RATE_UNIT, _of("ours, artifact", "pgbench, artifact"), [RATE]
    ),
    "peers_32": _Plot(
        "32 concurrent flows: every mode of every peer", _RATE_UNIT, _of_peers(32), [RATE]
    ),
    "peers_1": _Plot("One at a time: every peer", _RATE_UNIT, _of_peers(1), [RATE]),
    "cpu": _Plot(
        "CPU an event: client, then server (paler)",
        "microseconds of CPU; shorter is better",
        _of(
            "ours",
            "ours, version unknown",
            "ours, signals",
            "ours, batches",
            "pgbench",
            "plain INSERT",
            "COPY",
        ),
        [_client_cpu, _server_cpu],
    ),
    "reads": _Plot(
        "Reading 100,000 events of one flow, and flows of ten",
        "events read a second; longer is better",
        _of(
            "ours, replay",
            "row floor",
            "eventsourcing replay",
            "ours, list of ten",
            "row floor of ten",
        ),
        [RATE],
    ),
    "growth": _Plot(
        "What a caller waits when the log has grown",
        "microseconds, p50, one at a time; equal lengths are the goal",
        _grown,
        [_p50_microseconds],
    ),
}


def draw(report: Report, directory: Path) -> list[str]:
    """Write each plot that has figures, and a page with plots and summary; return their names."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, plot in _PLOTS.items():
        bars = [
            _bar(report, key, plot.figures) for key in plot.keys(report) if key in report.slices
        ]
        if bars:
            text = chart(plot.title, plot.unit, _note(report), bars)
            (directory / f"{name}.svg").write_text(text, encoding="utf-8")
            drawn.append(name)
    (directory / "README.md").write_text("\n".join(_page(report, drawn)), encoding="utf-8")
    return drawn


def _bar(report: Report, key: str, figures: Sequence[Figure]) -> Bar:
    slices = report.slices[key]
    parts = [spread(map(figure, slices)).median for figure in figures]
    totals = spread(sum(figure(done) for figure in figures) for done in slices)
    name, _, flows = key.rpartition("/")
    label = name.replace("ours", "chem_persistence").removeprefix("growth ")
    return Bar(
        label if flows == "1" else f"{label}, {flows}",
        parts,
        totals.low,
        totals.high,
        "ours" in name,
    )


def _note(report: Report) -> str:
    facts = report.facts
    return (
        f"{report.command}  {facts['date'][:10]}, {facts['cores']} cores, "
        f"PostgreSQL {facts['server_version']}, "
        f"fsync {facts['fsync']}"
    )


def _page(report: Report, names: Sequence[str]) -> Iterator[str]:
    yield from (
        "# Benchmarks",
        "",
        "How to read these figures: `benchmarks/README.md`.",
        "",
    )
    yield from (
        "Made by",
        "",
        "```console",
        f"$ {report.command}",
        "$ python -m benchmarks.plots",
        "```",
        "",
    )
    yield from ("```text", summary(report), "```", "")
    for name in names:
        yield from (f"![{_PLOTS[name].title}]({name}.svg)", "")


def main() -> None:
    """Draw from the command line."""
    results, directory = [*map(Path, sys.argv[1:3]), None, None][:2]
    results = results or _HERE / "results" / "results.json"
    directory = directory or _HERE.parent / "documentation" / "reference" / "benchmarks"
    report = msgspec.json.decode(results.read_bytes(), type=Report)
    print(f"{directory}: {', '.join(draw(report, directory))}")


if __name__ == "__main__":
    main()

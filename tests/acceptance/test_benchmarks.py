"""The benchmarks run from end to end, without peers and far too short to measure anything."""

import asyncio
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from benchmarks.against.checkout import Checkout
from benchmarks.against.compare import comparison, tasks_against
from benchmarks.contestants.competitors import COMPETITORS, load_competitor
from benchmarks.contestants.flows.stepping import STEPS, Tally, drive_flows
from benchmarks.contestants.load import Load, Slice, drive
from benchmarks.data.spread import Spread
from benchmarks.facts import OPTIMISED
from benchmarks.plan import QUICK, appending, growing, lines_of_workers, reading, working
from benchmarks.plots import draw
from benchmarks.report.goals import judge
from benchmarks.report.report import RATE, Report
from benchmarks.report.summary import summary
from benchmarks.report.verdicts import at_least, at_most
from benchmarks.report.worker_goals import judge_workers
from benchmarks.rounds import Results, Task, run_rounds

REPOSITORY = Path(__file__).parents[2]
RUN = (
    "--quick",
    "--rounds",
    "1",
    "--seconds",
    "0.1",
    "--only",
    "append",
    "workers",
    "reads",
    "growth",
    "imports",
    "canonical",
)


class Finished(msgspec.Struct):
    """A run that has ended."""

    output: str
    report: Report


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    results = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "benchmarks", *RUN, "--results", str(results)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode((results / "results.json").read_bytes(), type=Report)
    return Finished(done.stdout, report)


def a_slice(events: float) -> Slice:
    return Slice(events=events, seconds=1.0, client_cpu=0.0, server_cpu=0.0, p50=0.0, p99=0.0)


@pytest.mark.slow
def test_every_goal_has_a_line(finished: Finished) -> None:
    lines = judge(finished.report)
    assert len(lines) == 46
    for line in lines:
        assert f"{line.goal} " in finished.output
        assert line.target in finished.output


@pytest.mark.slow
def test_whatever_needs_no_peer_is_measured(finished: Finished) -> None:
    assert all(".peers." in COMPETITORS[name].place for name in finished.report.failures)
    unmeasured = [line.goal for line in judge(finished.report) if line.verdict == "not measured"]
    without_peers = [
        goal
        for goal in unmeasured
        if not re.search("one at a time|each calls|one caller| / ours|instructions", goal)
    ]
    assert [goal for goal in without_peers if not goal.startswith("growth")] == [
        "replay of 100,000 events to an instance"  # 2 x eventsourcing
    ]
    assert all(done.events > 0 for slices in finished.report.slices.values() for done in slices)


@pytest.mark.slow
def test_the_server_is_durable(finished: Finished) -> None:
    settings = ("fsync", "synchronous_commit", "full_page_writes")
    assert [finished.report.facts[setting] for setting in settings] == ["on", "on", "on"]


@pytest.mark.slow
def test_plots_are_well_formed_and_have_a_dark_scheme(finished: Finished, tmp_path: Path) -> None:
    names = draw(finished.report, tmp_path)
    assert {"append", "artifact", "cpu", "reads", "growth"} <= set(names)
    for name in names:
        text = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme: dark" in text
        assert f"({name}.svg)" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", [name for name, entry in COMPETITORS.items() if ".peers." not in entry.place]
)
def test_a_competitor_that_is_no_peer_can_be_made(name: str) -> None:
    assert load_competitor(name) is not None


def test_a_ratio_is_made_round_by_round() -> None:
    ours, other = [a_slice(10), a_slice(400)], [a_slice(5), a_slice(100)]
    report = Report(command="", slices={"ours/32": ours, "pgbench/32": other})
    assert report.ratio("ours/32", "pgbench/32", RATE) == Spread(3.0, 2.0, 4.0)
    assert report.ratio("ours/32", "pgbench/64", RATE) is None


def test_parts_with_different_numbers_of_rounds_are_summarised_together() -> None:
    plan = QUICK
    parts = (
        (appending(plan, 1), plan.rounds),
        (working(plan, 1), plan.rounds),
        (lines_of_workers(plan, 1), plan.line_rounds),
        (reading(plan, 1), plan.read_rounds),
        (growing(plan, 1), plan.growth_rounds),
    )
    slices = {
        f"{task.competitor}/{task.load.flows}": [a_slice(5)] * rounds
        for tasks, rounds in parts
        for task in tasks
    }
    assert len({len(rounds) for rounds in slices.values()}) == 3
    facts: defaultdict[str, str] = defaultdict(lambda: "0")
    shown = summary(Report(command="", slices=slices, facts=facts))
    assert all(f"\n{key} " in shown for key in slices)


def test_the_best_mode_is_the_one_with_the_highest_median() -> None:
    slices = {"pgbench/8": [a_slice(9), a_slice(1), a_slice(1)], "pgbench/32": [a_slice(2)] * 3}
    assert (
        Report(command="", slices=slices).best(["pgbench/8", "pgbench/32", "pgbench/64"])
        == "pgbench/32"
    )


def test_a_goal_is_judged_by_the_median() -> None:
    found = Spread(2.0, 1.0, 9.0)
    assert at_least("goal", 2, "x", found).verdict == "met"
    assert at_least("goal", 2.1, "x", found).verdict == "not met"
    assert at_most("goal", 2, "x", found).verdict == "met"
    assert at_most("goal", 1.9, "x", found).verdict == "not met"
    assert at_most("goal", 1.9, "x", None).verdict == "not measured"


def spending(client: float, server: float, connections: int = 0) -> Slice:
    """Return a slice of 1,000 events with these microseconds of CPU for each."""
    used = {"client_cpu": client / 1e3, "server_cpu": server / 1e3}
    return msgspec.structs.replace(a_slice(1000), **used, connections=connections, p50=0.02)


def test_workers_are_judged_by_what_client_and_server_use() -> None:
    slices = {
        "worker, ours/32": [spending(200, 300)],
        "worker, bare engine/32": [spending(250, 150)],
        "worker, DBOS called/32": [spending(4000, 1000)],
        "worker, DBOS queue/32": [spending(5000, 1000)],
        "worker, absurd/32": [spending(300, 700)],
        "append, leased/32": [spending(52, 52)],
        "append, plain/32": [spending(50, 50)],
        "append, unfenced/32": [spending(50, 50)],
        "first step/1": [spending(0, 0)],
        "idle worker/300": [spending(400, 500, connections=4)],
        "idle worker, nothing waits/0": [spending(0, 0, connections=3)],
        "idle gate/300": [spending(500, 700)],
        "answer/120": [msgspec.structs.replace(a_slice(120), p99=0.9)],
        "map/300": [spending(800, 900)],
    }
    lines = list(judge_workers(Report(command="", slices=slices)))
    assert [(line.measured.partition(" ")[0], line.verdict) for line in lines] == [
        ("10.0", "met"),  # the cheaper mode of DBOS
        ("2.00", "not met"),
        ("1.25", "not met"),
        ("0.09", "met"),
        ("1.00", "not met"),
        ("20.0", "met"),
        ("0.12", "not met"),
        ("900.0", "met"),
        ("1.70", "not met"),
        ("1.04", "met"),
        ("1.00", "met"),
    ]


def test_workers_and_peers_take_turns_in_the_same_rounds() -> None:
    tasks = [*working(QUICK, os.getpid()), *lines_of_workers(QUICK, os.getpid())]
    assert {task.competitor for task in tasks} <= COMPETITORS.keys()
    beside = [task for task in tasks if task.competitor.startswith("worker, ")]
    assert {task.load for task in beside} == {beside[0].load}
    assert [task.competitor.removeprefix("worker, ") for task in beside] == [
        "ours",
        "bare engine",
        "DBOS called",
        "DBOS queue",
        "absurd",
        "procrastinate",
    ]


FACTS = {
    **dict.fromkeys(("date", "cpu", "cores", "memory", "system", "python", "server_version"), "x"),
    **dict.fromkeys(("fsync", "wal_sync_method", "fdatasync of 8 KB", "synchronous_commit"), "x"),
    "load before the run": "0.1",
}


def test_two_versions_are_compared_round_by_round() -> None:
    slices = {
        "ours/32": [spending(30, 20), spending(60, 40)],
        "ours at abc/32": [spending(60, 40), spending(60, 140)],
    }
    facts = {**FACTS, "python build": OPTIMISED}
    report = Report(command="", facts=facts, slices=slices, failures={"ours at abc": "gone"})
    text = comparison(report, Checkout("abc", Path("python"), Path("path")))
    (line,) = [line for line in text.splitlines() if line.startswith("ours/32 ")]
    assert re.split(r" {2,}", line)[1:5] == [
        "75.0 (50.0..100.0)",
        "150.0 (100.0..200.0)",
        "0.50 (0.50..0.50)",
        "0.75 (0.50..1.00)",
    ]
    assert "ours at abc gave up: gone" in text
    assert "NOT OPTIMISED" not in text


def test_a_python_that_is_not_optimised_is_named_on_the_first_line() -> None:
    report = Report(command="", facts={**FACTS, "python build": "built without --with-lto"})
    first = comparison(report, Checkout("abc", Path("python"), Path("path"))).splitlines()[0]
    assert first.endswith("NOT OPTIMISED: built without --with-lto")


def test_both_versions_take_turns_under_each_load() -> None:
    tasks = list(tasks_against(QUICK, "abc", os.getpid()))
    for own, other in zip(tasks[::2], tasks[1::2], strict=True):
        assert (other.competitor, other.load) == (f"{own.competitor} at abc", own.load)
        assert own.competitor in COMPETITORS


async def test_the_steps_of_flows_within_the_window_are_counted() -> None:
    tally = Tally()

    async def run(numbers: Sequence[int]) -> None:
        for step in range(STEPS):
            await asyncio.sleep(0)
            tally.step_ran(numbers[0], step)

    load = Load(server=os.getpid(), flows=2, seconds=0.01, warmup=0.0)
    done = await drive_flows(run, tally, load, waiting=1)
    assert 0 < done.events <= tally.steps
    assert tally.steps % STEPS == 0


async def test_a_competitor_that_fails_once_has_no_figures_and_stops_no_other() -> None:
    calls = 0

    async def fail_later(_: Load) -> Slice:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError("gone")
        return a_slice(1)

    async def succeed(_: Load) -> Slice:
        return a_slice(1)

    results = Results()
    tasks = [Task("broken", Load(server=os.getpid())), Task("whole", Load(server=os.getpid()))]
    await run_rounds(tasks, {"broken": fail_later, "whole": succeed}, 3, lambda _: None, results)
    assert (results.failures, calls) == ({"broken": "gone"}, 2)
    assert {key: len(slices) for key, slices in results.slices.items()} == {"whole/1": 3}


async def test_each_flow_calls_as_often_as_the_load_says() -> None:
    calls: list[int] = []

    async def append() -> int:
        calls.append(1)
        return 10

    done = await drive([append] * 3, Load(server=os.getpid(), calls=2))
    assert (done.events, len(calls)) == (60, 6)


@pytest.mark.slow
def test_the_costs_of_read_models_are_measured() -> None:
    sizes = ["--rounds", "1", "--slice", "0.1", "--tasks", "4", "--events", "1000"]
    command = [sys.executable, "-m", "benchmarks.read_models", *sizes]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    for line in (
        "shipped ",
        "flow_table ",
        "  descendants ",
        "flows, the newest 50 ",
        "rebuild, nothing wrong ",
    ):
        assert f"\n{line}" in done.stdout


@pytest.mark.slow
def test_the_way_of_a_large_content_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.streams", "--mebibytes", "2"]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"2 MiB; in at \d+ MiB/s, out at \d+ MiB/s; \d+ MiB more memory than an idle store .*\n",
        done.stdout,
    )

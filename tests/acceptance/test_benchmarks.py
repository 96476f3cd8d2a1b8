"""The benchmarks run from end to end, without peers and far too short to measure anything."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from benchmarks.contestants.competitors import COMPETITORS, load_competitor
from benchmarks.contestants.load import Load, Slice, drive
from benchmarks.data.spread import Spread
from benchmarks.plots import draw
from benchmarks.report.goals import judge
from benchmarks.report.report import RATE, Report
from benchmarks.report.verdicts import at_least, at_most
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
    assert len(lines) == 33
    for line in lines:
        assert f"{line.goal} " in finished.output
        assert line.target in finished.output


@pytest.mark.slow
def test_whatever_needs_no_peer_is_measured(finished: Finished) -> None:
    assert finished.report.failures == {}
    unmeasured = [line.goal for line in judge(finished.report) if line.verdict == "not measured"]
    without_peers = [
        goal for goal in unmeasured if "one at a time" not in goal and "best mode" not in goal
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

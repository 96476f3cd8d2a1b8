"""The commands `stats` and `refresh`."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

from chem_persistence.cli.database import commands_about, open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import bar, column, print_json, print_line, print_table
from chem_persistence.cli.terminal.styled import Text
from chem_persistence.cli.terminal.text import shown, shown_time
from chem_persistence.domain.answers import FailureStatistics, Statistics, StepStatistics
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import NOT_INITIALIZED, counted, duration, hash_prefix, size_of

__all__ = ["print_reuse", "print_statistics", "refresh_statistics"]

HOURS = 24
BAR = 20


async def refresh_statistics(target: Target, *, as_json: bool) -> int:
    """Add what is new to the statistics and print their time; return the exit code."""
    async with open_database(target) as provider:
        models = PgReadModels(provider)
        await models.refresh()
        refreshed_at = (await models.statistics()).refreshed_at
    if as_json:
        print_json({"refreshed_at": refreshed_at})
    else:
        print_line(f"the figures are those of {shown_time(refreshed_at)} UTC")
    return ExitCode.WELL


async def print_statistics(target: Target, *, as_json: bool) -> int:
    """Print the statistics as of their last refresh; return the exit code."""
    async with open_database(target) as provider:
        figures = await PgReadModels(provider).statistics()
    refresh_it = shown(commands_about(target).refresh())
    as_of = f"{shown_time(figures.refreshed_at)} UTC"
    is_empty = not (figures.steps or figures.failures or figures.hours or figures.artifacts)
    if is_empty:
        print_line(
            f"nothing was in the log at {as_of}, when the statistics were last refreshed; "
            f"the owner of the tables refreshes them: {refresh_it}",
            error=as_json,
        )
    if as_json:
        print_json(figures)
    elif not is_empty:
        print_line(f"as of {as_of}; {refresh_it} adds what is new")
        _print(figures)
    return ExitCode.WELL


async def print_reuse(target: Target, *, as_json: bool) -> int:
    """Print how often results were taken over, by step, and what that saved; return the exit code.

    It is of now, whenever the other statistics were computed.
    """
    async with open_database(target) as provider:
        figures = await PgReadModels(provider).reuse()
    saved = sum(step.seconds_saved for step in figures)
    if as_json:
        print_json({"seconds_saved": saved, "steps": figures})
    elif not figures:
        print_line("no result was taken over")
    else:
        rows = [
            (
                shown(step.step_id),
                f"{step.times:,}",
                f"{step.results:,}",
                duration(timedelta(seconds=step.seconds_saved)),
            )
            for step in figures
        ]
        names = ("taken over", "results", "saved")
        print_table(
            [column("step", fold=True), *(column(name, right=True) for name in names)], rows
        )
        times = counted(sum(step.times for step in figures), "step")
        print_line(f"{times} did not run, which saved {duration(timedelta(seconds=saved))}")
    return ExitCode.WELL


def _print(figures: Statistics) -> None:
    """Print the steps and failures of each definition, then what is of the whole log."""
    of_steps, of_failures = _by_definition(figures.steps), _by_definition(figures.failures)
    for definition in dict.fromkeys([*of_steps, *of_failures]):
        name = NOT_INITIALIZED if definition is None else hash_prefix(definition)
        print_line("")
        print_line(f"definition {shown(name)}")
        _steps(of_steps.get(definition, []))
        _failures(of_failures.get(definition, []))
    _hours(figures)
    _artifacts(figures)


Figures = TypeVar("Figures", StepStatistics, FailureStatistics)


def _by_definition(figures: Sequence[Figures]) -> dict[str | None, list[Figures]]:
    grouped: dict[str | None, list[Figures]] = {}
    for figure in figures:
        grouped.setdefault(figure.definition_hash, []).append(figure)
    return grouped


def _steps(steps: Sequence[StepStatistics]) -> None:
    if not steps:
        return
    print_line("")
    rows = [
        (
            shown(step.step_id),
            f"{step.executions:,}",
            f"{step.finished:,}",
            f"{step.failures:,}",
            f"{step.retries:,}",
            *map(
                _seconds,
                (step.p50_seconds, step.p90_seconds, step.p99_seconds, step.longest_seconds),
            ),
        )
        for step in steps
    ]
    names = ("runs", "done", "failed", "retried", "median", "90 %", "99 %", "longest")
    print_table([column("step", fold=True), *(column(name, right=True) for name in names)], rows)


def _failures(failures: Sequence[FailureStatistics]) -> None:
    if not failures:
        return
    print_line("")
    rows = [
        (
            shown(f"{failure.step_id}: {failure.error_class}"),
            f"{failure.failures:,}",
            f"{failure.flows:,}",
            shown_time(failure.last_failed_at),
        )
        for failure in failures
    ]
    columns = [
        column("failure", fold=True),
        column("times", right=True),
        column("flows", right=True),
        column("last"),
    ]
    print_table(columns, rows)


def _hours(figures: Statistics) -> None:
    if not figures.hours:
        return
    print_line("")
    most = max(hour.events for hour in figures.hours)
    rows = [
        (
            f"{hour.hour:%Y-%m-%d %H:00}",
            f"{hour.events:,}",
            f"{hour.flows_started:,}",
            f"{hour.flows_completed:,}",
            f"{hour.steps_failed:,}",
            Text(bar(hour.events / most * BAR)),
        )
        for hour in figures.hours[-HOURS:]
    ]
    names = ("events", "begun", "completed", "step failures")
    print_table([column("hour"), *(column(name, right=True) for name in names), column("")], rows)


def _artifacts(figures: Statistics) -> None:
    if not figures.artifacts:
        return
    print_line("")
    rows = [
        (shown(kind.kind), f"{kind.artifacts:,}", size_of(kind.stored_bytes))
        for kind in figures.artifacts
    ]
    print_table(
        [column("artifact"), column("count", right=True), column("stored", right=True)], rows
    )


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else duration(timedelta(seconds=seconds))

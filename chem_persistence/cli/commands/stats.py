"""The commands `stats` and `refresh`."""

from datetime import timedelta

from rich.text import Text

from chem_persistence.cli.database import commands_about, open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import bar, column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import shown, shown_time
from chem_persistence.domain.answers import Statistics
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import duration, size_of

__all__ = ["print_statistics", "refresh_statistics"]

HOURS = 24
BAR = 20


async def refresh_statistics(target: Target, *, as_json: bool) -> int:
    """Compute the statistics and print their time; return the exit code."""
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
    if as_json:
        print_json(figures)
        return ExitCode.WELL
    refresh_it = shown(commands_about(target).refresh())
    if not (figures.steps or figures.failures or figures.hours or figures.artifacts):
        print_line(f"nothing has been counted yet; {refresh_it} does that")
        return ExitCode.WELL
    print_line(f"as of {shown_time(figures.refreshed_at)} UTC; {refresh_it} computes them anew")
    for part in (_steps, _failures, _hours, _artifacts):
        part(figures)
    return ExitCode.WELL


def _steps(figures: Statistics) -> None:
    if not figures.steps:
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
        for step in figures.steps
    ]
    names = ("runs", "done", "failed", "retried", "median", "90 %", "99 %", "longest")
    print_table([column("step", fold=True), *(column(name, right=True) for name in names)], rows)


def _failures(figures: Statistics) -> None:
    if not figures.failures:
        return
    print_line("")
    rows = [
        (
            shown(f"{failure.step_id}: {failure.error_class}"),
            f"{failure.failures:,}",
            f"{failure.flows:,}",
            shown_time(failure.last_failed_at),
        )
        for failure in figures.failures
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

"""The command `waiting`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from chem_persistence.cli.commands.flows import shown_progress
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import (
    Cell,
    column,
    print_json,
    print_line,
    print_table,
)
from chem_persistence.cli.terminal.text import shown, shown_ago
from chem_persistence.domain.answers import WaitingFlow
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import duration, hash_prefix, title

__all__ = ["list_waiting"]


async def list_waiting(target: Target, limit: int, *, as_json: bool) -> int:
    """Print the flows that want a worker, or will; return the exit code."""
    async with open_database(target) as provider:
        found = await PgReadModels(provider).waiting_flows(limit=limit + 1)
    listed, more = found[:limit], len(found) > limit
    if as_json:
        print_json({"flows": listed, "more": more})
        return ExitCode.WELL
    if not listed:
        print_line("no flow waits for a worker, a time or a person")
        return ExitCode.WELL
    _print(listed)
    unserved = {flow.definition_hash for flow in listed if flow.is_due and not flow.workers}
    for definition in sorted(unserved):
        print_line(f"no worker serves definition {hash_prefix(definition)}, of which flows are due")
    if more:
        print_line(f"there are more: --limit {2 * limit}")
    return ExitCode.WELL


def _print(listed: Sequence[WaitingFlow]) -> None:
    now = datetime.now(UTC)
    columns = [
        column("flow", ids=True),
        column("name", cut=True),
        column("state", fold=True),
        column("due"),
        column("workers", right=True),
    ]
    print_table(columns, [_row(each, now) for each in listed])


def _row(each: WaitingFlow, now: datetime) -> Sequence[Cell]:
    due, workers = _due(each, now), str(each.workers)
    if each.flow is None:
        return (str(each.flow_id), "", "", due, workers)
    name = shown(title(each.flow.name, each.flow.label))
    return (str(each.flow_id), name, shown_progress(each.flow), due, workers)


def _due(each: WaitingFlow, now: datetime) -> str:
    if each.due_at is None:
        return "not by itself"
    if each.is_due:
        return shown_ago(now - each.due_at)
    return f"in {duration(each.due_at - now)}"

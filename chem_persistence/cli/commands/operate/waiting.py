"""The command `waiting`."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

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
from chem_persistence.cli.terminal.text import one_line, shown, shown_ago
from chem_persistence.domain.answers import FlowSummary, OpenQuestion, WaitingFlow
from chem_persistence.domain.flow_state import FlowState
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
    for each in listed:
        if each.question is not None:
            _print_question(each.flow_id, each.question)
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


def _print_question(flow_id: UUID, question: OpenQuestion) -> None:
    """Print what a step asks, since when, and how it is answered."""
    now, step_id = datetime.now(UTC), shown(one_line(question.step_id))
    since = "" if question.asked_at is None else f" for {duration(now - question.asked_at)}"
    left = ""
    if question.until is not None:
        left = f", with {duration(max(question.until - now, timedelta(0)))} left"
    text = "" if question.text is None else f"; asks: {shown(one_line(question.text))}"
    print_line(f"{flow_id} {step_id} has waited for an answer{since}{left}{text}")


def _row(each: WaitingFlow, now: datetime) -> Sequence[Cell]:
    due, workers = _due(each, now), str(each.workers)
    if each.flow is None:
        return (str(each.flow_id), "", "", due, workers)
    name = shown(title(each.flow.name, each.flow.label))
    return (str(each.flow_id), name, _state(each.flow, is_due=each.is_due), due, workers)


def _state(flow: FlowSummary, *, is_due: bool) -> Cell:
    """Return the state of a flow; one that has begun and is not due yet is tried again then."""
    if flow.state is FlowState.RUNNING and not is_due:
        return f"to retry {shown(flow.current_step or '')}".strip()
    return shown_progress(flow)


def _due(each: WaitingFlow, now: datetime) -> str:
    if each.due_at is None:
        return "not by itself"
    if each.is_due:
        return shown_ago(now - each.due_at)
    return f"in {duration(each.due_at - now)}"

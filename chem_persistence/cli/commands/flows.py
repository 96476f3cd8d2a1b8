"""The command `flows`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import (
    Cell,
    column,
    output_width,
    print_json,
    print_line,
    print_table,
    shown_state,
)
from chem_persistence.cli.terminal.text import shown, shown_ago, shown_error, shown_time
from chem_persistence.domain.answers import FlowSummary
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.postgres.connection.pool import PoolProvider
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import duration, title

__all__ = ["FlowFilters", "list_flows", "shown_duration", "shown_progress"]

WIDE = 120


class FlowFilters(NamedTuple):
    """Which flows are listed: by state, definition and label, whether without children, and more.

    `step` has begun and is not finished, `error` is the class with which one failed, and `since`
    the time of ISO 8601 at which flows began, or later.
    """

    state: str | None
    definition: str | None
    label: str | None
    roots: bool
    step: str | None
    error: str | None
    since: str | None


async def list_flows(
    target: Target, filters: FlowFilters, before: str | None, limit: int, *, as_json: bool
) -> int:
    """Print a page of flows and how to get the next one; return the exit code."""
    async with open_database(target) as provider:
        models = PgReadModels(provider)
        definition, last, since = await _looked_up(provider, models, filters, before)
        found = await models.flows(
            state=None if filters.state is None else FlowState(filters.state),
            definition_hash=definition,
            before=last,
            limit=limit + 1,
            roots=filters.roots,
            label=filters.label,
            step=filters.step,
            error=filters.error,
            since=since,
        )
    listed, more = found[:limit], len(found) > limit
    if as_json:
        print_json({"flows": listed, "next": listed[-1].flow_id if more else None})
        return ExitCode.WELL
    _print(listed)
    if not listed:
        print_line("no flows")
    elif more:
        print_line(f"there are more: --before {listed[-1].flow_id}")
    return ExitCode.WELL


async def _looked_up(
    provider: PoolProvider, models: PgReadModels, filters: FlowFilters, before: str | None
) -> tuple[str | None, FlowSummary | None, datetime | None]:
    """Return the definition, the last flow of the page before, and the time that were given."""
    if filters.definition is None and before is None and filters.since is None:
        return None, None, None
    from chem_persistence.cli import lookup  # noqa: PLC0415 - most lists start faster without it

    definition, last = filters.definition, None
    if definition is not None:
        definition = await lookup.find_definition(provider, definition)
    if before is not None:
        last = await models.flow(await lookup.find_flow(provider, before, "--before"))
    since = None if filters.since is None else lookup.given_time(filters.since, "--since")
    return definition, last, since


def shown_progress(flow: FlowSummary) -> Cell:
    """Return the state of a flow, and the step that it is at unless it has ended."""
    if flow.state in {FlowState.COMPLETED, FlowState.CANCELLED} or flow.current_step is None:
        return shown_state(flow.state)
    is_awaiting = flow.state is FlowState.AWAITING_USER_INPUT
    state = shown_state(flow.state, "awaiting" if is_awaiting else None)
    return state.append(f" {shown(flow.current_step)}")


def shown_duration(flow: FlowSummary, now: datetime) -> str:
    """Return how long a flow took; while it is not over, how long ago its last event was."""
    if flow.state in {FlowState.COMPLETED, FlowState.CANCELLED, FlowState.FAILED}:
        return duration(flow.last_event_at - flow.started_at)
    return f"last event {shown_ago(now - flow.last_event_at)}"


def _print(listed: Sequence[FlowSummary]) -> None:
    if not listed:
        return
    now, is_wide = datetime.now(UTC), output_width() >= WIDE
    is_named = any(title(flow.name, flow.label) for flow in listed)
    has_parents = any(flow.parent is not None for flow in listed)
    columns = [column("flow", ids=True)]
    if has_parents:
        columns.append(column("parent", ids=True))
    if is_named:
        columns.append(column("name", cut=True))
    columns += [column("state", fold=True), column("steps", right=True), column("began")]
    if is_wide:
        columns += [column("events", right=True), column("took", right=True)]
        columns.append(column("failure", cut=True))
    rows = []
    for flow in listed:
        ids: list[Cell] = [str(flow.flow_id)]
        if has_parents:
            ids.append("" if flow.parent is None else str(flow.parent.flow_id))
        names = [shown(title(flow.name, flow.label))] if is_named else []
        rows.append([*ids, *names, *_row(flow, now, is_wide=is_wide)])
    print_table(columns, rows)


def _row(flow: FlowSummary, now: datetime, *, is_wide: bool) -> list[Cell]:
    steps = "?" if flow.step_count is None else str(flow.step_count)
    row = [shown_progress(flow), f"{flow.finished_steps}/{steps}"]
    if not is_wide:
        return [*row, shown_ago(now - flow.started_at)]
    failure = ""
    if flow.failure is not None:
        failure = shown_error(flow.failure.error_class, flow.failure.message)
    began = shown_time(flow.started_at)
    return [*row, began, str(flow.version), shown_duration(flow, now), failure]

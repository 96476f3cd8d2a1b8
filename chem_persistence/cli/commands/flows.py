"""The command `flows`."""

from collections.abc import Sequence
from datetime import UTC, datetime

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow
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
from chem_persistence.cli.terminal.text import shown, shown_ago, shown_time
from chem_persistence.domain.answers import FlowSummary
from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import duration

__all__ = ["list_flows", "shown_progress"]

WIDE = 120


async def list_flows(
    target: Target,
    state: str | None,
    definition: str | None,
    before: str | None,
    limit: int,
    *,
    as_json: bool,
) -> int:
    """Print a page of flows and how to get the next one; return the exit code."""
    if definition is not None and not is_content_hash(definition):
        raise InvalidArgument(
            "--definition", "must be a whole hash: 64 lower-case hexadecimal digits"
        )
    async with open_database(target) as provider:
        models = PgReadModels(provider)
        last = None if before is None else await models.flow(await find_flow(provider, before))
        found = await models.flows(
            state=None if state is None else FlowState(state),
            definition_hash=definition,
            before=last,
            limit=limit + 1,
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


def shown_progress(flow: FlowSummary) -> Cell:
    """Say where a flow stands, and at which step if it stands still or runs."""
    state = shown_state(flow.state)
    if flow.state is FlowState.COMPLETED or flow.current_step is None:
        return state
    if flow.state is FlowState.AWAITING_USER_INPUT:
        state.plain = "awaiting"
    return state.append(f" {shown(flow.current_step)}")


def _print(listed: Sequence[FlowSummary]) -> None:
    if not listed:
        return
    now, is_wide = datetime.now(UTC), output_width() >= WIDE
    columns = [
        column("flow"),
        column("state", cut=True),
        column("steps", right=True),
        column("began"),
    ]
    if is_wide:
        columns += [
            column("events", right=True),
            column("took", right=True),
            column("failure", cut=True),
        ]
    rows: list[list[Cell]] = []
    for flow in listed:
        steps = "?" if flow.step_count is None else str(flow.step_count)
        row: list[Cell] = [
            str(flow.flow_id),
            shown_progress(flow),
            f"{flow.finished_steps}/{steps}",
        ]
        if is_wide:
            failure = (
                ""
                if flow.failure is None
                else f"{flow.failure.error_class}: {flow.failure.message}"
            )
            took = duration(flow.last_event_at - flow.started_at)
            row += [shown_time(flow.started_at), str(flow.version), took, shown(failure)]
        else:
            row.append(shown_ago(now - flow.started_at))
        rows.append(row)
    print_table(columns, rows)

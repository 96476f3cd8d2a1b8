"""The command `flows`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from chem_persistence.cli.database import Place, open_database
from chem_persistence.cli.exit import ExitCode, run
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import AsJson, Data, DatabaseUrl, Schema
from chem_persistence.cli.terminal.escaping import shown
from chem_persistence.cli.terminal.printing import (
    Cell,
    column,
    output_width,
    print_json,
    print_line,
    print_table,
    shown_ago,
    shown_state,
    shown_time,
)
from chem_persistence.domain.answers import FlowSummary
from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import duration

__all__ = ["flows", "shown_progress"]

WIDE = 120


def flows(
    state: Annotated[FlowState | None, typer.Option(help="Only flows that stand so.")] = None,
    definition: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="Only flows of this definition (its whole hash)."),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(metavar="FLOW", help="Only flows that began before this one: the next page."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    database_url: DatabaseUrl = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """List flows, the newest first: where they stand, how far they are, when they began, why they failed.

    How many events, how long and why are shown where a line has 120 characters; `show FLOW` says it on any terminal.
    """
    place = Place(database_url, data, schema)
    run(lambda: _flows(place, state, definition, before, limit, as_json=as_json))


async def _flows(
    place: Place,
    state: FlowState | None,
    definition: str | None,
    before: str | None,
    limit: int,
    *,
    as_json: bool,
) -> int:
    if definition is not None and not is_content_hash(definition):
        raise InvalidArgument(
            "--definition", "must be a whole hash: 64 lower-case hexadecimal digits"
        )
    async with open_database(place) as provider:
        models = PgReadModels(provider)
        last = None if before is None else await models.flow(await find_flow(provider, before))
        found = await models.flows(
            state=state, definition_hash=definition, before=last, limit=limit + 1
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

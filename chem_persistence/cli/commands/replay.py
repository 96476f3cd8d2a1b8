"""The command `replay`."""

from typing import Annotated, Any

import msgspec
import typer

from chem_persistence.cli.database import Place, open_database
from chem_persistence.cli.exit import ExitCode, run
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import AsJson, Data, DatabaseUrl, FlowName, Schema
from chem_persistence.cli.terminal.escaping import shown
from chem_persistence.cli.terminal.printing import (
    column,
    print_json,
    print_line,
    print_table,
    shown_state,
    shown_time,
)
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.views.observed_flow import UNNAMED, ObservedFlow, replay_observed
from chem_persistence.views.wording import counted

__all__ = ["replay"]


def replay(
    flow: FlowName,
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="VERSION", help="The state after this event; the first is 0."),
    ] = None,
    database_url: DatabaseUrl = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Replay a flow's events, all or up to a version, and print the state that they make.

    It is the replay that engines use, but without the steps' definition: the log holds only its hash. So the steps
    are those that the events name, one that no event names is shown as ?, and whether your program's steps are the
    ones the flow began with is for your program to say (DefinitionMismatch). Artifacts are not read.

    Exit code 1: the events contradict each other, or one cannot be read.
    """
    place = Place(database_url, data, schema)
    run(lambda: _replay(place, flow, at, as_json=as_json))


async def _replay(place: Place, flow: str, at: int | None, *, as_json: bool) -> int:
    async with open_database(place) as provider:
        flow_id = await find_flow(provider, flow)
        events = await PgEventStore(provider).list(flow_id)
    observed = replay_observed(flow_id, events, at)
    if as_json:
        print_json(_as_json(observed))
    else:
        _print(observed)
    return ExitCode.WELL


def _as_json(observed: ObservedFlow) -> dict[str, Any]:
    instance: dict[str, Any] = msgspec.to_builtins(observed.instance)
    steps = [slot | {"step_id": slot["step_id"] or None} for slot in instance["steps"]]
    return {
        "flow_id": instance["id"],
        "version": instance["version"],
        "events": observed.events,
        "at": observed.at,
        "state": observed.state,
        "completed": instance["completed"],
        "definition_hash": observed.definition_hash,
        "input": instance["input"],
        "cursor": observed.instance.cursor,
        "steps": steps,
    }


def _print(observed: ObservedFlow) -> None:
    instance = observed.instance
    print_table(
        [column(""), column("", fold=True)],
        [
            ("flow", str(instance.id)),
            ("state", shown_state(observed.state)),
            (
                "after",
                f"{instance.version} of {counted(observed.events, 'event')}, at {shown_time(observed.at)} UTC",
            ),
            ("definition", observed.definition_hash),
            ("input", instance.input or "none"),
        ],
        heading=False,
    )
    print_line("")
    rows = [
        (
            f"{'>' if index == instance.cursor else ' '}{index}",
            "?" if slot.step_id == UNNAMED else shown(slot.step_id),
            shown_state(slot.status),
            str(slot.attempts),
            str(slot.retry_count),
            ", ".join(output[:12] for output in slot.outputs),
            "" if slot.error is None else shown(f"{slot.error.error_class}: {slot.error.message}"),
        )
        for index, slot in enumerate(instance.steps)
    ]
    columns = [
        column(" #"),
        column("step", cut=True),
        column("status"),
        column("attempts", right=True),
    ]
    columns += [
        column("retries", right=True),
        column("outputs", cut=True),
        column("last error", cut=True),
    ]
    print_table(columns, rows)

"""The command `replay`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.flow_story import definition_json, definition_rows, name_row
from chem_persistence.cli.lookup import definition_of, find_flow, given_time
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import (
    Cell,
    column,
    print_json,
    print_line,
    print_table,
    shown_state,
)
from chem_persistence.cli.terminal.text import one_line, shown, shown_error, shown_time
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.views.observed_flow import UNNAMED, ObservedFlow, replay_observed
from chem_persistence.views.wording import counted, hash_prefix

__all__ = ["replay_flow"]


async def replay_flow(target: Target, flow: str, at: str | None, *, as_json: bool) -> int:
    """Print the state after the version, or at the time, `at`; return the exit code."""
    version = int(at) if at is not None and at.isdecimal() else None
    time = None if at is None or version is not None else given_time(at, "--at")
    async with open_database(target) as provider:
        flow_id = await find_flow(provider, flow)
        store = PgEventStore(provider)
        events = await store.list(flow_id)
        definition = await definition_of(store, events)
    if time is not None:
        version = _version_at(flow_id, events, time)
    observed = replay_observed(flow_id, events, version, definition)
    if as_json:
        print_json(_as_json(observed, definition))
    else:
        _print(observed, definition)
    return ExitCode.WELL


def _version_at(flow_id: UUID, events: Sequence[FlowEvent], time: datetime) -> int:
    """Return the version of the last event that a flow had at a time, by its writers' clocks.

    Raises:
        InvalidArgument: it had none.
    """
    versions = [event.version for event in events if event.ts <= time]
    if not versions:
        began = "" if not events else f"; it began at {shown_time(events[0].ts)} UTC"
        raise InvalidArgument("--at", f"flow {flow_id} had no event at that time{began}")
    return max(versions)


def _as_json(observed: ObservedFlow, definition: FlowDefinition | None) -> dict[str, Any]:
    instance: dict[str, Any] = msgspec.to_builtins(observed.instance)
    steps = [slot | {"step_id": slot["step_id"] or None} for slot in instance["steps"]]
    return {
        "flow_id": instance["id"],
        "version": instance["version"],
        "events": observed.events,
        "at": observed.at,
        "state": observed.state,
        "completed": instance["completed"],
        "cancelled": instance["cancelled"],
        "definition_hash": observed.definition_hash,
        "name": observed.name,
        "label": observed.label,
        "definition": definition_json(definition),
        "input": instance["input"],
        "cursor": observed.instance.cursor,
        "steps": steps,
    }


def _print(observed: ObservedFlow, definition: FlowDefinition | None) -> None:
    _print_flow(observed, definition)
    print_line("")
    _print_steps(observed.instance)


def _print_flow(observed: ObservedFlow, definition: FlowDefinition | None) -> None:
    instance, events = observed.instance, counted(observed.events, "event")
    rows: list[tuple[Cell, Cell]] = [
        ("flow", str(instance.id)),
        *name_row(observed.name, observed.label),
        ("state", shown_state(observed.state)),
        ("after", f"{instance.version} of {events}, at {shown_time(observed.at)} UTC"),
        ("definition", observed.definition_hash),
        *definition_rows(definition),
        ("input", instance.input or "none"),
    ]
    if instance.cancelled is not None:
        rows.append(("cancelled", shown(one_line(instance.cancelled))))
    print_table([column(""), column("", fold=True)], rows, heading=False)


def _print_steps(instance: FlowInstance) -> None:
    rows = [
        (
            f"{'>' if index == instance.cursor else ' '}{index}",
            "?" if slot.step_id == UNNAMED else shown(slot.step_id),
            shown_state(slot.status),
            str(slot.attempts),
            str(slot.retry_count),
            ", ".join(hash_prefix(output) for output in slot.outputs),
            "" if slot.error is None else shown_error(slot.error.error_class, slot.error.message),
        )
        for index, slot in enumerate(instance.steps)
    ]
    columns = [
        column(" #"),
        column("step", fold=True),
        column("status"),
        column("attempts", right=True),
    ]
    columns += [
        column("retries", right=True),
        column("outputs", fold=True),
        column("last error", cut=True),
    ]
    print_table(columns, rows)

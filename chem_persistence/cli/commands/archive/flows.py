"""The command `archive`."""

import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chem_persistence.archive.flows import (
    ArchivedBundle,
    NotArchived,
    archive_ended,
    archive_flows,
)
from chem_persistence.cli.commands.archive.options import ArchiveOptions
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import ArchiveHeld, FlowNotCompleted, InvalidArgument
from chem_persistence.postgres.event_store import PgEventStore

__all__ = ["archive_from"]

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


async def archive_from(target: Target, chosen: ArchiveOptions, *, as_json: bool) -> int:
    """Archive flows, and print their bundles and who stays; return the exit code."""
    if bool(chosen.flows) == (chosen.older_than is not None):
        raise InvalidArgument("FLOW", "name flows, or an age by --older-than")
    before = None if chosen.older_than is None else datetime.now(UTC) - _age(chosen.older_than)
    outcomes: list[ArchivedBundle | NotArchived] = []
    async with open_database(target) as provider:
        flow_ids = [await find_flow(provider, name) for name in chosen.flows]
        store = PgEventStore(provider)
        try:
            async for outcome in _archived(store, flow_ids, chosen, before):
                outcomes.append(outcome)
                if not as_json:
                    _print(outcome)
        finally:
            await store.aclose()
    if as_json:
        print_json([_described(outcome) for outcome in outcomes])
    elif not outcomes:
        print_line("no flow ended so long ago")
    stays = any(isinstance(outcome, NotArchived) for outcome in outcomes)
    return ExitCode.FOUND if stays else ExitCode.WELL


async def _archived(
    store: PgEventStore, flow_ids: Sequence[UUID], chosen: ArchiveOptions, before: datetime | None
) -> AsyncIterator[ArchivedBundle | NotArchived]:
    """Archive the flows that were chosen; yield each bundle, and who stays."""
    directory, actor, wait = chosen.directory, chosen.actor, chosen.wait
    if before is not None:
        async for outcome in archive_ended(
            store, before, directory, actor=actor, batch=chosen.batch, patience=wait
        ):
            yield outcome
        return
    try:
        yield await archive_flows(store, flow_ids, directory, actor=actor, patience=wait)
    except FlowNotCompleted as error:
        yield NotArchived(error.flow_id, error)
    except ArchiveHeld as error:
        yield NotArchived(flow_ids[0], error)


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([dhm])", text)
    if match is None:
        raise InvalidArgument("--older-than", f"{text} is not an age like 90d, 12h or 30m")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _print(outcome: ArchivedBundle | NotArchived) -> None:
    match outcome:
        case ArchivedBundle(path, _, flows):
            noun = "flow" if len(flows) == 1 else "flows"
            print_line(f"{len(flows)} {noun} archived in {shown(str(path))}")
        case NotArchived(flow_id, error):
            print_line(f"flow {flow_id} stays: {_reason(error)}")


def _reason(error: Exception) -> str:
    if isinstance(error, FlowNotCompleted):
        return f"flow {error.flow_id} is neither completed nor cancelled"
    return str(error)


def _described(outcome: ArchivedBundle | NotArchived) -> dict[str, Any]:
    match outcome:
        case ArchivedBundle(path, sha256, flows):
            return {"bundle": str(path), "sha256": sha256, "flows": flows}
        case NotArchived(flow_id, error):
            return {"flow_id": flow_id, "stays": _reason(error)}

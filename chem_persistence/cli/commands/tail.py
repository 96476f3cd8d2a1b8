"""The command `tail`."""

from collections.abc import Iterable
from typing import Annotated, NoReturn
from uuid import UUID

import anyio
import typer
from rich.text import Text

from chem_persistence.cli.database import Place, open_database
from chem_persistence.cli.exit import ExitCode, run
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import AsJson, Data, DatabaseUrl, Schema
from chem_persistence.cli.terminal.escaping import shown
from chem_persistence.cli.terminal.printing import print_json, print_line, shown_time
from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import StoreUnavailable
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read.tail import LogTail, follow_log, read_log_tail
from chem_persistence.views.event_line import event_line

__all__ = ["tail"]

_STYLES = {"F": "green", "C": "bold green", "X": "red", "R": "yellow", "U": "cyan", "V": "cyan"}


def tail(
    flow: Annotated[
        str | None, typer.Argument(metavar="FLOW", help="Only this flow's events.")
    ] = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many of the last events.")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.05, help="Seconds between two looks, when it follows.")
    ] = 1.0,
    database_url: DatabaseUrl = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Print the last events of the log, or of a flow, and with --follow those that come.

    An event whose transaction ends late comes late, but comes. While the database is away, --follow waits for it.
    With --json each event is an object on a line of its own.
    """
    place = Place(database_url, data, schema)
    run(lambda: _tail(place, flow, lines, interval if follow else None, as_json=as_json))


async def _tail(
    place: Place, flow: str | None, lines: int, interval: float | None, *, as_json: bool
) -> int:
    async with open_database(place) as provider:
        flow_id = None if flow is None else await find_flow(provider, flow)
        last = await read_log_tail(provider, lines, flow_id, to_follow=interval is not None)
        _print(last.events, as_json=as_json)
        if interval is not None:
            await _follow(provider, last, interval, flow_id, as_json=as_json)
    return ExitCode.WELL


async def _follow(
    provider: ConnectionProvider,
    last: LogTail,
    interval: float,
    flow_id: UUID | None,
    *,
    as_json: bool,
) -> NoReturn:
    """Print what comes after `last`, for ever: it waits for a database that is away, and goes on where it was."""
    place, is_away = last.position, False
    while True:
        try:
            async for events in follow_log(provider, LogTail((), place), interval, flow_id):
                is_away = False
                _print(events, as_json=as_json)
                if events:
                    place = events[-1].seq if flow_id is None else events[-1].version
        except StoreUnavailable as error:
            if not is_away:
                print_line(f"waiting for the database: {shown(error)}", error=True)
            is_away = True
            await anyio.sleep(interval)


def _print(events: Iterable[FlowEvent], *, as_json: bool) -> None:
    for event in events:
        if as_json:
            print_json(event)
            continue
        print_line(
            Text(f"{shown_time(event.ts)}  "),
            Text(f"{str(event.flow_id)[:13]} {event.version:>4}  ", style="dim"),
            Text(f"{event.variant} ", style=_STYLES.get(event.variant, "")),
            shown(event_line(event.kind).sentence),
            cut=True,
        )

"""The command `tail`."""

from collections.abc import Iterable
from typing import NoReturn

import anyio

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.styled import Text
from chem_persistence.cli.terminal.text import one_line, shown, shown_time
from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import EventsArchived, StoreUnavailable
from chem_persistence.postgres.read.tail import TailReader, follow_log, read_log_tail
from chem_persistence.views.event_line import event_line

__all__ = ["print_tail"]

_STYLES = {
    "F": "green",
    "C": "bold green",
    "X": "red",
    "K": "bold red",
    "R": "yellow",
    "W": "blue",
    "U": "cyan",
    "V": "cyan",
}


async def print_tail(
    target: Target, flow: str | None, lines: int, interval: float | None, *, as_json: bool
) -> int:
    """Print the last events, and new ones every `interval` seconds unless it is None."""
    async with open_database(target) as provider:
        flow_id = None if flow is None else await find_flow(provider, flow)
        last = await read_log_tail(provider, lines, flow_id, to_follow=interval is not None)
        _print(last.events, as_json=as_json)
        if interval is not None:
            await _follow(last.reader, interval, as_json=as_json)
    return ExitCode.WELL


async def _follow(reader: TailReader, interval: float, *, as_json: bool) -> NoReturn:
    """Print new events without end; wait while the database is unavailable, then continue.

    Raises:
        HistoryLost: the database came back without events that were printed.
    """
    is_away = False
    while True:
        try:
            async for events in follow_log(reader, interval):
                is_away = False
                _print(events, as_json=as_json)
        except StoreUnavailable as error:
            if not is_away:
                print_line(f"waiting for the database: {shown(error)}", error=True)
            is_away = True
            await anyio.sleep(interval)
        except EventsArchived as error:
            print_line(f"not printed: {shown(error)}", error=True)


def _print(events: Iterable[FlowEvent], *, as_json: bool) -> None:
    for event in events:
        if as_json:
            print_json(event)
            continue
        print_line(
            Text(f"{shown_time(event.ts)}  "),
            Text(f"{str(event.flow_id)[:13]} {event.version:>4}  ", style="dim"),
            Text(f"{event.variant} ", style=_STYLES.get(event.variant, "")),
            shown(one_line(event_line(event.kind).sentence)),
            cut=True,
        )

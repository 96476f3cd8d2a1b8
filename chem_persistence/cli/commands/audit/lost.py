"""The command `lost`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from chem_persistence.archive.audit import audit_archive
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.audit.lost import (
    Loss,
    LostEvent,
    LostHead,
    SeenEvent,
    find_lost_events,
    find_lost_heads,
)
from chem_persistence.postgres.audit.register import PgRegister
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read.feed import PgFeedSource
from chem_persistence.store.feed_position import FeedPosition, PositionState
from chem_persistence.store.transfer.anchors import Anchor, AnchorFile
from chem_persistence.views.wording import counted

__all__ = ["LostOptions", "find_lost"]


class LostOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `lost`: the files to compare with."""

    target: Target
    position: Path | None
    events: Path | None
    anchors: Path | None
    as_json: bool


class _ExaminedPosition(msgspec.Struct, frozen=True):
    seq: int
    flow_id: UUID
    state: PositionState


class _Report(msgspec.Struct):
    """What was compared and found; `newest_that_holds` is the `seq` of a position."""

    positions: list[_ExaminedPosition] = []
    newest_that_holds: int | None = None
    events_compared: int = 0
    events: list[LostEvent] = []
    flows_compared: int = 0
    flows: list[LostHead] = []
    archives: list[str] = []

    @property
    def is_lost(self) -> bool:
        states = {position.state for position in self.positions}
        gone = self.events or self.flows or self.archives
        return bool(gone or states - {PositionState.HOLDS})


async def find_lost(options: LostOptions) -> int:
    """Print what the files know and the log does not have; return FOUND if there is anything."""
    if options.position is options.events is options.anchors is None:
        raise InvalidArgument(
            "lost", "needs --position, --events or --anchors: what is compared with the log"
        )
    report = _Report()
    positions = [] if options.position is None else _read_positions(options.position)
    async with open_database(options.target) as provider:
        await _examine(provider, positions, report)
        if options.events is not None:
            seen = _counted_events(options.events, report)
            report.events = [lost async for lost in find_lost_events(provider, seen)]
        if options.anchors is not None:
            anchors = AnchorFile(options.anchors)
            known = _counted_anchors(anchors, report)
            report.flows = [lost async for lost in find_lost_heads(provider, known)]
            if anchors.register is not None:
                audit = await audit_archive(PgRegister(provider), register=anchors.register)
                report.archives = list(map(str, audit.findings))
    if options.as_json:
        print_json(report)
    else:
        _print(report, options)
    return ExitCode.FOUND if report.is_lost else ExitCode.WELL


def _read_positions(file: Path) -> list[FeedPosition]:
    """Read one position, over any number of lines, or one on each line.

    Raises:
        InvalidArgument: the file holds none, or something else.
    """
    content = file.read_bytes()
    lines = [(number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
    try:
        return [FeedPosition.from_json(content)]
    except InvalidArgument:
        if len(lines) <= 1:
            raise
    positions: list[FeedPosition] = []
    for number, line in lines:
        try:
            positions.append(FeedPosition.from_json(line))
        except InvalidArgument as error:
            raise InvalidArgument("--position", f"line {number} of {file}: {error}") from error
    return positions


def _counted_events(file: Path, report: _Report) -> Iterator[SeenEvent]:
    """Yield the events of a file, one a line, and count them.

    Raises:
        InvalidArgument: a line has no flow_id, version and event_id.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                event = msgspec.json.decode(line, type=SeenEvent)
            except (ValueError, RecursionError) as error:
                raise InvalidArgument("--events", f"line {number} of {file}: {error}") from error
            report.events_compared += 1
            yield event


def _counted_anchors(anchors: AnchorFile, report: _Report) -> Iterator[Anchor]:
    for anchor in anchors:
        report.flows_compared += 1
        yield anchor


async def _examine(
    provider: ConnectionProvider, positions: Sequence[FeedPosition], report: _Report
) -> None:
    source = PgFeedSource(provider)
    for position in sorted(positions, key=lambda position: position.seq, reverse=True):
        state = await source.state(position)
        report.positions.append(_ExaminedPosition(position.seq, position.flow_id, state))
        if state is PositionState.HOLDS and report.newest_that_holds is None:
            report.newest_that_holds = position.seq


def _print(report: _Report, options: LostOptions) -> None:
    for position in report.positions:
        print_line(shown(f"position {position.seq}, flow {position.flow_id}: {position.state}"))
    if len(report.positions) > 1:
        newest = report.newest_that_holds
        print_line(f"newest that holds: {'none' if newest is None else newest}")
    for event in report.events:
        became = "gone" if event.replaced_by is None else f"replaced by {event.replaced_by}"
        print_line(
            shown(
                f"flow {event.flow_id}, version {event.version}, event {event.event_id}: {became}"
            )
        )
    for flow in report.flows:
        other = ", and not the same ones" if flow.state is Loss.REPLACED else ""
        print_line(shown(f"flow {flow.flow_id}: had {flow.known} events, has {flow.found}{other}"))
    for finding in report.archives:
        print_line(shown(finding))
    if options.events is not None:
        lost = len(report.events)
        print_line(f"{counted(report.events_compared, 'event')} compared, {lost} lost")
    if options.anchors is not None:
        lost = len(report.flows)
        print_line(f"{counted(report.flows_compared, 'flow')} compared, {lost} lost events")
    if not report.is_lost:
        print_line("nothing is lost")

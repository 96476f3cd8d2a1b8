"""The command `show`."""

from pathlib import Path

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.flow_story import read_story, story_json
from chem_persistence.cli.lookup import find_flow, whole_flow_id
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.timeline import print_story
from chem_persistence.errors import FlowArchived

__all__ = ["show_flow"]


async def show_flow(target: Target, name: str, html: Path | None, *, as_json: bool) -> int:
    """Print a flow and write its page if `html` names one; return the exit code.

    Of an archived flow, which has no page, print where it is.
    """
    async with open_database(target) as provider:
        try:
            flow_id = whole_flow_id(name) or await find_flow(provider, name)
            story = await read_story(provider, flow_id, html=html)
        except FlowArchived as archived:
            if html is not None:
                raise
            # imported here, because most flows are in the log
            from chem_persistence.cli.commands.archive.archived import (  # noqa: PLC0415
                show_archived,
            )

            await show_archived(provider, archived, as_json=as_json)
            return ExitCode.WELL
    if as_json:
        print_json(story_json(story))
    else:
        print_story(story)
    if html is not None:
        print_line(f"page written to {html}", error=True)
    return ExitCode.WELL

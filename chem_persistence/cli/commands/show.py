"""The command `show`."""

from pathlib import Path
from typing import Annotated

import typer

from chem_persistence.cli.database import Place, open_database
from chem_persistence.cli.exit import ExitCode, run
from chem_persistence.cli.flow_story import read_story, story_json
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import AsJson, Data, DatabaseUrl, FlowName, Schema
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.timeline import print_story

__all__ = ["show"]


def show(
    flow: FlowName,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page to open in a browser, all in one file."),
    ] = None,
    database_url: DatabaseUrl = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Show what happened in a flow: a bar for every attempt at every step, the artifacts, the errors, the open question.

    A pause in which nothing ran is drawn shorter than it was. Of a step the last 100 attempts are shown. With --html the
    page has the same and more: every event with its payload, previews, molecules (with RDKit).
    """
    run(lambda: _show(Place(database_url, data, schema), flow, html, as_json=as_json))


async def _show(place: Place, name: str, html: Path | None, *, as_json: bool) -> int:
    async with open_database(place) as provider:
        flow_id = await find_flow(provider, name)
        story = await read_story(provider, flow_id, html=html)
    if as_json:
        print_json(story_json(story))
    else:
        print_story(story)
    if html is not None:
        print_line(f"page written to {html}", error=True)
    return ExitCode.WELL

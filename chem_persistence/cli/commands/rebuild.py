"""The command `rebuild`."""

from typing import Annotated

import typer

from chem_persistence.cli.database import Place, open_database
from chem_persistence.cli.exit import ExitCode, run
from chem_persistence.cli.options import AsJson, Data, DatabaseUrl, Schema
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.progress import Work
from chem_persistence.postgres.audit.verification import measure_log
from chem_persistence.postgres.read.rebuild import Projection, Rebuild
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import counted

__all__ = ["rebuild"]


def rebuild(
    projection: Annotated[
        Projection,
        typer.Argument(
            metavar="PROJECTION", help="The one that there is: workflow_step_executions."
        ),
    ] = Projection.STEP_EXECUTIONS,
    database_url: DatabaseUrl = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Compare the step rows of every flow with its events, and write anew those that differ, while appends go on.

    It may be stopped and begun again: each flow is a transaction of its own.
    """
    run(lambda: _rebuild(Place(database_url, data, schema), projection, as_json=as_json))


async def _rebuild(place: Place, projection: Projection, *, as_json: bool) -> int:
    async with open_database(place) as provider:
        extent = await measure_log(provider)
        with Work("looked at", "events", extent.events) as work:

            def show(progress: Rebuild) -> None:
                work.show(progress.events)

            done = await PgReadModels(provider).rebuild(projection, on_progress=show)
    if as_json:
        print_json(
            {
                "projection": projection,
                "flows": done.flows,
                "events": done.events,
                "rebuilt": done.rebuilt,
            }
        )
    else:
        print_line(
            f"{projection}: {counted(done.flows, 'flow')}, {counted(done.events, 'event')} looked at"
        )
        print_line(
            f"the rows of {counted(done.rebuilt, 'flow')} were rebuilt"
            if done.rebuilt
            else "nothing had to be rebuilt"
        )
    return ExitCode.WELL

"""The command `rebuild`."""

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.progress import Work
from chem_persistence.postgres.audit.verification import measure_log
from chem_persistence.postgres.read.rebuild import Projection, Rebuild
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import counted

__all__ = ["rebuild_projection"]


async def rebuild_projection(target: Target, name: str, *, as_json: bool) -> int:
    """Rebuild a projection and print how many flows differed; return the exit code."""
    projection = Projection(name)
    async with open_database(target) as provider:
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
            f"{projection}: {counted(done.flows, 'flow')}, "
            f"{counted(done.events, 'event')} looked at"
        )
        print_line(
            f"the rows of {counted(done.rebuilt, 'flow')} were rebuilt"
            if done.rebuilt
            else "nothing had to be rebuilt"
        )
    return ExitCode.WELL

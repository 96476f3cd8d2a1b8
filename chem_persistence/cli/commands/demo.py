"""The command `demo`."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from uuid_utils.compat import uuid7

from chem_persistence.cli.database import DEFAULT_DATA, Place, commands_about, server_url
from chem_persistence.cli.demo_flow import build_demo
from chem_persistence.cli.exit import ExitCode, run
from chem_persistence.cli.flow_story import read_story
from chem_persistence.cli.options import AsJson, Data, DatabaseUrl, Schema
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.timeline import print_story
from chem_persistence.errors import InvalidArgument, StepRaised
from chem_persistence.postgres.connection.pool import PoolProvider, build_pool
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.flow_repository import PgFlowRepository
from chem_persistence.store.attribution import event_metadata

__all__ = ["demo"]

PAGE = Path("chem-persistence-demo.html")


def demo(
    html: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.")] = PAGE,
    database_url: DatabaseUrl = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Run a small flow whose third step fails at first, show it, and leave a page to open in a browser.

    Nothing that it stores can be deleted, so it uses an embedded server of its own (--data) unless --database-url itself
    names another: DATABASE_URL and .env do not count.
    """
    place = Place(database_url, data or (None if database_url else DEFAULT_DATA), schema)
    run(lambda: _demo(place, html, as_json=as_json))


async def _demo(place: Place, html: Path, *, as_json: bool) -> int:
    if not html.absolute().parent.is_dir():  # now, and not after the flow, is when to hear it
        raise InvalidArgument("--html", f"there is no directory {html.parent}")
    if not as_json and place.data is not None:
        print_line(f"an embedded PostgreSQL keeps its data in {place.data}")
    async with (
        server_url(place, create=True) as url,
        await build_pool(url, schema=place.schema, max_size=4) as pool,
    ):
        provider = PoolProvider(pool)
        store = PgEventStore(provider)
        flow_id = await _run(store, PgFlowRepository(provider), is_silent=as_json)
        story = await read_story(provider, flow_id, html=html)
        await store.aclose()
    if as_json:
        print_json(
            {"flow_id": flow_id, "flow_fingerprint": story.flow_fingerprint, "page": str(html)}
        )
        return ExitCode.WELL
    print_line("")
    print_story(story)
    print_line("")
    print_line(f"open in a browser: {html.absolute()}")
    print_line("try next:")
    commands = commands_about(place)
    for command in (
        "flows",
        f"show {flow_id}",
        f"tail {flow_id}",
        f"replay {flow_id} --at 7",
        "verify",
        "doctor",
    ):
        print_line(f"  {commands.complete(command)}")
    return ExitCode.WELL


async def _run(store: PgEventStore, repository: PgFlowRepository, *, is_silent: bool) -> UUID:
    """Run the flow; the step that fails gets its second attempt."""
    engine = build_demo(store, repository)
    flow_id = uuid7()

    def say(text: str) -> None:
        if not is_silent:
            print_line(text)

    with event_metadata(actor="chem-persistence demo", reason="a demonstration"):
        say(f"flow {flow_id} runs ...")
        try:
            await engine.run_to_end(flow_id)
        except StepRaised as error:
            say(f"{error}; the log has it, and the flow stands still until a retry is scheduled")
            await engine.schedule_retry(flow_id, reason="the instrument is free again")
            await engine.run_to_end(flow_id)
    say("completed")
    return flow_id

"""The command `demo`."""

from pathlib import Path
from uuid import UUID

from uuid_utils.compat import uuid7

from chem_persistence.cli.database import commands_about, default_data, server_url
from chem_persistence.cli.demo_flow import build_demo
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.flow_story import read_story
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.timeline import print_story
from chem_persistence.errors import InvalidArgument, StepRaised
from chem_persistence.postgres.connection.pool import PoolProvider, build_pool
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.flow_repository import PgFlowRepository
from chem_persistence.store.attribution import event_metadata

__all__ = ["run_demo"]


async def run_demo(target: Target, html: Path, *, as_json: bool) -> int:
    """Run the flow of the demonstration, print what happened, and write its page.

    Raises:
        InvalidArgument: the directory of the page does not exist.
    """
    if target.database_url is None and target.data is None:
        target = target._replace(data=default_data())
    if not html.absolute().parent.is_dir():  # checked before the flow is stored
        raise InvalidArgument("--html", f"there is no directory {html.parent}")
    if not as_json and target.data is not None:
        print_line(f"an embedded PostgreSQL keeps its data in {target.data}")
    async with (
        server_url(target, create=True) as url,
        await build_pool(url, schema=target.schema, max_size=4) as pool,
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
    commands = commands_about(target)
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
    """Run the flow, and retry the step that fails."""
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

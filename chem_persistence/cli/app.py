"""The command line: the name, the arguments and the help of every command.

What a command does is in `commands/`, in the file of its name, which is imported when it is called:
`--version`, `--help` and completion need none of it.
"""

from pathlib import Path
from typing import Annotated

import typer

from chem_persistence.cli import options as option
from chem_persistence.cli.bundle_commands import archive, export, import_, seal
from chem_persistence.cli.commands.audit.declared import lost, verify
from chem_persistence.cli.commands.results.declared import get, lineage, list_, results
from chem_persistence.cli.commands.results.declared import show as show_artifact
from chem_persistence.cli.consumer_commands import consumers
from chem_persistence.cli.exit import run
from chem_persistence.cli.explorer_commands import EXPLORER_COMMANDS
from chem_persistence.cli.options import AsJson, Data, FlowName, RoleOptions, Schema, Target, Url
from chem_persistence.cli.root import Panel, app, artifact, command
from chem_persistence.cli.terminal.help import HelpfulCommand
from chem_persistence.cli.worker_commands import COMMANDS

__all__ = [
    "app",
    "demo",
    "diff",
    "distribute",
    "doctor",
    "flows",
    "get",
    "migrate",
    "rebuild",
    "refresh",
    "replay",
    "roles",
    "show",
    "stats",
    "status",
    "tail",
]

PAGE = Path("chem-persistence-demo.html")
Plan = Annotated[
    bool, typer.Option("--plan", help="Only print what it will lock, and for how long.")
]


@command(Panel.BEGIN)
def demo(
    html: option.HtmlPage = PAGE,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Run a small flow whose third step fails at first, show it, and write a page for a browser.

    Events cannot be deleted. So the flow is stored by an embedded server of its own (--data) unless
    --database-url names another database; DATABASE_URL and .env are not read.
    """
    from chem_persistence.cli.commands.demo import run_demo

    run(lambda: run_demo(Target(database_url, data, schema), html or PAGE, as_json=as_json))


@command(Panel.LOOK)
def flows(
    state: option.StateName = None,
    definition: option.Definition = None,
    label: option.FlowsLabel = None,
    step: option.AtStep = None,
    error: option.FailedWith = None,
    since: option.BegunSince = None,
    before: option.Before = None,
    limit: option.Limit = 20,
    roots: option.Roots = False,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """List flows, the newest first: their state, progress, beginning, and why they failed.

    Lines of 120 characters also have the number of events, duration and error, as `show FLOW` has.
    """
    from chem_persistence.cli.commands.flows import FlowFilters, list_flows

    target = Target(database_url, data, schema)
    filters = FlowFilters(state, definition, label, roots, step, error, since)
    run(lambda: list_flows(target, filters, before, limit, as_json=as_json))


@command(Panel.LOOK)
def show(
    flow: FlowName,
    html: option.HtmlPage = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Show a flow: a bar for every attempt at every step, artifacts, errors, the open question.

    A pause in which nothing ran is drawn shorter than it was. The last 100 attempts at each step
    are shown. The page of --html has more: every event with its payload, previews, molecules (with
    RDKit).
    """
    from chem_persistence.cli.commands.show import show_flow

    run(lambda: show_flow(Target(database_url, data, schema), flow, html, as_json=as_json))


command(Panel.LOOK)(results)


@command(Panel.LOOK)
def tail(
    flow: option.TailedFlow = None,
    lines: option.Lines = 20,
    follow: option.Follow = False,
    interval: option.Interval = 1.0,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Print the last events of the log or of a flow, and with --follow the new ones.

    An event is printed when its transaction has been committed. While the database is unavailable,
    --follow waits for it. With --json each event is an object on a line of its own.
    """
    from chem_persistence.cli.commands.tail import print_tail

    target, seconds = Target(database_url, data, schema), interval if follow else None
    run(lambda: print_tail(target, flow, lines, seconds, as_json=as_json))


@command(Panel.LOOK)
def replay(
    flow: FlowName,
    at: option.Version = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Replay the events of a flow, all or up to a version or time, and print the resulting state.

    The replay is that of the engine. The steps are those of the stored definition; of a flow that
    was begun without one, those that events name, and one that no event names is shown as ?. Only
    your program can compare its steps with those that the flow began with (DefinitionMismatch).
    Artifacts are not read.

    Exit code 1: the events contradict each other, or one cannot be read.
    """
    from chem_persistence.cli.commands.replay import replay_flow

    run(lambda: replay_flow(Target(database_url, data, schema), flow, at, as_json=as_json))


@command(Panel.LOOK)
def diff(
    left: FlowName,
    right: option.OtherFlow,
    rtol: option.RelativeTolerance = 0.0,
    atol: option.AbsoluteTolerance = 0.0,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Compare two flows: definition, input, steps, outputs, errors and fingerprints.

    The first step that differs is named, with what of its fingerprint does, and the outputs are
    compared value by value. Numbers are close within --atol plus --rtol times the left one; flows
    that differ by nothing else are the same. Times, the number of attempts and metadata are not
    compared: no fingerprint contains them.

    Exit code 1: they differ.
    """
    from chem_persistence.cli.commands.diff import compare_flows

    target, tolerance = Target(database_url, data, schema), (rtol, atol)
    run(lambda: compare_flows(target, left, right, tolerance, as_json=as_json))


@command(Panel.LOOK)
def stats(
    reuse: option.ReuseReport = False,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Print statistics of the whole log: durations and failures by step, errors, hours, artifacts.

    They are as of the last `chem-persistence refresh`; those of --reuse are of now.
    """
    from chem_persistence.cli.commands.stats import print_reuse, print_statistics

    printing = print_reuse if reuse else print_statistics
    run(lambda: printing(Target(database_url, data, schema), as_json=as_json))


artifact.command(cls=HelpfulCommand)(get)
artifact.command("show", cls=HelpfulCommand)(show_artifact)
artifact.command("list", cls=HelpfulCommand)(list_)
artifact.command(cls=HelpfulCommand)(lineage)
app.add_typer(artifact, name="artifact", rich_help_panel=Panel.LOOK.value)
app.add_typer(consumers, name="consumers", rich_help_panel=Panel.OPERATE.value)


@command(Panel.CHECK)
def doctor(
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    pool_size: option.PoolSize = 10,
    processes: option.Processes = 1,
    owner: option.Owner = None,
    application: option.Application = None,
    reader: option.Reader = None,
    archivist: option.Archivist = None,
    as_json: AsJson = False,
) -> None:
    """Check the server, the schema and the rights, and print remedies; change nothing.

    Exit code 1: there is an error or a warning.
    """
    from chem_persistence.cli.commands.operate.doctor import examine_database

    target, names = (
        Target(database_url, data, schema),
        RoleOptions(owner, application, reader, archivist),
    )
    run(
        lambda: examine_database(
            target, names, pool_size=pool_size, processes=processes, as_json=as_json
        )
    )


@command(Panel.CHECK)
def status(
    database_url: Url = None, data: Data = None, schema: Schema = "public", as_json: AsJson = False
) -> None:
    """Print what the database holds and the migration of its schema; change nothing.

    Exit code 1: the schema is missing, behind, ahead, damaged or not of this library.
    """
    from chem_persistence.cli.commands.status import print_status

    run(lambda: print_status(Target(database_url, data, schema), as_json=as_json))


command(Panel.CHECK)(verify)
command(Panel.CHECK)(lost)


@command(Panel.OPERATE)
def migrate(
    plan: Plan = False,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Apply the missing migrations to the schema, all in one transaction.

    Any number of processes may run it at once. A schema that is up to date is only read.
    """
    from chem_persistence.cli.commands.operate.migrate import migrate_schema, print_plan

    act = print_plan if plan else migrate_schema
    run(lambda: act(Target(database_url, data, schema), as_json=as_json))


@command(Panel.OPERATE)
def refresh(
    database_url: Url = None, data: Data = None, schema: Schema = "public", as_json: AsJson = False
) -> None:
    """Compute the statistics of `stats` anew, without blocking those who read them.

    The role must own the tables.
    """
    from chem_persistence.cli.commands.stats import refresh_statistics

    run(lambda: refresh_statistics(Target(database_url, data, schema), as_json=as_json))


@command(Panel.OPERATE)
def rebuild(
    projection: option.ProjectionName = "workflow_step_executions",
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Compare the step rows of every flow with its events, and rewrite those that differ.

    Appends go on meanwhile. It can be stopped and started again: each flow has its own transaction.
    """
    from chem_persistence.cli.commands.operate.rebuild import rebuild_projection

    run(lambda: rebuild_projection(Target(database_url, data, schema), projection, as_json=as_json))


@command(Panel.OPERATE)
def roles(
    owner: option.Owner = None,
    application: option.Application = None,
    reader: option.Reader = None,
    archivist: option.Archivist = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Migrate the schema and grant rights on it to four roles; the URL is a superuser's.

    Run it after each migration. Rights that are right already are not changed.
    """
    from chem_persistence.cli.commands.operate.roles import grant_rights

    names = RoleOptions(owner, application, reader, archivist)
    run(lambda: grant_rights(Target(database_url, data, schema), names, as_json=as_json))


@command(Panel.OPERATE)
def distribute(
    database_url: Url = None, data: Data = None, schema: Schema = "public", as_json: AsJson = False
) -> None:
    """Migrate the schema and distribute its tables over the workers of a Citus cluster, by flow.

    The URL is a superuser's, of the coordinator. Run it again after workers were added; what is
    distributed already is not changed.
    """
    from chem_persistence.cli.commands.operate.distribute import distribute_schema

    run(lambda: distribute_schema(Target(database_url, data, schema), as_json=as_json))


command(Panel.OPERATE)(export)
command(Panel.OPERATE)(seal)
command(Panel.OPERATE)(archive)
app.command("import", cls=HelpfulCommand, rich_help_panel=Panel.OPERATE.value)(import_)

for _reading in EXPLORER_COMMANDS:
    command(Panel.LOOK)(_reading)
for _command in COMMANDS:
    command(Panel.WORKERS)(_command)

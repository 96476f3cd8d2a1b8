"""The command `consumers` and the commands below it: their names, arguments and help.

What they do is in `commands/consumers.py`, which is imported when one is called.
"""

import typer

from chem_persistence.cli import options as option
from chem_persistence.cli.exit import run
from chem_persistence.cli.options import AsJson, Data, FlowName, Schema, Target, Url
from chem_persistence.cli.terminal.help import HelpfulCommand, HelpfulGroup

__all__ = ["consumers", "list_all", "release", "remove", "reset", "resize"]

consumers = typer.Typer(cls=HelpfulGroup, help="List durable consumers, and change them.")


@consumers.callback(invoke_without_command=True)
def _consumers(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_all()


@consumers.command("list", cls=HelpfulCommand)
def list_all(
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """List durable consumers: position and lag of each part, and the flows that are parked.

    The lag counts numbers of the feed, some of which may have no event. A part that nobody holds is
    idle, or waits for a process that runs the consumer.
    """
    from chem_persistence.cli.commands.consumers import list_the_consumers

    run(lambda: list_the_consumers(Target(database_url, data, schema), as_json=as_json))


@consumers.command(cls=HelpfulCommand)
def release(
    name: option.ConsumerName,
    flow: FlowName,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Have a parked flow consumed from the event on that failed, in order.

    If it fails again, it is parked again.
    """
    from chem_persistence.cli.commands.consumers import release_flow

    run(lambda: release_flow(Target(database_url, data, schema), name, flow, as_json=as_json))


@consumers.command(cls=HelpfulCommand)
def reset(
    name: option.ConsumerName,
    to: option.NewPosition,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Set all parts of a consumer to a position; what follows it is consumed again.

    Delete the effects of what is consumed again first. What a process has under way is not
    committed.
    """
    from chem_persistence.cli.commands.consumers import reset_consumer

    run(lambda: reset_consumer(Target(database_url, data, schema), name, to, as_json=as_json))


@consumers.command(cls=HelpfulCommand)
def resize(
    name: option.ConsumerName,
    parts: option.PartCount,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Change the number of parts of a consumer, once all have reached the foremost one.

    They stop there; the processes that run the consumer do the rest.
    """
    from chem_persistence.cli.commands.consumers import resize_consumer

    run(lambda: resize_consumer(Target(database_url, data, schema), name, parts, as_json=as_json))


@consumers.command(cls=HelpfulCommand)
def remove(
    name: option.ConsumerName,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Delete a consumer: its positions and parked flows. Stop the processes that run it first."""
    from chem_persistence.cli.commands.consumers import remove_consumer

    run(lambda: remove_consumer(Target(database_url, data, schema), name, as_json=as_json))

"""What `show` prints of a flow that was archived: where it is, and how to bring it back."""

import msgspec

from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown, shown_time
from chem_persistence.errors import FlowArchived
from chem_persistence.postgres.audit.archived import ArchivedDescription, describe_archived
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.views.wording import counted

__all__ = ["show_archived"]


async def show_archived(
    provider: ConnectionProvider, archived: FlowArchived, *, as_json: bool
) -> None:
    """Print what the register has of an archived flow, and the artifacts of it that stayed."""
    found = await describe_archived(provider, archived.flow_id)
    if as_json:
        rows = [*reversed(found.earlier), found.last]
        print_json(
            {
                "flow_id": archived.flow_id,
                "state": "archived",
                "archived": [
                    msgspec.structs.asdict(row) | {"link": row.link.hex()} for row in rows
                ],
                "artifacts": found.kept,
                "more": found.more,
            }
        )
    else:
        _print(found)


def _print(found: ArchivedDescription) -> None:
    last, bundle = found.last, f"{found.last.bundle_sha256}.zip"
    when = f", {shown_time(last.archived_at)} UTC" if last.archived_at else ""
    print_line(f"flow {last.flow_id} was archived: it is in a bundle, and no longer in the log")
    print_line("archived  ", shown(f"by {last.actor}, as the role {last.by_role}{when}"))
    for row in found.earlier:
        before = f", {shown_time(row.archived_at)} UTC" if row.archived_at else ""
        print_line("before    ", shown(f"by {row.actor}{before}, in {row.bundle_sha256}.zip"))
    print_line("events    ", f"{last.events}, of which the last is the seal")
    print_line("head      ", last.link.hex())
    print_line("bundle    ", bundle)
    if not found.kept:
        print_line("kept      ", "no artifact")
    else:
        more = "more than " if found.more else ""
        number = counted(len(found.kept), "artifact")
        listed = f"chem-persistence artifact list --flow {last.flow_id}"
        print_line("kept      ", f"{more}{number}: {listed}")
    print_line("back      ", f"chem-persistence import {bundle}")
    print_line("verify    ", f"chem-persistence verify {bundle}, or --bundles FOLDER for all")

"""What `show` prints of a flow that was archived: where it is, and how to bring it back."""

from collections.abc import Sequence

import msgspec

from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown, shown_time
from chem_persistence.errors import FlowArchived
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.read.search import ArtifactDescription, list_artifacts
from chem_persistence.store.transfer.register import ArchivedFlow
from chem_persistence.views.wording import counted

__all__ = ["show_archived"]

MOST_ARTIFACTS = 100


async def show_archived(
    provider: ConnectionProvider, archived: FlowArchived, *, as_json: bool
) -> None:
    """Print what the register has of an archived flow, and the artifacts of it that stayed."""
    rows = await PgEventStore(provider).find_archived([archived.flow_id])
    kept = await list_artifacts(provider, None, archived.flow_id, limit=MOST_ARTIFACTS + 1)
    if as_json:
        print_json(
            {
                "flow_id": archived.flow_id,
                "state": "archived",
                "archived": [
                    msgspec.structs.asdict(row) | {"link": row.link.hex()} for row in rows
                ],
                "artifacts": kept[:MOST_ARTIFACTS],
                "more": len(kept) > MOST_ARTIFACTS,
            }
        )
    else:
        _print(rows, kept)


def _print(rows: Sequence[ArchivedFlow], kept: Sequence[ArtifactDescription]) -> None:
    last, bundle = rows[-1], f"{rows[-1].bundle_sha256}.zip"
    when = f", {shown_time(last.archived_at)} UTC" if last.archived_at else ""
    print_line(f"flow {last.flow_id} was archived: it is in a bundle, and no longer in the log")
    print_line("archived  ", shown(f"by {last.actor}, as the role {last.by_role}{when}"))
    for row in rows[-2::-1]:
        before = f", {shown_time(row.archived_at)} UTC" if row.archived_at else ""
        print_line("before    ", shown(f"by {row.actor}{before}, in {row.bundle_sha256}.zip"))
    print_line("events    ", f"{last.events}, of which the last is the seal")
    print_line("head      ", last.link.hex())
    print_line("bundle    ", bundle)
    if not kept:
        print_line("kept      ", "no artifact")
    else:
        more = "more than " if len(kept) > MOST_ARTIFACTS else ""
        number = counted(min(len(kept), MOST_ARTIFACTS), "artifact")
        listed = f"chem-persistence artifact list --flow {last.flow_id}"
        print_line("kept      ", f"{more}{number}: {listed}")
    print_line("back      ", f"chem-persistence import {bundle}")
    print_line("verify    ", f"chem-persistence verify {bundle}, or --bundles FOLDER for all")

"""The commands `export` and `import`."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from chem_persistence.bundles.export import export_flows
from chem_persistence.bundles.import_ import import_bundle
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.store.transfer.register import ArchivedFlow
from chem_persistence.views.wording import counted

__all__ = ["ExportOptions", "export_to", "import_from"]


class ExportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `export`."""

    tree: bool
    anchors: Path | None
    as_json: bool


async def export_to(
    target: Target, names: Sequence[str], file: Path, options: ExportOptions
) -> int:
    """Write flows into a bundle, and print what it has; return the exit code."""
    async with open_database(target) as provider:
        flow_ids = [await find_flow(provider, name) for name in names]
        store, left_out = PgEventStore(provider), list[ArchivedFlow]()
        report = await export_flows(
            store,
            flow_ids,
            file,
            tree=options.tree,
            anchors=options.anchors,
            on_left_out=left_out.append,
        )
        await store.aclose()
    for row in left_out:
        said = f"flow {row.flow_id} is left out: it was archived, in bundle {row.bundle_sha256}"
        print_line(said, error=True)
    if options.as_json:
        named = [{"flow_id": row.flow_id, "bundle": row.bundle_sha256} for row in left_out]
        print_json({"file": str(file), **report._asdict(), "left_out": named})
        return ExitCode.WELL
    counts = (
        counted(report.flows, "flow"),
        counted(report.events, "event"),
        counted(report.artifacts, "artifact"),
    )
    print_line(shown(f"{', '.join(counts)} in {file}"))
    print_line(f"SHA-256 {report.sha256}")
    return ExitCode.WELL


async def import_from(target: Target, file: Path, *, as_json: bool) -> int:
    """Store the flows of a bundle, and print which are new; return the exit code."""
    async with open_database(target) as provider:
        store = PgEventStore(provider)
        imported = await import_bundle(store, file)
        await store.aclose()
    if as_json:
        print_json({"file": str(file), **msgspec.structs.asdict(imported)})
        return ExitCode.WELL
    for flow_id in imported.new_flows:
        print_line(f"flow {flow_id}")
    new = len(imported.new_flows)
    print_line(
        f"{counted(imported.new_events, 'new event')} and {counted(new, 'new flow')}, of "
        f"{counted(imported.flows, 'flow')} in the bundle"
    )
    return ExitCode.WELL

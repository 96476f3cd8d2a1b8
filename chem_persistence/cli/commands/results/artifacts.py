"""The commands `artifact show`, `artifact list` and `artifact lineage`."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_artifact, find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import Cell, column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import shown, shown_time
from chem_persistence.domain.answers import (
    ArtifactConsumer,
    ArtifactProducer,
    KeptArtifact,
    Lineage,
    RelatedArtifact,
)
from chem_persistence.errors import FlowArchived
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.artifacts import read_artifact_in_chunks
from chem_persistence.postgres.read.lineage import find_kept_artifacts
from chem_persistence.postgres.read.search import (
    ArtifactDescription,
    describe_artifact,
    list_all_artifacts,
    list_artifacts,
)
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import size_of

__all__ = ["list_the_artifacts", "print_lineage", "show_artifact"]

MOST_LINES = 30
"""The lines of an artifact's JSON that are shown."""

MOST_BYTES = 2**16
"""The bytes of JSON that are read to be shown."""


async def show_artifact(target: Target, name: str, limit: int, *, as_json: bool) -> int:
    """Print an artifact's description, JSON, producers and consumers; return the exit code."""
    async with open_database(target) as provider:
        described = await describe_artifact(provider, await find_artifact(provider, name))
        models = PgReadModels(provider)
        producers = await models.producers(described.hash, limit=limit + 1)
        consumers = await models.consumers(described.hash, limit=limit + 1)
        kept = None if described.version is not None else await _kept(provider, described.hash)
        text = "" if as_json else await _beginning(provider, described)
    if as_json:
        told = msgspec.to_builtins(described) | {"archived": kept and _archived(kept)}
        print_json(told | {"producers": producers[:limit], "consumers": consumers[:limit]})
        return ExitCode.WELL
    _print_description(described, kept)
    if text:
        print_line("")
        for line in text.splitlines():
            print_line(shown(line), cut=True)
    _print_uses("made by", producers, limit)
    _print_uses("used by", consumers, limit)
    return ExitCode.WELL


async def _kept(provider: ConnectionProvider, artifact_hash: str) -> KeptArtifact | None:
    """Return where the flow of an artifact is, if it was archived."""
    return next(iter(await find_kept_artifacts(Session(provider), [artifact_hash])), None)


def _archived(kept: KeptArtifact) -> dict[str, Any]:
    return {"bundle_sha256": kept.bundle_sha256, "archived_at": kept.archived_at}


async def _beginning(provider: ConnectionProvider, described: ArtifactDescription) -> str:
    """Return the first lines of an artifact's JSON, indented unless it is large."""
    if described.content_bytes is not None:
        return ""
    read = b""
    async for chunk in read_artifact_in_chunks(provider, described.hash):
        read += chunk
        if len(read) > MOST_BYTES:
            begun = read[:MOST_BYTES].decode(errors="ignore")
            return f"{begun[: 10 * MOST_LINES]}\n... `artifact get` has all of it"
    lines = msgspec.json.format(read, indent=2).decode().splitlines()
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"... and {len(lines) - MOST_LINES} lines more"]
    return "\n".join(lines)


def _print_description(described: ArtifactDescription, kept: KeptArtifact | None) -> None:
    print_line("hash     ", described.hash)
    print_line("kind     ", shown(described.kind))
    size = "" if described.content_bytes is None else f", {size_of(described.content_bytes)}"
    print_line("type     ", shown(described.media_type) + size)
    version = "an event" if described.version is None else f"event {described.version}"
    when = f", {shown_time(described.ts)} UTC" if described.ts else ""
    print_line("stored   ", f"with {version} of flow {described.flow_id}{when}")
    if kept is not None:
        archived = f", {shown_time(kept.archived_at)} UTC" if kept.archived_at else ""
        print_line("archived ", f"the flow is in the bundle {kept.bundle_sha256}{archived}")
    if described.metadata:
        print_line("metadata ", shown(msgspec.json.encode(described.metadata).decode()), cut=True)


def _print_uses(
    heading: str, uses: Sequence[ArtifactProducer] | Sequence[ArtifactConsumer], limit: int
) -> None:
    if not uses:
        return
    print_line("")
    rows: list[list[Cell]] = [
        [
            str(use.flow_id),
            str(use.version),
            shown("" if use.step_id is None else use.step_id),
            shown_time(use.produced_at if isinstance(use, ArtifactProducer) else use.consumed_at),
        ]
        for use in uses[:limit]
    ]
    columns = [column(f"{heading} flow", ids=True), column("event", right=True)]
    print_table([*columns, column("step", cut=True), column("at (UTC)")], rows)
    if len(uses) > limit:
        print_line(f"and more: --limit {10 * limit}")


async def list_the_artifacts(
    target: Target, kind: str | None, flow: str | None, limit: int, *, as_json: bool
) -> int:
    """Print the artifacts that were stored last; return the exit code."""
    flow_id: UUID | None = None
    bundle: str | None = None
    kept: Sequence[KeptArtifact] = ()
    async with open_database(target) as provider:
        if flow is None:
            found, kept = await list_all_artifacts(provider, kind, limit=limit + 1)
        else:
            try:
                flow_id = await find_flow(provider, flow, "--flow")
            except FlowArchived as archived:
                flow_id, bundle = archived.flow_id, archived.bundle_sha256
            found = await list_artifacts(provider, kind, flow_id, limit=limit + 1)
    listed, more = found[:limit], len(found) > limit
    keys = {(each.hash, each.flow_id) for each in listed}
    kept = [each for each in kept if (each.artifact_hash, each.flow_id) in keys]
    if as_json:
        print_json({"artifacts": listed, "more": more, "bundle_sha256": bundle, "kept": kept})
        return ExitCode.WELL
    if bundle is not None:
        print_line(f"flow {flow_id} was archived: all that it had is in the bundle {bundle}")
    if not listed:
        print_line("no artifacts" if bundle is None else "no artifact of it is kept")
        return ExitCode.WELL
    _print_listed(listed)
    _print_kept(kept)
    if more:
        print_line(f"there are more: --limit {10 * limit}")
    return ExitCode.WELL


def _print_listed(listed: Sequence[ArtifactDescription]) -> None:
    rows: list[list[Cell]] = [
        [
            each.hash,
            shown(each.kind),
            "" if each.content_bytes is None else size_of(each.content_bytes),
            str(each.flow_id),
            "" if each.version is None else str(each.version),
            shown_time(each.ts),
        ]
        for each in listed
    ]
    columns = [column("artifact", ids=True), column("kind", cut=True), column("size", right=True)]
    columns += [column("flow", ids=True), column("event", right=True), column("stored (UTC)")]
    print_table(columns, rows)


async def print_lineage(target: Target, name: str, depth: int, limit: int, *, as_json: bool) -> int:
    """Print what an artifact derives from, and what derives from it; return the exit code."""
    async with open_database(target) as provider:
        artifact_hash = await find_artifact(provider, name)
        models = PgReadModels(provider)
        ancestors = await models.ancestors(artifact_hash, depth=depth, limit=limit)
        descendants = await models.descendants(artifact_hash, depth=depth, limit=limit)
    found = {each.artifact_hash: each for each in (*ancestors.kept, *descendants.kept)}
    kept = [found[each] for each in sorted(found)]
    if as_json:
        print_json(
            {
                "artifact_hash": artifact_hash,
                "ancestors": ancestors.related,
                "ancestors_complete": ancestors.complete,
                "descendants": descendants.related,
                "descendants_complete": descendants.complete,
                "kept": kept,
            }
        )
        return ExitCode.WELL
    print_line(artifact_hash)
    _print_related("derives from", "no step in the log made it", ancestors)
    _print_related("leads to", "no step in the log took it as its input", descendants)
    _print_kept(kept)
    return ExitCode.WELL


def _print_kept(kept: Sequence[KeptArtifact]) -> None:
    if not kept:
        return
    print_line("")
    columns = [column("kept artifact", ids=True), column("of archived flow", ids=True)]
    columns += [column("in the bundle", ids=True), column("archived (UTC)")]
    print_table(columns, [_kept_row(each) for each in kept])


def _kept_row(kept: KeptArtifact) -> list[Cell]:
    archived = shown_time(kept.archived_at)
    return [kept.artifact_hash, str(kept.flow_id), kept.bundle_sha256, archived]


def _print_related(heading: str, nothing: str, found: Lineage) -> None:
    print_line("")
    if not found.related:
        print_line(f"{heading}: {nothing}")
        return
    columns = [column(heading, ids=True), column("kind", cut=True), column("steps", right=True)]
    columns += [column("by step", cut=True), column("of flow", ids=True)]
    print_table(columns, [_related(each) for each in found.related])
    if not found.complete:
        print_line("there may be more: raise --depth or --limit")


def _related(each: RelatedArtifact) -> list[Cell]:
    kind = "not stored" if each.kind is None else shown(each.kind)
    step, flow = shown(each.step_id), str(each.flow_id)
    return [each.artifact_hash, kind, str(each.distance), step, flow]

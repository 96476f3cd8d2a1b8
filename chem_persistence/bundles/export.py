"""The export of flows as a bundle."""

import hashlib
import json
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import msgspec

from chem_persistence.bundles.archive import ArchiveWriter
from chem_persistence.bundles.contents import (
    IDS_A_READ,
    BundledArtifact,
    BundledFlow,
    read_artifacts_of,
    read_flows,
)
from chem_persistence.bundles.ro_crate import crate_metadata
from chem_persistence.bundles.verify import CHUNK, FORMAT, BundleReport
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.definition import DEFINITION_KINDS
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.hash_chain import GENESIS
from chem_persistence.errors import InvalidArgument
from chem_persistence.pages.flow_page import flow_page
from chem_persistence.store.ports import EventStore
from chem_persistence.store.transfer.events import canonical_event, content_after
from chem_persistence.store.transfer.ports import RegisterReader, TransferStore
from chem_persistence.store.transfer.register import ArchivedFlow
from chem_persistence.views.flow_view import PageLimits

__all__ = ["export_flows"]

LIMITS = PageLimits(molecules=0)
"""Drawings depend on the version of RDKit, and the page is to be the same everywhere."""

_FLOW_ID = len(b'{"event_id":"","flow_id":"",') + 2 * 36
"""The end of the flow id in what the chain hashes of an event."""


async def export_flows(
    store: TransferStore,
    flow_ids: Iterable[UUID],
    path: Path | str,
    *,
    tree: bool = False,
    anchors: Path | str | None = None,
    on_left_out: Callable[[ArchivedFlow], None] | None = None,
) -> BundleReport:
    """Write flows with their artifacts into a file that can be verified and imported elsewhere.

    With `tree` their children and branches, and those of these, come along, except those that were
    archived: `on_left_out` is called with the last row of the register of each. `anchors` is a file
    of anchors, which is included and compared with the flows. A flow is exported as far as it has
    come when it is read. The same flows make the same bytes, in every store. A file that is there
    is replaced when the bundle is complete and on the disk.

    Raises:
        InvalidArgument: no flow is named, or a flow id cannot name one.
        FlowNotFound: a flow has no events.
        UnreadableEvent: an event does not decode, or was changed: its hash chain does not verify.
        ArtifactNotFound, ArtifactCorrupt: an artifact is missing, or was changed.
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
        OSError: the file cannot be written, or the anchors cannot be read.
    """
    flows = await read_flows(store, flow_ids, tree=tree)
    if not flows:
        raise InvalidArgument("flow_ids", "a bundle needs at least one flow")
    if tree and on_left_out is not None:
        for row in await _archived_relatives(store, flows):
            on_left_out(row)
    artifacts = await read_artifacts_of(store, flows)
    with ArchiveWriter(Path(path)) as archive:
        if anchors is not None:
            archive.add("anchors.jsonl", _pieces(Path(anchors)))
        archive.add("artifacts.jsonl", map(_description, artifacts))
        for artifact in sorted(artifacts, key=lambda artifact: artifact.file):
            await archive.stream(artifact.file, store.read_artifact(artifact.label.hash))
        definitions: dict[str, Artifact] = {}
        for flow in flows:
            await archive.stream(f"{flow.folder}/events.jsonl", _event_lines(store, flow))
            alone = _FlowAlone(store, flow, definitions)
            archive.add(f"{flow.folder}/page.html", await _page(alone, flow))
        crate = crate_metadata(flows, artifacts, archive.written)
        own = Path(__file__).with_name("verify.py").read_bytes()
        archive.add("manifest.json", _manifest(archive, flows, crate, own))
        archive.add("ro-crate-metadata.json", crate)
        archive.add("verify.py", own)
        return await to_thread(archive.publish)


async def _archived_relatives(
    store: TransferStore, flows: Sequence[BundledFlow]
) -> list[ArchivedFlow]:
    """Return the rows of children and branches that were archived, and are not in the bundle."""
    if not isinstance(store, RegisterReader):
        return []
    there = {flow.flow_id for flow in flows}
    relatives = (each for flow in flows for each in flow.relatives() if each not in there)
    found: dict[UUID, ArchivedFlow] = {}
    while some := list(islice(relatives, IDS_A_READ)):
        found.update({row.flow_id: row for row in await store.find_archived(some)})
    return [found[flow_id] for flow_id in sorted(found)]


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


def _description(artifact: BundledArtifact) -> bytes:
    label = artifact.label
    described: dict[str, Any] = {
        "file": artifact.file,
        "flow_id": str(artifact.flow_id),
        "hash": label.hash,
        "is_json": label.is_json,
        "kind": label.kind,
        "media_type": label.media_type,
        "metadata": msgspec.json.decode(label.metadata),
        "version": artifact.version,
    }
    if artifact.users:
        described["users"] = list(map(str, artifact.users))
    return canonical_json(described) + b"\n"


async def _event_lines(store: TransferStore, flow: BundledFlow) -> AsyncIterator[bytes]:
    """Yield the events of a flow as lines: what the chain hashes of each, with its link."""
    link = GENESIS
    async for stored in store.stored_events(flow.flow_id):
        if stored.version == flow.events:
            return
        content = content_after(link, canonical_event(stored))
        link = stored.link
        yield b'%b"link":"%b",%b\n' % (content[:_FLOW_ID], link.hex().encode(), content[_FLOW_ID:])


async def _page(alone: "_FlowAlone", flow: BundledFlow) -> bytes:
    store, clock = cast(EventStore, alone), _Standing(flow.last_at)
    return (await flow_page(store, flow.flow_id, limits=LIMITS, clock=clock)).encode()


class _Standing(msgspec.Struct, frozen=True):
    """A clock that stands at the last event of a flow."""

    at: datetime

    def now(self) -> datetime:
        return self.at


class _FlowAlone:
    """What a page may show of a store: a flow as far as it is exported, and artifacts.

    Another store has other flows, and gives other numbers. `definitions` keeps the artifacts that
    many flows have.
    """

    def __init__(
        self, store: EventStore, flow: BundledFlow, definitions: dict[str, Artifact]
    ) -> None:
        self._store, self._events, self._definitions = store, flow.events, definitions

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> Sequence[FlowEvent]:
        events = await self._store.list(flow_id, after_version=after_version, limit=limit)
        shown = (event for event in events if event.version < self._events)
        return [msgspec.structs.replace(event, seq=event.version) for event in shown]

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        if artifact_hash in self._definitions:
            return self._definitions[artifact_hash]
        artifact = await self._store.get_artifact(artifact_hash)
        if artifact.kind in DEFINITION_KINDS:
            self._definitions[artifact_hash] = artifact
        return artifact


def _manifest(
    archive: ArchiveWriter, flows: Sequence[BundledFlow], crate: bytes, own: bytes
) -> bytes:
    hashes = {name: written.sha256 for name, written in archive.written.items()}
    hashes |= {"ro-crate-metadata.json": _sha256(crate), "verify.py": _sha256(own)}
    ends = {str(flow.flow_id): {"events": flow.events, "link": flow.link.hex()} for flow in flows}
    manifest = {"files": hashes, "flows": ends, "format": FORMAT}
    return json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""The contents of a bundle that was verified, as events and artifacts to store."""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import msgspec

from chem_persistence.bundles.verify import Entry, Unsound, chunks_of, lines_of, read_entries
from chem_persistence.domain.artifacts import Artifact, read_payload
from chem_persistence.errors import InvalidBundle, UnreadableEvent
from chem_persistence.store.checks import LARGE_BYTES
from chem_persistence.store.codec import StoredEvent
from chem_persistence.store.transfer.events import content_after
from chem_persistence.store.transfer.ports import FlowEnd

__all__ = ["BundleReader", "DescribedArtifact"]


class DescribedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact of a bundle, with the event that it is stored with, and its other `users`."""

    file: str
    flow_id: UUID
    hash: str
    is_json: bool
    kind: str
    media_type: str
    metadata: dict[str, Any]
    users: tuple[UUID, ...] = ()
    version: int


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    event_id: UUID
    flow_id: UUID
    link: str
    metadata: msgspec.Raw
    payload: msgspec.Raw
    ts: str
    version: int


class _End(msgspec.Struct, frozen=True):
    events: int
    link: str


class _Manifest(msgspec.Struct, frozen=True):
    flows: dict[UUID, _End]


class _Tagged(msgspec.Struct, frozen=True):
    type: str


class BundleReader:
    """Reads the file of a bundle, which it opens in a `with` block.

    What cannot be read raises `InvalidBundle`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._file = self._path.open("rb")
        try:
            self._entries = {entry.name: entry for entry in read_entries(self._file)}
        except Unsound as error:
            self._file.close()
            raise InvalidBundle(self._path, *error.finding) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def flows(self) -> list[UUID]:
        """Return the ids of the flows, in order."""
        names = (name.split("/") for name in self._entries)
        return [UUID(parts[1]) for parts in names if parts[-1] == "events.jsonl"]

    def ends(self) -> dict[UUID, FlowEnd]:
        """Return the ends of the flows, by their ids, as the manifest has them."""
        file = "manifest.json"
        try:
            text = b"".join(chunks_of(self._file, self._entries[file]))
            flows = msgspec.json.decode(text, type=_Manifest).flows
            return {
                flow_id: FlowEnd(flow_id, end.events, bytes.fromhex(end.link))
                for flow_id, end in flows.items()
            }
        except (ValueError, KeyError, RecursionError) as error:
            raise self._invalid(file, "", str(error)) from error

    def anchors(self) -> Iterator[bytes]:
        """Yield the file of the anchors in pieces; nothing if the bundle has none."""
        entry = self._entries.get("anchors.jsonl")
        return iter(()) if entry is None else chunks_of(self._file, entry)

    def artifacts(self) -> Iterator[DescribedArtifact]:
        """Yield the descriptions of the artifacts, in the order of their hashes."""
        file = "artifacts.jsonl"
        for number, line in lines_of(self._file, self._entries[file]):
            try:
                found = msgspec.json.decode(line, type=DescribedArtifact)
            except (ValueError, RecursionError) as error:
                raise self._invalid(file, f"line {number}", str(error)) from error
            if found.file not in self._entries:
                raise self._invalid(found.file, "", "is not there")
            yield found

    def events(self, flow_id: UUID, link: bytes) -> Iterator[StoredEvent]:
        """Yield the events of a flow; `link` is the one that stands before the first."""
        file, seen = f"flows/{flow_id}/events.jsonl", set[UUID]()
        for number, line in lines_of(self._file, self._entries[file]):
            try:
                event = _event(line)
                content_after(link, event)
            except (ValueError, OverflowError, RecursionError, UnreadableEvent) as error:
                raise self._invalid(file, f"line {number}", str(error)) from error
            if event.flow_id != flow_id or event.version != number - 1:
                raise self._invalid(file, f"line {number}", "is not the next event of the flow")
            if event.event_id in seen:
                raise self._invalid(file, f"line {number}", "has the id of an event before it")
            seen.add(event.event_id)
            link = event.link
            yield event

    def size(self, artifact: DescribedArtifact) -> int:
        """Return the bytes of an artifact."""
        return self._entries[artifact.file].size

    def is_streamed(self, artifact: DescribedArtifact) -> bool:
        """Return whether an artifact is stored piece by piece: content of more than 1 MiB."""
        return not artifact.is_json and self.size(artifact) > LARGE_BYTES

    async def pieces(self, artifact: DescribedArtifact) -> AsyncIterator[bytes]:
        """Yield the content of an artifact in pieces."""
        entry = self._entries[artifact.file]
        for chunk in chunks_of(self._file, Entry(*entry)):
            yield chunk

    def whole(self, artifact: DescribedArtifact) -> Artifact:
        """Return an artifact whose content has the hash that names it."""
        content = b"".join(chunks_of(self._file, self._entries[artifact.file]))
        if sha256(content).hexdigest() != artifact.hash:
            raise self._invalid(artifact.file, "", "does not have the hash that names it")
        try:
            payload = read_payload(content) if artifact.is_json else None
        except (ValueError, OverflowError, RecursionError) as error:
            raise self._invalid(artifact.file, "", f"is not JSON: {error}") from error
        return Artifact(
            hash=artifact.hash,
            kind=artifact.kind,
            payload=payload,
            content=None if artifact.is_json else content,
            media_type=artifact.media_type,
            metadata=artifact.metadata,
        )

    def _invalid(self, file: str, place: str, reason: str) -> InvalidBundle:
        return InvalidBundle(self._path, file, place, reason)


def _event(line: bytes) -> StoredEvent:
    found = msgspec.json.decode(line, type=_Line)
    return StoredEvent(
        seq=0,
        flow_id=found.flow_id,
        version=found.version,
        event_id=found.event_id,
        ts=datetime.fromisoformat(found.ts),
        event_type=msgspec.json.decode(found.payload, type=_Tagged).type,
        payload=bytes(found.payload),
        metadata=bytes(found.metadata),
        link=bytes.fromhex(found.link),
    )

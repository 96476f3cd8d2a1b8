"""Appends and streamed contents that an in-memory store adds together, or not at all."""

import builtins
from collections.abc import AsyncIterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.streams import Chunking, StreamedArtifact, described_stream
from chem_persistence.errors import FlowDiffers, InvalidArgument
from chem_persistence.memory.log import MemoryLog
from chem_persistence.store.append_request import AppendCall, AppendRequest, encode_append
from chem_persistence.store.checks import check_flow_id, check_not_negative
from chem_persistence.store.codec import StoredArtifact, decode_event, encode_description
from chem_persistence.store.leasing.submission import TransactionAppender
from chem_persistence.store.ports import Clock

__all__ = ["InMemoryTransaction"]


class _Upload(msgspec.Struct):
    """The chunks of an upload; `is_settled` is true once an append has it, or if it was there."""

    chunks: list[bytes]
    is_settled: bool


class InMemoryTransaction(TransactionAppender):
    """Writes into a log above the store's log, until `finish` adds it to that."""

    def __init__(
        self,
        below: MemoryLog,
        clock: Clock,
        max_artifact_bytes: int,
        seen_definitions: AbstractSet[str] = frozenset(),
    ) -> None:
        super().__init__(clock, max_artifact_bytes, seen_definitions)
        self._log = MemoryLog(below, runs=below.runs)
        self._uploads: dict[str, _Upload] = {}
        self._uploading = False

    async def _append(self, call: AppendCall) -> builtins.list[FlowEvent]:
        request = await encode_append(
            call, ts=self._clock.now(), max_artifact_bytes=self._max_artifact_bytes
        )
        return self._store(request)

    def _store(self, request: AppendRequest) -> builtins.list[FlowEvent]:
        self._refuse_during_upload()
        for _, artifact in request.streamed:
            if artifact.hash not in self._uploads:
                raise InvalidArgument(
                    "artifacts", f"{artifact.hash} was not uploaded in this transaction"
                )
        events = self._log.append(request)
        for place, artifact in request.streamed:
            upload = self._uploads[artifact.hash]
            producer = (request.flow_id, events[place].version)
            self._log.keep(_stored(artifact), producer, upload.chunks)
            upload.is_settled = True
        return events

    async def append_stored(self, requests: Sequence[AppendRequest]) -> None:
        """Append events of another store to flows; see `ImportTransaction.append_stored`."""
        self._log.imports = True
        for request in requests:
            self._store(request)

    async def set_aside(self, flow_ids: Sequence[UUID]) -> None:
        """Leave imported flows to no worker; see `ImportTransaction.set_aside`."""
        for flow_id in flow_ids:
            last = self._log.stream(flow_id)[-1]
            archived = {(row.events, row.link) for row in self._log.register.of_flow(flow_id)}
            if archived and (last.version + 1, last.link) not in archived:
                raise FlowDiffers(flow_id, last.version)
            self._log.aside.append(flow_id)

    async def put_stream(
        self,
        *,
        kind: str,
        chunks: AsyncIterable[bytes],
        media_type: str,
        metadata: Mapping[str, Any] | None = None,
        max_stream_bytes: int | None = None,
    ) -> StreamedArtifact:
        """Store a content that fits into the memory; see `EventTransaction.put_stream`."""
        described = described_stream(kind, media_type, metadata)
        encode_description(described.metadata)
        self._refuse_during_upload()
        self._uploading = True
        try:
            chunking, taken = Chunking(max_stream_bytes), builtins.list[bytes]()
            async for data in chunks:
                taken.extend(chunking.feed(data))
        finally:
            self._uploading = False
        if rest := chunking.rest():
            taken.append(rest)
        artifact = chunking.described(described)
        is_there = self._log.artifact(artifact.hash) is not None
        self._uploads.setdefault(artifact.hash, _Upload(taken, is_settled=is_there))
        return artifact

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> builtins.list[FlowEvent]:
        """Return a flow's events, with those of this transaction; see `EventTransaction.list`."""
        check_flow_id(flow_id)
        check_not_negative(limit=limit)
        self._refuse_during_upload()
        start = max(after_version + 1, 0)
        stop = None if limit is None else start + limit
        return [decode_event(event) for event in self._log.history(flow_id)[start:stop]]

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Return an artifact; see `EventTransaction.get_artifact`."""
        self._refuse_during_upload()
        return await self._log.whole_artifact(artifact_hash, self._max_artifact_bytes)

    def finish(self) -> None:
        """Add everything to the store.

        Raises:
            InvalidArgument: an upload was part of no append.
            ConcurrencyConflict: another writer appended to one of the flows meanwhile.
        """
        for artifact_hash, upload in self._uploads.items():
            if not upload.is_settled:
                raise InvalidArgument(
                    "artifacts", f"no append of the transaction names the upload {artifact_hash}"
                )
        self._log.commit()

    def end(self) -> None:
        """End the transaction, whether or not it was added to the store."""
        self._log.end()

    def _refuse_during_upload(self) -> None:
        if self._uploading:
            raise InvalidArgument("transaction", "another upload or append is under way in it")


def _stored(artifact: StreamedArtifact) -> StoredArtifact:
    return StoredArtifact(
        hash=artifact.hash,
        kind=artifact.kind,
        payload=None,
        content=None,
        media_type=artifact.media_type,
        metadata=encode_description(artifact.metadata),
        upload_id=uuid7(),
        content_size=artifact.size,
    )

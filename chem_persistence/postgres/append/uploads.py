"""Contents streamed into a transaction, until an append makes them artifacts."""

from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.streams import Chunking, StreamedArtifact
from chem_persistence.errors import InvalidArgument, StoreError, StoreUnavailable
from chem_persistence.postgres.connection.failures import library_errors
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.transaction import own_transaction
from chem_persistence.postgres.read.rows import Row
from chem_persistence.postgres.schema.distribution import is_distributed
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import encode_description

__all__ = ["Uploads"]

FIND_MISSING_ARTIFACTS = statement("verification/find_missing_artifacts")
INSERT_ARTIFACT_OF_FLOW = statement("uploads/insert_artifact_of_flow")
INSERT_CHUNK = statement("uploads/insert_chunk")
INSERT_UPLOADED_ARTIFACT = statement("uploads/insert_uploaded_artifact")
LOCK_ARTIFACT = statement("uploads/lock_artifact")
READ_UPLOAD = statement("uploads/read_upload")
USE_ARTIFACTS = statement("artifacts/use_artifacts")

_GONE = "23503"  # foreign_key_violation (PostgreSQL manual, appendix A)


class _Upload(msgspec.Struct):
    """Chunks written by this transaction, keyed by `id`; `appended` once an artifact owns them."""

    id: UUID
    size: int
    chunks: int
    appended: bool = False


class _StoredAlready(Exception):
    """Raised to roll the savepoint back; never leaves this module."""


class Uploads:
    """The contents that the transaction of `connection` streams; equal contents are stored once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._uploads: dict[str, _Upload | None] = {}
        self._busy = False

    async def put(
        self, described: StreamedArtifact, chunks: AsyncIterable[bytes], limit: int | None
    ) -> StreamedArtifact:
        """Write a content in chunks; see `EventTransaction.put_stream`.

        Its hash is known at its end. If the store has that content already, the savepoint is rolled
        back: nothing else removes chunks, since the log is append-only.
        """
        with self.alone():
            upload, chunking = _Upload(uuid7(), 0, 0), Chunking(limit)
            try:
                async with own_transaction(self._connection):
                    async for data in chunks:
                        for chunk in chunking.feed(data):
                            await self._write(upload, chunk)
                    if rest := chunking.rest():
                        await self._write(upload, rest)
                    artifact = chunking.described(described)
                    if artifact.hash in self._uploads or await self._is_stored(artifact.hash):
                        raise _StoredAlready  # noqa: TRY301  # it has to leave the savepoint
                self._uploads[artifact.hash] = upload
            except _StoredAlready:
                artifact = chunking.described(described)
                self._uploads.setdefault(artifact.hash, None)
        return artifact

    def check(self, artifacts: Sequence[tuple[int, StreamedArtifact]]) -> None:
        """Check that this transaction has uploaded the artifacts.

        Raises:
            InvalidArgument: if it has not uploaded one of them.
        """
        for _, artifact in artifacts:
            if artifact.hash not in self._uploads:
                raise InvalidArgument(
                    "artifacts", f"{artifact.hash} was not uploaded in this transaction"
                )

    async def store(
        self, artifacts: Sequence[tuple[int, StreamedArtifact]], events: Sequence[FlowEvent]
    ) -> None:
        """Store the rows that make uploads the artifacts of events.

        Raises:
            StoreUnavailable: if another writer stored an artifact of the same hash meanwhile, or
                one that was stored before was archived.
            StoreError: if a trigger or a rule keeps the artifact from being stored.
        """
        for place, artifact in artifacts:
            upload, event = self._uploads[artifact.hash], events[place]
            columns = (
                artifact.hash,
                artifact.kind,
                artifact.media_type,
                encode_description(artifact.metadata).decode(),
                event.flow_id,
                event.seq,
            )
            if upload is None or upload.appended:
                await self._use(event.flow_id, artifact.hash, columns)
                continue
            rows = await self._fetch(INSERT_UPLOADED_ARTIFACT, *columns, upload.id, upload.size)
            if not rows:
                if await self._fetch(FIND_MISSING_ARTIFACTS, [artifact.hash]):
                    raise StoreError(
                        "the database does not store the artifact of an upload; "
                        "`chem-persistence doctor` names triggers and rules that keep it out"
                    )
                raise StoreUnavailable(
                    f"artifact {artifact.hash} was stored by another writer meanwhile"
                )
            upload.appended = True

    async def finish(self) -> None:
        """Check that every upload is whole and belongs to an artifact.

        Raises:
            InvalidArgument: if chunks would be left without an artifact, or the other way round.
        """
        for artifact_hash, upload in self._uploads.items():
            if upload is None:
                continue
            (row,) = await self._fetch(READ_UPLOAD, upload.id, artifact_hash)
            chunks, artifacts = row["chunks"], row["artifacts"]
            if artifacts and chunks != upload.chunks:
                raise InvalidArgument("artifacts", f"the upload of {artifact_hash} was rolled back")
            if not artifacts and (chunks or not (upload.chunks or upload.appended)):
                raise InvalidArgument(
                    "artifacts", f"no append of the transaction names the upload {artifact_hash}"
                )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Check that the savepoint of an upload contains nothing else.

        Raises:
            InvalidArgument: if an upload or an append of this transaction is under way.
        """
        if self._busy:
            raise InvalidArgument("transaction", "another upload or append is under way in it")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    async def _use(self, flow_id: UUID, artifact_hash: str, columns: tuple[object, ...]) -> None:
        """Record that a flow uses an artifact that was stored before.

        On Citus it has a row of its own, with these columns.
        """
        gone = f"artifact {artifact_hash} was archived meanwhile: stream it again"
        try:
            if await self._is_distributed():
                await self._fetch(INSERT_ARTIFACT_OF_FLOW, *columns)
            else:
                await self._fetch(USE_ARTIFACTS, [flow_id], [artifact_hash])
        except StoreError as error:
            if error.sqlstate != _GONE:
                raise
            raise StoreUnavailable(gone) from error
        if await self._fetch(FIND_MISSING_ARTIFACTS, [artifact_hash]):
            raise StoreUnavailable(gone)

    async def _write(self, upload: _Upload, chunk: bytes) -> None:
        await self._fetch(INSERT_CHUNK, upload.id, upload.chunks, chunk)
        upload.size += len(chunk)
        upload.chunks += 1

    async def _is_stored(self, artifact_hash: str) -> bool:
        await self._fetch(LOCK_ARTIFACT, artifact_hash)
        return not await self._fetch(FIND_MISSING_ARTIFACTS, [artifact_hash])

    async def _is_distributed(self) -> bool:
        with library_errors(self._connection):
            return await is_distributed(self._connection)

    async def _fetch(self, statement: str, *arguments: object) -> list[Row]:
        with library_errors(self._connection):
            return await self._connection.fetch(statement, *arguments)

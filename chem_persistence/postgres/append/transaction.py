"""Appends, streamed contents and the caller's own rows in one transaction."""

import asyncio
import builtins
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import groupby
from typing import Any
from uuid import UUID

import asyncpg

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.streams import StreamedArtifact, described_stream
from chem_persistence.errors import ConcurrencyConflict, FlowDiffers, StoreError
from chem_persistence.postgres.append.place_events import Append, FlowHeads, append_batch
from chem_persistence.postgres.append.settle import Outcome, Refused, Stored, TryAgain
from chem_persistence.postgres.append.uploads import Uploads
from chem_persistence.postgres.connection.failures import library_errors
from chem_persistence.postgres.connection.liveness import last_word_on
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.transaction import own_transaction
from chem_persistence.postgres.hints import send_hints
from chem_persistence.postgres.read.artifacts import read_whole_artifact
from chem_persistence.postgres.read.flows import list_events
from chem_persistence.postgres.schema.distribution import is_distributed
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.append_request import AppendCall, AppendRequest, encode_append
from chem_persistence.store.checks import check_flow_id, check_not_negative
from chem_persistence.store.codec import encode_description
from chem_persistence.store.leasing.hints import hinted_definitions
from chem_persistence.store.leasing.submission import TransactionAppender
from chem_persistence.store.ports import Clock

__all__ = ["PgTransaction", "pg_transaction"]

READ_CLOCK = statement("work/read_clock")
READ_NAMED_ARTIFACTS = statement("artifacts/read_named_artifacts")
REMEMBER_IMPORTS = statement("work/remember_imports")
BEGIN_IMPORT = statement("archive/begin_import")
FIND_DIFFERING = statement("archive/find_differing")
SET_ASIDE = statement("work/set_aside")
USE_ARTIFACTS = statement("artifacts/use_artifacts")


class PgTransaction(TransactionAppender):
    """An open transaction: appends as the store has them, `put_stream`, and its `connection`.

    Appends run one after another, each in a savepoint, so that a `ConcurrencyConflict` leaves the
    transaction usable. An append whose event ids are stored already returns the original events;
    the caller's rows of that first transaction are stored then, too. So key such rows by event id,
    and insert them with ON CONFLICT DO NOTHING.
    """

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        max_artifact_bytes: int,
        heads: FlowHeads,
        seen_definitions: AbstractSet[str] = frozenset(),
    ) -> None:
        super().__init__(clock, max_artifact_bytes, seen_definitions)
        self.connection = connection
        self._heads = FlowHeads(below=heads)
        self._uploads = Uploads(connection)
        self._turn = asyncio.Lock()
        self._imports = False
        self._one_flow_each = False
        self.due: set[str] = set()
        """The definitions of the flows that are due once the transaction has committed."""

    async def _append(self, call: AppendCall) -> builtins.list[FlowEvent]:
        request = await encode_append(
            call, ts=self._clock.now(), max_artifact_bytes=self._max_artifact_bytes
        )
        self._uploads.check(request.streamed)
        async with self._turn:
            with self._uploads.alone():
                events = await self._store(Append(request))
                await self._uploads.store(request.streamed, events)
        self.due |= hinted_definitions([request])
        return events

    async def _store(self, append: Append) -> builtins.list[FlowEvent]:
        with library_errors(self.connection):
            while True:
                outcomes = await append_batch(self.connection, [append], self._heads)
                match outcomes[append]:
                    case Stored(events):
                        return events
                    case Refused(error):
                        raise error
                    case TryAgain():
                        pass

    async def append_stored(self, requests: Sequence[AppendRequest]) -> None:
        """Append events of another store to flows; see `ImportTransaction.append_stored`."""
        for request in requests:
            self._uploads.check(request.streamed)
        appends = [Append(request) for request in requests]
        async with self._turn:
            with self._uploads.alone(), library_errors(self.connection):
                if not self._imports:  # none is archived meanwhile, and archived ids may come back
                    await self.connection.fetch(BEGIN_IMPORT)
                    self._imports = True
                    self._one_flow_each = await is_distributed(self.connection)
                outcomes = await self._append_batch(appends)
                for append in appends:
                    request = append.request
                    match outcomes[append]:
                        case Stored(events):
                            await self._uploads.store(request.streamed, events)
                        case Refused(error):
                            raise error
                        case TryAgain():
                            expected = request.expected_version or 0
                            raise ConcurrencyConflict(request.flow_id, expected, expected + 1)

    async def _append_batch(self, appends: Sequence[Append]) -> dict[Append, Outcome]:
        """Store events by one statement; on Citus, or if a flow fails, by one of each flow."""
        if not self._one_flow_each:
            with suppress(asyncpg.UniqueViolationError):  # another writer appended to a flow
                return await append_batch(self.connection, appends, self._heads)
        outcomes: dict[Append, Outcome] = {}
        for _, group in groupby(appends, key=lambda append: append.request.flow_id):
            outcomes |= await append_batch(self.connection, list(group), self._heads)
        return outcomes

    async def set_aside(self, flow_ids: Sequence[UUID]) -> None:
        """Leave imported flows to no worker; see `ImportTransaction.set_aside`."""
        async with self._turn:
            with self._uploads.alone(), library_errors(self.connection):
                if not self._one_flow_each:
                    await self._set_aside(flow_ids)
                    return
                for flow_id in flow_ids:
                    await self._set_aside([flow_id])

    async def _set_aside(self, flow_ids: Sequence[UUID]) -> None:
        for end in await self.connection.fetch(FIND_DIFFERING, flow_ids):
            raise FlowDiffers(end["flow_id"], end["version"])
        await self.connection.fetch(REMEMBER_IMPORTS, flow_ids)
        named = await self.connection.fetch(READ_NAMED_ARTIFACTS, flow_ids)
        flows, hashes = [row["flow_id"] for row in named], [row["hash"] for row in named]
        await self.connection.fetch(USE_ARTIFACTS, flows, hashes)
        await self.connection.fetch(SET_ASIDE, flow_ids)

    async def put_stream(
        self,
        *,
        kind: str,
        chunks: AsyncIterable[bytes],
        media_type: str,
        metadata: Mapping[str, Any] | None = None,
        max_stream_bytes: int | None = None,
    ) -> StreamedArtifact:
        """Write a content of any length; see `EventTransaction.put_stream`.

        What `chunks` itself does on `connection` is rolled back if the content is stored already.
        """
        described = described_stream(kind, media_type, metadata)
        encode_description(described.metadata)
        return await self._uploads.put(described, chunks, max_stream_bytes)

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> builtins.list[FlowEvent]:
        """Read a flow's events, with those of this transaction; see `EventTransaction.list`."""
        check_flow_id(flow_id)
        check_not_negative(limit=limit)
        async with self._turn:
            with self._uploads.alone():
                return await list_events(_Lender(self.connection), flow_id, after_version, limit)

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Read an artifact, also one of this transaction; see `EventTransaction.get_artifact`."""
        async with self._turn:
            with self._uploads.alone():
                return await read_whole_artifact(
                    _Lender(self.connection), artifact_hash, self._max_artifact_bytes
                )

    async def finish(self) -> None:
        """Check before the commit that it will be one, and that every upload has an artifact.

        The server answers the COMMIT of a failed transaction with a ROLLBACK, which is no error
        (PostgreSQL manual, COMMIT), and any COMMIT after the end of a transaction with a warning.

        Raises:
            StoreError: if a statement of the block has failed, or has ended the transaction.
            InvalidArgument: if an upload has no artifact.
        """
        with library_errors(self.connection):
            if not self.connection.is_in_transaction():
                raise StoreError(
                    "a statement of the block has ended the transaction; what was appended before "
                    "that is stored if it was a COMMIT: leave the end to the block"
                )
            try:
                await self.connection.fetch(READ_CLOCK)
            except asyncpg.InFailedSQLTransactionError as error:
                raise StoreError(
                    "a statement of the block has failed, so nothing is stored; run one that may "
                    "fail in a savepoint: `async with transaction.connection.transaction()`",
                    error.sqlstate,
                ) from error
        await self._uploads.finish()


class _Lender:
    """A provider that lends the connection of a transaction to its own reads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend the connection for the length of a block."""
        yield self._connection


@asynccontextmanager
async def pg_transaction(
    provider: ConnectionProvider,
    clock: Clock,
    max_artifact_bytes: int,
    heads: FlowHeads,
    seen_definitions: AbstractSet[str] = frozenset(),
) -> AsyncIterator[PgTransaction]:
    """Open a transaction on a connection of its own; see `PgEventStore.transaction`.

    Errors of the caller's own statements in the block stay the driver's; others are the library's.
    """
    async with AsyncExitStack() as lent:
        with library_errors():
            connection = await lent.enter_async_context(provider.acquire())
        lent.enter_context(last_word_on(connection))
        if hold := getattr(provider, "hold", None):
            lent.enter_context(hold())
        # under READ COMMITTED an append sees the writer that it lost the version to
        async with own_transaction(connection, isolation="read_committed"):
            opened = PgTransaction(connection, clock, max_artifact_bytes, heads, seen_definitions)
            yield opened
            await opened.finish()
        if opened.due:
            await send_hints(connection, opened.due)

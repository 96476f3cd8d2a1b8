"""Appends and the caller's own rows in one transaction."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from chem_persistence.append_request import AppendRequest
from chem_persistence.domain.events import FlowEvent
from chem_persistence.ports import Clock, Connection, ConnectionProvider
from chem_persistence.postgres.append import Append, append_batch
from chem_persistence.postgres.appender import PgAppender
from chem_persistence.postgres.failures import library_errors
from chem_persistence.postgres.session import noticing_loss
from chem_persistence.postgres.transaction import transaction

__all__ = ["PgTransaction", "pg_transaction"]


class PgTransaction(PgAppender):
    """An open transaction: `append_kind` and `append_kinds` as the store has them, and its `connection`.

    Each append stands in a savepoint, so that a `ConcurrencyConflict` leaves the transaction usable. An append with
    event ids that are stored already returns the original events: then what the caller wrote beside them is
    stored too, since it was the same transaction; key such rows by event id and insert them ON CONFLICT DO NOTHING.
    """

    def __init__(self, connection: Connection, clock: Clock, max_artifact_bytes: int) -> None:
        super().__init__(clock, max_artifact_bytes)
        self.connection = connection

    async def _append(self, request: AppendRequest, expected_version: int | None) -> list[FlowEvent]:
        append = Append(request, expected_version)
        with library_errors(), noticing_loss(self.connection):
            while append.answer is None:
                await append_batch(self.connection, [append], self._heads)
        if isinstance(append.answer, Exception):
            raise append.answer
        return append.answer


@asynccontextmanager
async def pg_transaction(
    provider: ConnectionProvider, clock: Clock, max_artifact_bytes: int
) -> AsyncIterator[PgTransaction]:
    """Open a transaction on a connection of its own; see `PgEventStore.transaction`.

    What the caller's own statements raise in the block stays the driver's; the rest is named by the library.
    """
    async with AsyncExitStack() as lent:
        with library_errors():
            connection = await lent.enter_async_context(provider.acquire())
            # under READ COMMITTED an append sees the writer that it lost the version to
            opened = transaction(connection, isolation="read_committed")
            await opened.__aenter__()
        try:
            yield PgTransaction(connection, clock, max_artifact_bytes)
        except BaseException as error:
            await opened.__aexit__(type(error), error, error.__traceback__)
            raise
        with library_errors(), noticing_loss(connection):
            await opened.__aexit__(None, None, None)

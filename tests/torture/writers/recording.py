"""A store that records every append before it is sent and every answer before it is used."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ConcurrencyConflict,
    EventStore,
    FlowAnswer,
    FlowAppend,
    FlowEvent,
    FlowEventKind,
    PgEventStore,
    PgTransaction,
    StoreError,
    StoreUnavailable,
)
from chem_persistence.store.batches.appender import append_each
from tests.torture.writers.records import (
    Acknowledged,
    Conflict,
    RecordFile,
    Refused,
    Sent,
    Unexpected,
    Unknown,
    now,
    told,
)

__all__ = ["TOKEN", "RecordingStore"]

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""What the caller's own statements raise when their session is cut off."""

TOKEN = "append"
"""The metadata key under which each event carries its append's token."""


class RecordingStore:
    """An `EventStore` around another; `name` is the prefix of the tokens that it adds.

    An engine's appends have neither event ids nor a token, and get both here.
    """

    def __init__(self, store: EventStore, records: RecordFile, name: str) -> None:
        self._store = store
        self._records = records
        self._name = name
        self._count = 0

    def new_token(self) -> str:
        self._count += 1
        return f"{self._name}/{self._count}"

    async def append_kind(
        self,
        flow_id: UUID,
        kind: FlowEventKind,
        *,
        artifacts: Sequence[Artifact] = (),
        expected_version: int | None = None,
        event_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> FlowEvent:
        events = await self.append_kinds(
            flow_id,
            [kind],
            artifacts=artifacts,
            expected_version=expected_version,
            event_ids=None if event_id is None else [event_id],
            metadata=metadata,
        )
        return events[0]

    async def append_kinds(
        self,
        flow_id: UUID,
        kinds: Sequence[FlowEventKind],
        *,
        artifacts: Sequence[Artifact] = (),
        expected_version: int | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[FlowEvent]:
        by_engine = TOKEN not in (metadata or {})
        if by_engine:
            event_ids = [uuid7() for _ in kinds]
            metadata = {**(metadata or {}), TOKEN: self.new_token()}
        known = dict(metadata or {})
        return await self.send(
            Sent(
                token=known[TOKEN],
                flow_id=flow_id,
                kinds=list(kinds),
                artifacts=list(artifacts),
                event_ids=None if event_ids is None else list(event_ids),
                expected_version=expected_version,
                by_engine=by_engine,
                metadata=known,
                at=now(),
            )
        )

    async def send(self, sent: Sent, *, in_transaction: bool = False) -> list[FlowEvent]:
        """Make the call that `sent` describes; see `_append_in_transaction`."""
        self._records.write(sent)
        try:
            if in_transaction and isinstance(self._store, PgEventStore):
                events = await self._append_in_transaction(self._store, sent)
            else:
                events = await _append(self._store, sent)
        except ConcurrencyConflict as error:
            self._records.write(Conflict(sent.token, error.expected, error.actual, now()))
            raise
        except (StoreUnavailable, asyncio.CancelledError) as error:
            sqlstate = getattr(error, "sqlstate", None)
            self._records.write(Unknown(sent.token, type(error).__name__, now(), sqlstate))
            raise
        except StoreError as error:
            self._records.write(Refused(sent.token, type(error).__name__, now(), error.sqlstate))
            raise
        except BaseException as error:
            self._records.write(Unknown(sent.token, type(error).__name__, now()))
            self._records.write(Unexpected(f"{sent.token}: {error!r}", now()))
            raise
        self._records.write(Acknowledged(sent.token, [told(event) for event in events], now()))
        return events

    async def send_many(self, sent: Sequence[Sent]) -> list[FlowAnswer]:
        """Make the calls described, to different flows, by one call of `append_many`."""
        for each in sent:
            self._records.write(each)
        appends = [
            FlowAppend(
                each.flow_id,
                each.kinds,
                each.artifacts,
                each.expected_version,
                each.event_ids,
                each.metadata,
            )
            for each in sent
        ]
        try:
            answers = await append_each(self._store, appends)
        except BaseException as error:
            sqlstate = getattr(error, "sqlstate", None)
            for each in sent:
                self._records.write(Unknown(each.token, type(error).__name__, now(), sqlstate))
            if not isinstance(error, StoreUnavailable | asyncio.CancelledError):
                self._records.write(Unexpected(f"append_many: {error!r}", now()))
            raise
        for each, answer in zip(sent, answers, strict=True):
            self._record(each, answer)
        return answers

    def _record(self, sent: Sent, answer: FlowAnswer) -> None:
        match answer:
            case list():
                told_of = [told(event) for event in answer]
                self._records.write(Acknowledged(sent.token, told_of, now()))
            case ConcurrencyConflict():
                self._records.write(Conflict(sent.token, answer.expected, answer.actual, now()))
            case StoreError():
                error = type(answer).__name__
                self._records.write(Refused(sent.token, error, now(), answer.sqlstate))
            case _:
                self._records.write(Unknown(sent.token, type(answer).__name__, now()))
                self._records.write(Unexpected(f"{sent.token}: {answer!r}", now()))

    @staticmethod
    async def _append_in_transaction(store: PgEventStore, sent: Sent) -> list[FlowEvent]:
        """Append in an open transaction, after events of a savepoint that is rolled back.

        Raises:
            StoreUnavailable: the connection was lost in the caller's own statements, or the events
                of the savepoint were refused.
        """
        try:
            async with store.transaction() as tx:
                try:
                    await _append_in_vain(tx, sent)
                except StoreError as error:  # it says nothing of an earlier attempt at `sent`
                    raise StoreUnavailable("refused in a savepoint", error.sqlstate) from error
                return await _append(tx, sent)
        except DRIVER_ERRORS as error:
            state = getattr(error, "sqlstate", None)
            raise StoreUnavailable("lost in a savepoint", state) from error

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> list[FlowEvent]:
        return await self._store.list(flow_id, after_version=after_version, limit=limit)

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        return await self._store.get_artifact(artifact_hash)


class _ChangedItsMind(Exception):
    """A savepoint that is rolled back."""


async def _append_in_vain(tx: PgTransaction, sent: Sent) -> None:
    """Append in a savepoint that is rolled back."""
    with suppress(_ChangedItsMind):
        async with tx.connection.transaction():
            await tx.append_kinds(sent.flow_id, sent.kinds)
            raise _ChangedItsMind


async def _append(to: EventStore | PgTransaction, sent: Sent) -> list[FlowEvent]:
    return await to.append_kinds(
        sent.flow_id,
        sent.kinds,
        artifacts=sent.artifacts,
        expected_version=sent.expected_version,
        event_ids=sent.event_ids,
        metadata=sent.metadata,
    )

"""One batch of appends, all in one transaction if that goes; else taken apart, so that a bad one fails alone."""

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TypeVar

import asyncpg

from chem_persistence.errors import StoreError, StoreUnavailable
from chem_persistence.postgres.append.heads import FlowHeads
from chem_persistence.postgres.append.place_events import Append, append_batch
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import call, lost_and_refused

__all__ = ["answer_all", "store_batch"]


IMPATIENCE = 0.01
"""Seconds that the parts of a batch which was out of patience wait once more, to find out whose lock it was."""

Queued = TypeVar("Queued", bound=Append)


class _OutOfPatience(Exception):  # never leaves this module
    """Another writer held a lock for too long."""


async def store_batch(
    provider: ConnectionProvider, batch: Sequence[Queued], heads: FlowHeads, patience: float | None
) -> list[Sequence[Queued]]:
    """Store appends, those of one flow side by side and in order, and answer them.

    One without an answer has to be tried again. Gives, flow by flow, those that were out of `patience`, in seconds, because
    another writer held a lock: unanswered, to be stored by themselves. A lock_timeout of the session that is shorter is
    a refusal to who is by himself already.
    """
    attempts = 0

    async def attempt(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        began = monotonic()
        try:
            await _append(connection, batch, heads, patience)
        except asyncpg.LockNotAvailableError as error:
            waited = monotonic() - began
            if patience is None or (waited < patience and _halves(batch) is None):
                raise
            raise _OutOfPatience from error

    try:
        await call(provider, attempt)
    except StoreUnavailable as error:
        answer_all(batch, error)
    except _OutOfPatience:
        for append in batch:
            append.lost = append.lost or attempts > 1
        halves = _halves(batch)
        if halves is None:
            return [batch]
        return [
            left for half in halves for left in await store_batch(provider, half, heads, IMPATIENCE)
        ]
    except Exception as error:  # noqa: BLE001  # it is the answer of one of them
        if len(batch) > 1:
            return await _store_in_parts(provider, batch, heads, patience)
        answer_all(batch, error)
    return []


async def _append(
    connection: Connection, batch: Sequence[Queued], heads: FlowHeads, patience: float | None
) -> None:
    """Append; where one of several flows was taken at the same time, the halves by themselves.

    It may be an earlier attempt of this very batch that took it. So this is no refusal, and belongs to the same call: a flow
    that collides alone finds out whose the events are.
    """
    try:
        await append_batch(connection, batch, heads, patience)
    except asyncpg.UniqueViolationError:
        halves = _halves(batch)
        if halves is None:
            raise
        for half in halves:
            await _append(connection, half, heads, patience)


async def _store_in_parts(
    provider: ConnectionProvider, batch: Sequence[Queued], heads: FlowHeads, patience: float | None
) -> list[Sequence[Queued]]:
    halves = _halves(batch)
    if halves is not None:
        return [
            left for half in halves for left in await store_batch(provider, half, heads, patience)
        ]
    first, rest = batch[:1], batch[1:]  # of one flow
    if await store_batch(provider, first, heads, patience):
        return [batch]
    answer = first[0].answer
    if isinstance(answer, StoreUnavailable):
        answer_all(rest, answer)  # it may be stored, and they with it
    elif isinstance(answer, Exception):
        for append in rest:  # they were to follow what is never stored
            append.begin_again()
    elif answer is not None:
        return await store_batch(provider, rest, heads, patience)
    return []


def answer_all(batch: Iterable[Append], error: Exception) -> None:
    """Answer what has no answer yet, each with an error of its own."""
    for append in batch:
        if append.answer is None:
            append.answer = _own(error, lost=append.lost)


def _halves(batch: Sequence[Queued]) -> tuple[Sequence[Queued], Sequence[Queued]] | None:
    """Part a batch between two flows, near its middle; None if it has one flow only."""
    flow_ids = [append.request.flow_id for append in batch]
    borders = [index for index in range(1, len(batch)) if flow_ids[index] != flow_ids[index - 1]]
    if not borders:
        return None
    border = borders[len(borders) // 2]
    return batch[:border], batch[border:]


def _own(error: Exception, *, lost: bool) -> Exception:
    if not isinstance(error, StoreError):
        return error
    if lost and not isinstance(error, StoreUnavailable):
        return lost_and_refused(error)
    copied = type(error)(error.reason, error.sqlstate)
    copied.__cause__ = error.__cause__
    return copied

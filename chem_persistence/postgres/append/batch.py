"""What becomes of a batch that cannot be stored as a whole: it is retried, or divided."""

from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import TypeVar

import asyncpg
import msgspec

from chem_persistence.errors import StoreError, StoreUnavailable
from chem_persistence.postgres.append.place_events import Append, FlowHeads, append_batch
from chem_persistence.postgres.append.settle import Outcome, Reason, Refused, Stored, TryAgain
from chem_persistence.postgres.connection.failures import cause_on, lost_and_refused
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session

__all__ = ["FailedAttempt", "refuse_all", "store_batch"]

SHORT_PATIENCE = 0.01
"""Seconds that each part of a batch waits for locks, to find the flow that another one holds."""

Queued = TypeVar("Queued", bound=Append)

_LOCKED = TryAgain(Reason.LOCKED)


class _OutOfPatience(Exception):  # never leaves this module
    """Another writer held a lock for too long."""


class FailedAttempt(msgspec.Struct, frozen=True, gc=False):
    """A writer's first attempt: the connection it used, its error, and its seconds."""

    connection: Connection
    error: Exception
    seconds: float


async def store_batch(
    provider: ConnectionProvider,
    batch: Sequence[Queued],
    heads: FlowHeads,
    patience: float | None,
    first: FailedAttempt | None = None,
) -> dict[Append, Outcome]:
    """Store appends, those of one flow side by side and in order, and return what became of each.

    What cannot be stored is refused alone: a batch that fails is divided. A flow whose lock another
    transaction held for longer than `patience`, in seconds, is left with `Reason.LOCKED`; the
    others are stored without it. A lock_timeout of the session that is shorter than `patience` is
    an error for a flow that is alone already.
    """
    outcomes: dict[Append, Outcome] = {}

    async def attempt(connection: Connection) -> None:
        began = monotonic()
        try:
            left = _without(batch, outcomes)
            await _append_halves(connection, left, heads, patience, outcomes)
        except asyncpg.LockNotAvailableError as error:
            if _is_out_of_patience(batch, monotonic() - began, patience):
                raise _OutOfPatience from error
            raise

    try:
        failed = None if first is None else _reason(first, batch, patience)
        await Session(provider).run(attempt, failed)
    except StoreUnavailable as error:
        return outcomes | refuse_all(_without(batch, outcomes), error)
    except _OutOfPatience:
        return outcomes | await _store_unlocked(provider, _without(batch, outcomes), heads)
    except Exception as error:  # noqa: BLE001  # it is the outcome of one of them
        left = _without(batch, outcomes)
        if len(left) > 1:
            return outcomes | await _store_parts(provider, left, heads, patience)
        return outcomes | refuse_all(left, error)
    return outcomes


def _reason(
    first: FailedAttempt, batch: Sequence[Append], patience: float | None
) -> Exception | None:
    """Return the error of the first attempt, or None if one of several flows lost a race."""
    match first.error:
        case asyncpg.UniqueViolationError() if _halves(batch) is not None:
            return None
        case asyncpg.LockNotAvailableError() if _is_out_of_patience(batch, first.seconds, patience):
            return _OutOfPatience()
        case error:
            return cause_on(first.connection, error)


def _is_out_of_patience(batch: Sequence[Append], waited: float, patience: float | None) -> bool:
    return patience is not None and (waited >= patience or _halves(batch) is not None)


async def _append_halves(
    connection: Connection,
    batch: Sequence[Queued],
    heads: FlowHeads,
    patience: float | None,
    outcomes: dict[Append, Outcome],
) -> None:
    """Append; if another writer took a version of one of several flows, append the halves.

    That writer may be an earlier attempt of this very batch. So it is part of the same attempt: a
    flow that collides when it is alone finds out whose the events are.
    """
    try:
        outcomes.update(await append_batch(connection, batch, heads, patience))
    except asyncpg.UniqueViolationError:
        halves = _halves(batch)
        if halves is None:
            raise
        for half in halves:
            await _append_halves(connection, half, heads, patience, outcomes)


async def _store_unlocked(
    provider: ConnectionProvider, batch: Sequence[Queued], heads: FlowHeads
) -> dict[Append, Outcome]:
    """Store what no lock holds up, after the batch as a whole has waited for one."""
    halves = _halves(batch)
    if halves is None:
        return dict.fromkeys(batch, _LOCKED)
    outcomes: dict[Append, Outcome] = {}
    for half in halves:
        outcomes |= await store_batch(provider, half, heads, SHORT_PATIENCE)
    return outcomes


async def _store_parts(
    provider: ConnectionProvider,
    batch: Sequence[Queued],
    heads: FlowHeads,
    patience: float | None,
) -> dict[Append, Outcome]:
    """Store a batch of which an append is refused: by halves, and a single flow one by one."""
    first, rest = _halves(batch) or (batch[:1], batch[1:])
    outcomes = await store_batch(provider, first, heads, patience)
    if first[-1].request.flow_id != rest[0].request.flow_id:
        return outcomes | await store_batch(provider, rest, heads, patience)
    match outcomes[first[0]]:
        case Stored():
            return outcomes | await store_batch(provider, rest, heads, patience)
        case TryAgain(Reason.LOCKED):
            return outcomes | dict.fromkeys(rest, _LOCKED)
        case Refused(StoreUnavailable() as error):  # it may be stored, and they after it
            return outcomes | refuse_all(rest, error)
        case Refused():
            for append in rest:  # their head was after this append, which is not stored
                append.forget_head()
        case TryAgain():
            pass
    return outcomes


def refuse_all(batch: Iterable[Append], error: Exception) -> dict[Append, Outcome]:
    """Return the error as the outcome of each append, to each an error of its own."""
    return {append: Refused(_own(error, lost=append.lost)) for append in batch}


def _without(batch: Sequence[Queued], outcomes: Mapping[Append, Outcome]) -> Sequence[Queued]:
    return [append for append in batch if append not in outcomes] if outcomes else batch


def _halves(batch: Sequence[Queued]) -> tuple[Sequence[Queued], Sequence[Queued]] | None:
    """Divide a batch between two flows, near its middle; None if it has one flow only."""
    flow_ids = [append.request.flow_id for append in batch]
    borders = [index for index in range(1, len(batch)) if flow_ids[index] != flow_ids[index - 1]]
    if not borders:
        return None
    border = borders[len(borders) // 2]
    return batch[:border], batch[border:]


def _own(error: Exception, *, lost: bool) -> Exception:
    """Return a copy of an error for one of the callers that share it."""
    if not isinstance(error, StoreError):
        return error
    if lost and not isinstance(error, StoreUnavailable):
        return lost_and_refused(error)
    copied = type(error)(error.reason, error.sqlstate)
    copied.__cause__ = error.__cause__
    return copied

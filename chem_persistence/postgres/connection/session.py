"""How a piece of work gets a connection: lent for one attempt, retried when the failure passes by itself."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import asyncpg
import backoff

from chem_persistence.errors import StoreError, StoreUnavailable
from chem_persistence.postgres.connection.failures import (
    ConnectionLost,
    is_transient,
    library_errors,
)
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.telemetry.failures import failure_cause
from chem_persistence.telemetry.hooks import count_retry, watched_retry

__all__ = ["RETRY_DELAYS", "call", "is_gone", "lost_and_refused", "noticing_loss", "with_retries"]

Result = TypeVar("Result")


async def call(
    provider: ConnectionProvider, work: Callable[[Connection], Awaitable[Result]]
) -> Result:
    """Do work that may safely be done again on a connection of its own.

    Raises:
        StoreUnavailable: it failed transiently, also at the last retry; or the database refused a retry, so that the
            outcome of the attempt before it is not known.
        StoreError: the database refused the first attempt.
    """
    lost = False

    async def attempt() -> Result:
        nonlocal lost
        try:
            async with provider.acquire() as connection:
                with noticing_loss(connection):
                    return await work(connection)
        except Exception as error:
            lost = lost or is_transient(error)
            raise

    try:
        return await with_retries(attempt)
    except StoreError as error:
        if lost and not isinstance(error, StoreUnavailable):
            raise lost_and_refused(error) from error
        raise


def lost_and_refused(error: StoreError) -> StoreUnavailable:
    """Give what a refusal means to who has lost an attempt before it: whether that one is stored is not known."""
    named = StoreUnavailable(
        f"an attempt was lost, and its retry refused: {error.reason}", error.sqlstate
    )
    named.__cause__ = error
    return named


@contextmanager
def noticing_loss(connection: Connection) -> Iterator[None]:
    """Tell the driver's refusal to use a connection that is gone from its other refusals.

    Raises:
        ConnectionLost: it is gone.
    """
    try:
        yield
    except asyncpg.InterfaceError as error:
        if is_gone(connection):
            raise ConnectionLost from error
        raise


def is_gone(connection: Connection) -> bool:
    """Say whether a lent connection has broken; the pool takes such a one back at once, and then refuses to say."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


RETRY_DELAYS = (0.015, 0.030, 0.045)
"""Seconds before the first, second and third retry."""


_logger = logging.getLogger("chem_persistence.retries")


class _Call(Generic[Result]):
    """A call whose first attempt failed, how often it was tried again, and what failed last."""

    __slots__ = ("failed", "make", "retries")

    def __init__(self, make: Callable[[], Awaitable[Result]], failed: Exception) -> None:
        self.make = make
        self.retries = 0
        self.failed = failed


def _announce(details: Any) -> None:
    """Tell of a retry; an error's text stays out, for it may quote a payload."""
    call, failed = details["args"][0], details["exception"]
    call.retries, call.failed = details["tries"], failed
    count_retry(call.retries, failed)
    cause = failure_cause(failed)
    _logger.info(
        "retry %d follows in %.3f s: %s",
        call.retries,
        details["wait"],
        cause,
        extra={"retry": call.retries, "wait_seconds": details["wait"], "error_type": cause},
    )


def _give_up(details: Any) -> None:
    """Tell of what did not pass; an error of another kind is its caller's answer, and no news."""
    if is_transient(details["exception"]):
        cause = failure_cause(details["exception"])
        fields = {"attempts": details["tries"], "error_type": cause}
        _logger.warning("given up after %d attempts: %s", details["tries"], cause, extra=fields)


@backoff.on_exception(
    backoff.constant,
    Exception,
    interval=RETRY_DELAYS,
    max_tries=len(RETRY_DELAYS) + 1,
    jitter=None,
    giveup=lambda error: not is_transient(error),
    on_backoff=_announce,
    on_giveup=_give_up,
    logger=None,
)
async def _retry(call: _Call[Result]) -> Result:
    if call.retries == 0:
        raise call.failed
    return await watched_retry(call.make(), call.retries, call.failed)


async def with_retries(call: Callable[[], Awaitable[Result]]) -> Result:
    """Await `call`, again while it fails in a way that passes by itself.

    Raises:
        StoreUnavailable: it still failed so after the last retry; the driver's error is the cause.
        StoreError: the database refused in a way that does not pass; the driver's error is the cause.
    """
    with library_errors():
        try:
            return await call()
        except Exception as error:
            if not is_transient(error):
                raise
            failed = error
        return await _retry(_Call(call, failed))

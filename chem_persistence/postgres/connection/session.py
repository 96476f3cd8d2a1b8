"""Sessions: statements that may fail, run on borrowed connections and retried."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeAlias, TypeVar

import asyncpg
import backoff

from chem_persistence.errors import StoreError, StoreUnavailable
from chem_persistence.postgres.connection.failures import (
    cause_on,
    is_transient,
    is_worth_a_retry,
    library_errors,
    lost_and_refused,
)
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.transaction import transaction
from chem_persistence.telemetry.failures import failure_cause
from chem_persistence.telemetry.hooks import count_retry, watched_retry

__all__ = ["RETRY_DELAYS", "Session", "with_retries"]

RETRY_DELAYS = (0.015, 0.030, 0.045)
"""Seconds before the first, second and third retry."""

Result = TypeVar("Result")

Acquire: TypeAlias = Callable[[], AbstractAsyncContextManager[Connection]]

_logger = logging.getLogger("chem_persistence.retries")


class Session:
    """Runs work that may safely be repeated, each attempt on a connection of `provider`.

    An attempt that fails transiently is retried. Every method raises:
        StoreUnavailable: the last retry failed transiently too; or the database refused a retry,
            so that the outcome of the attempt before it is not known.
        StoreError: the database refused the first attempt.
    """

    __slots__ = ("_acquire", "_acquire_for_statements")

    def __init__(self, provider: ConnectionProvider) -> None:
        self._acquire = provider.acquire
        self._acquire_for_statements: Acquire = getattr(
            provider, "acquire_for_statements", provider.acquire
        )

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """Run a statement and return its rows."""
        return await self.run(
            lambda connection: connection.fetch(statement, *arguments),
            acquire=self._acquire_for_statements,
        )

    async def transaction(
        self, work: Callable[[Connection], Awaitable[Result]], *, isolation: str
    ) -> Result:
        """Run `work` in a transaction; a retry repeats the whole of it.

        `isolation` is a level as asyncpg names it: `read_committed`, `repeatable_read`, ...
        """

        async def in_transaction(connection: Connection) -> Result:
            async with transaction(connection, isolation=isolation):
                return await work(connection)

        return await self.run(in_transaction)

    async def run(
        self,
        work: Callable[[Connection], Awaitable[Result]],
        failed: Exception | None = None,
        *,
        acquire: Acquire | None = None,
    ) -> Result:
        """Run `work` on a borrowed connection; a retry repeats the whole of it.

        A caller that has made the first attempt itself passes the error that it failed with.
        """
        lost, lend = False, acquire or self._acquire

        async def attempt() -> Result:
            nonlocal lost, failed
            try:
                if failed is not None:
                    error, failed = failed, None
                    raise error  # noqa: TRY301  # as if this attempt had failed with it
                async with lend() as connection:
                    try:
                        return await work(connection)
                    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                        cause = cause_on(connection, error)
                        if cause is error:
                            raise
                        raise cause from error
            except Exception as error:
                lost = lost or is_transient(error)
                raise

        try:
            return await with_retries(attempt)
        except StoreError as error:
            if lost and not isinstance(error, StoreUnavailable):
                raise lost_and_refused(error) from error
            raise


async def with_retries(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Await `attempt`, and repeat it as long as it fails transiently and retries are left.

    Raises:
        StoreUnavailable: the last retry failed transiently too; the driver's error is the cause.
        StoreError: the database refused; the driver's error is the cause.
    """
    try:
        return await attempt()
    except Exception as error:
        with library_errors():
            if is_worth_a_retry(error):
                return await _retry(_Failed(attempt, error))
            raise


class _Failed(Generic[Result]):
    """An attempt that failed: how often it was retried, and with what it failed last."""

    __slots__ = ("attempt", "error", "retries")

    def __init__(self, attempt: Callable[[], Awaitable[Result]], error: Exception) -> None:
        self.attempt = attempt
        self.error = error
        self.retries = 0


def _log_retry(details: Any) -> None:
    """Log a retry without the error's text, which may quote a payload."""
    failed, error = details["args"][0], details["exception"]
    failed.retries, failed.error = details["tries"], error
    count_retry(failed.retries, error)
    cause = failure_cause(error)
    _logger.info(
        "retry %d follows in %.3f s: %s",
        failed.retries,
        details["wait"],
        cause,
        extra={"retry": failed.retries, "wait_seconds": details["wait"], "error_type": cause},
    )


def _log_last_failure(details: Any) -> None:
    """Log that the retries are used up; an error that is not transient is the caller's to log."""
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
    giveup=lambda error: not is_worth_a_retry(error),
    on_backoff=_log_retry,
    on_giveup=_log_last_failure,
    logger=None,
)
async def _retry(failed: _Failed[Result]) -> Result:
    """Repeat an attempt; the first call raises its failure, so that `backoff` counts it as well."""
    if failed.retries == 0:
        raise failed.error
    return await watched_retry(failed.attempt(), failed.retries, failed.error)

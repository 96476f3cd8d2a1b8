"""Retries of what passes by itself: at most three, after 15, 30 and 45 ms.

Only calls that may be done again are retried: reads, what brings something up to date, and appends, whose versions
and event ids are fixed before the first attempt. What succeeds at once, as nearly all does, pays nothing for it.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import backoff

from chem_persistence.postgres.failures import is_transient, library_errors
from chem_persistence.telemetry.failures import failure_cause
from chem_persistence.telemetry.watched import count_retry, watched_retry

__all__ = ["RETRY_DELAYS", "with_retries"]

RETRY_DELAYS = (0.015, 0.030, 0.045)
"""Seconds before the first, second and third retry."""

Result = TypeVar("Result")

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

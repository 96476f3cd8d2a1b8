"""Retries of what passes by itself: at most three, after 15, 30 and 45 ms.

Only calls that recognise their own first attempt may be retried: reads, and appends, whose version and event
ids are fixed before the first attempt.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import backoff

from chem_persistence.postgres.failures import is_transient, library_errors

__all__ = ["RETRY_DELAYS", "with_retries"]

RETRY_DELAYS = (0.015, 0.030, 0.045)
"""Seconds before the first, second and third retry."""

Result = TypeVar("Result")


@backoff.on_exception(
    backoff.constant,
    Exception,
    interval=RETRY_DELAYS,
    max_tries=len(RETRY_DELAYS) + 1,
    jitter=None,
    giveup=lambda error: not is_transient(error),
    logger="chem_persistence.retries",
)
async def _attempt(call: Callable[[], Awaitable[Result]]) -> Result:
    return await call()


async def with_retries(call: Callable[[], Awaitable[Result]]) -> Result:
    """Await `call`, again while it fails in a way that passes by itself.

    Raises:
        StoreUnavailable: it still failed so after the last retry; the driver's error is the cause.
        StoreError: the database refused in a way that does not pass; the driver's error is the cause.
    """
    with library_errors():
        return await _attempt(call)

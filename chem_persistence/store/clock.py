"""The clock that a store uses unless it is given another."""

from datetime import UTC, datetime
from functools import partial

__all__ = ["SystemClock"]


class SystemClock:
    """The machine's clock; `now()` returns the present time in UTC, to the microsecond."""

    now = staticmethod(partial(datetime.now, UTC))

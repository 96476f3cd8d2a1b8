"""The clock that stores use unless they are given another."""

from datetime import UTC, datetime

__all__ = ["SystemClock"]


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """Give the present time in UTC, to the microsecond."""
        return datetime.now(UTC)

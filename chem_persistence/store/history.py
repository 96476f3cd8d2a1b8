"""A log that has gone back to an earlier state, as its writers notice it."""

from contextlib import AbstractContextManager
from types import TracebackType

from chem_persistence.errors import ConcurrencyConflict, HistoryLost

__all__ = ["history_checked"]


def history_checked() -> AbstractContextManager[None]:
    """Raise `HistoryLost` if the flow is shorter than the version that was loaded or appended.

    For a caller of the store, a `ConcurrencyConflict` with fewer events than expected may be the
    caller's mistake. The engine expects only what it has read or what was acknowledged.
    """
    return _CHECKED


class _Checked(AbstractContextManager[None]):
    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if not isinstance(error, ConcurrencyConflict) or error.actual >= error.expected:
            return
        raise HistoryLost(
            f"flow {error.flow_id} had {error.expected} events when it was loaded or appended to, "
            f"and has {error.actual} now: the log went back to an earlier state, after a failover "
            "or a restore. Run the flow again: it continues where the log ends",
            flow_id=error.flow_id,
            known=error.expected,
            found=error.actual,
        ) from error


_CHECKED = _Checked()

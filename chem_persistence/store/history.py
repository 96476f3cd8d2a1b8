"""A log that has gone back to an earlier state, as its writers notice it."""

from collections.abc import Iterator
from contextlib import contextmanager

from chem_persistence.errors import ConcurrencyConflict, HistoryLost

__all__ = ["history_checked"]


@contextmanager
def history_checked() -> Iterator[None]:
    """Raise `HistoryLost` if the flow is shorter than the version that was loaded or appended.

    For a caller of the store, a `ConcurrencyConflict` with fewer events than expected may be the
    caller's mistake. The engine expects only what it has read or what was acknowledged.
    """
    try:
        yield
    except ConcurrencyConflict as error:
        if error.actual >= error.expected:
            raise
        raise HistoryLost(
            f"flow {error.flow_id} had {error.expected} events when it was loaded or appended to, "
            f"and has {error.actual} now: the log went back to an earlier state, after a failover "
            "or a restore. Run the flow again: it continues where the log ends",
            flow_id=error.flow_id,
            known=error.expected,
            found=error.actual,
        ) from error

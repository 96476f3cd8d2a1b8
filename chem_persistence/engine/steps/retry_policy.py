"""When a step that failed is tried again; no part of a step's definition."""

from datetime import timedelta

import msgspec

from chem_persistence.errors import InvalidArgument, WorkerLost

__all__ = ["RetryPolicy"]

SMALLEST_SHARE = 0.5
"""A delay is between this share of the policy's delay and the whole of it, so that steps that
failed together, since a service was away for example, do not all come back together."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often, and how long after a failure, a step is tried again.

    At most `attempts` tries are made; the first retry comes `first` after the failure, each later
    one `factor` times as long after it, at most `longest`, each shortened at random by up to half.
    An error that is no instance of `on`, or is one of `never_on`, is not retried. A step whose
    worker died `crashes` times in a row while it ran fails with `chem_persistence.WorkerLost`, and
    is not retried, so that a step that kills its process does not kill every worker in turn.

    A retry that a person schedules counts as well: the tries are counted in the log.

    Raises:
        InvalidArgument: `attempts` or `crashes` is less than 1, `factor` is less than 1, or a
            length of time is negative.
    """

    attempts: int = 1
    first: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    longest: timedelta = timedelta(minutes=10)
    on: tuple[type[BaseException], ...] = (Exception,)
    never_on: tuple[type[BaseException], ...] = ()
    crashes: int = 3

    def __post_init__(self) -> None:
        for name in ("attempts", "crashes", "factor"):
            if not getattr(self, name) >= 1:
                raise InvalidArgument(name, f"must be at least 1, not {getattr(self, name)}")
        for name in ("first", "longest"):
            if getattr(self, name) < timedelta(0):
                raise InvalidArgument(name, f"must not be negative, but is {getattr(self, name)}")

    def delay(self, error: BaseException, retries: int, chance: float) -> timedelta | None:
        """Return how long after this failure a step is tried again; None: it is not.

        `retries` counts the retries that were scheduled for the step so far; `chance`, from 0 to 1,
        decides by how much the delay is shortened.
        """
        if isinstance(error, WorkerLost):  # it has used up its crashes
            return None
        if retries + 1 >= self.attempts or not isinstance(error, self.on):
            return None
        if isinstance(error, self.never_on):
            return None
        try:
            delay = min(self.first * self.factor**retries, self.longest)
        except OverflowError:
            delay = self.longest
        return delay * (SMALLEST_SHARE + (1 - SMALLEST_SHARE) * chance)

"""When a step is tried again."""

from datetime import timedelta

import pytest

from chem_persistence import InvalidArgument, RetryPolicy

SECOND = timedelta(seconds=1)


def test_a_step_is_tried_once_by_default() -> None:
    assert RetryPolicy().delay(ValueError(), 0, 1.0) is None


def test_each_delay_is_a_factor_longer_up_to_the_longest() -> None:
    policy = RetryPolicy(attempts=9, first=SECOND, factor=3, longest=20 * SECOND)
    delays = [policy.delay(ValueError(), retries, 1.0) for retries in range(5)]
    assert delays == [SECOND, 3 * SECOND, 9 * SECOND, 20 * SECOND, 20 * SECOND]


def test_a_delay_is_shortened_by_up_to_half() -> None:
    policy = RetryPolicy(attempts=2, first=8 * SECOND)
    delays = [policy.delay(ValueError(), 0, chance) for chance in (0.0, 0.5, 1.0)]
    assert delays == [4 * SECOND, 6 * SECOND, 8 * SECOND]


def test_the_attempts_are_counted_with_the_first() -> None:
    policy = RetryPolicy(attempts=3)
    assert [policy.delay(ValueError(), n, 1.0) is None for n in range(4)] == [
        False,
        False,
        True,
        True,
    ]


def test_a_delay_that_no_number_holds_is_the_longest() -> None:
    policy = RetryPolicy(attempts=10**9, factor=1e300, longest=SECOND)
    assert policy.delay(ValueError(), 10**6, 1.0) == SECOND


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [(KeyError(), True), (TimeoutError(), True), (IndexError(), False), (SystemExit(), False)],
)
def test_the_class_of_an_error_decides(error: BaseException, is_retried: bool) -> None:  # noqa: FBT001
    policy = RetryPolicy(attempts=2, on=(LookupError, OSError), never_on=(IndexError,))
    assert (policy.delay(error, 0, 1.0) is not None) is is_retried


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 0),
        ("crashes", 0),
        ("factor", 0.5),
        ("factor", float("nan")),
        ("first", -SECOND),
    ],
)
def test_what_can_never_be_right_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=name):
        RetryPolicy(**{name: value})  # type: ignore[arg-type]

"""Whether two results agree is decided by bits, by a tolerance, or not at all."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from chem_persistence import Agreement, Artifact, InvalidArgument, Tolerance, ValueDifference
from chem_persistence.views.agreement import compare_artifacts, worst
from tests.support.flows.json_values import I_JSON

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def compared(
    left: Any, right: Any, tolerance: Tolerance | None = None
) -> tuple[Agreement, list[ValueDifference]]:
    own, other = (Artifact.from_payload(kind="value", payload=value) for value in (left, right))
    return compare_artifacts(own, other, tolerance or Tolerance())


@given(I_JSON)
def test_a_value_agrees_with_itself(value: Any) -> None:
    assert compared(value, value) == (Agreement.EQUAL, [])


@given(NUMBERS, NUMBERS, st.floats(0, 1), st.floats(0, 1e6))
def test_numbers_are_close_as_the_rule_says(
    left: float, right: float, relative: float, absolute: float
) -> None:
    agreement, found = compared([left], [right], Tolerance(relative, absolute))
    if left == right:
        assert agreement is Agreement.EQUAL
        assert not found
        return
    is_close = math.fabs(left - right) <= absolute + relative * math.fabs(left)
    assert agreement is (Agreement.CLOSE if is_close else Agreement.DIFFERENT)
    assert [(each.path, each.is_close) for each in found] == [("$[0]", is_close)]


@pytest.mark.parametrize(
    ("left", "right", "paths"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, [("$.b", 2, UNSET)]),
        ({"a": [1, 2]}, {"a": [1]}, [("$.a[1]", 2, UNSET)]),
        ({"a": []}, {"a": {}}, [("$.a", [], {})]),
        ({"a": 1}, {"a": True}, [("$.a", 1, True)]),
        ({"a": "1"}, {"a": 1}, [("$.a", "1", 1)]),
        ({"a": None}, {}, [("$.a", None, UNSET)]),
    ],
)
def test_what_differs_is_named_by_its_path(left: Any, right: Any, paths: list[Any]) -> None:
    agreement, found = compared(left, right, Tolerance(1.0, 1e9))
    assert agreement is Agreement.DIFFERENT
    assert [(each.path, each.left, each.right) for each in found] == paths


def test_one_value_outside_the_tolerance_makes_the_whole_different() -> None:
    agreement, found = compared([1.0, 2.0], [1.01, 3.0], Tolerance(relative=0.05))
    assert agreement is Agreement.DIFFERENT
    assert [each.is_close for each in found] == [True, False]


def test_bytes_agree_only_bit_for_bit() -> None:
    left, right = (
        Artifact.from_content(kind="grid", content=content, media_type="text/plain")
        for content in (b"1", b"2")
    )
    assert compare_artifacts(left, left, Tolerance()) == (Agreement.EQUAL, [])
    assert compare_artifacts(left, right, Tolerance(1, 1)) == (Agreement.DIFFERENT, [])
    text = Artifact.from_payload(kind="grid", payload="1")
    assert compare_artifacts(left, text, Tolerance(1, 1)) == (Agreement.DIFFERENT, [])


def test_the_worst_part_decides() -> None:
    assert worst(iter([])) is Agreement.EQUAL
    assert worst(iter([Agreement.EQUAL, Agreement.CLOSE])) is Agreement.CLOSE
    assert worst(iter(Agreement)) is Agreement.DIFFERENT


@pytest.mark.parametrize("number", [-1.0, math.inf, math.nan])
def test_a_tolerance_is_a_number_that_is_not_negative(number: float) -> None:
    for wrong in ({"relative": number}, {"absolute": number}):
        with pytest.raises(InvalidArgument):
            Tolerance(**wrong)

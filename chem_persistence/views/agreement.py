"""Whether two results agree: bit for bit, within a tolerance, or not."""

import math
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.errors import InvalidArgument

__all__ = ["Agreement", "Tolerance", "ValueDifference", "compare_artifacts", "worst"]


class Agreement(StrEnum):
    """How far two results agree."""

    EQUAL = "bit-equal"
    CLOSE = "within tolerance"
    DIFFERENT = "different"


class Tolerance(msgspec.Struct, frozen=True):
    """Two numbers are close if |left - right| <= absolute + relative * |left|; left is recorded.

    That is the rule of `numpy.isclose`, with the recorded value as its reference.

    Raises:
        InvalidArgument: a number is negative or not finite.
    """

    relative: float = 0.0
    absolute: float = 0.0

    def __post_init__(self) -> None:
        for name in ("relative", "absolute"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidArgument(name, f"must be at least 0, not {getattr(self, name)}")

    def holds(self, left: float, right: float) -> bool:
        """Return whether two numbers are close."""
        return math.fabs(left - right) <= self.absolute + self.relative * math.fabs(left)


class ValueDifference(msgspec.Struct, frozen=True):
    """Two values at one JSON path that are not equal; a value that is missing is UNSET."""

    path: str
    left: Any = msgspec.UNSET
    right: Any = msgspec.UNSET
    is_close: bool = False


def worst(agreements: Iterable[Agreement]) -> Agreement:
    """Return the agreement of a whole, whose parts agree so."""
    found = set(agreements)
    if Agreement.DIFFERENT in found:
        return Agreement.DIFFERENT
    return Agreement.CLOSE if Agreement.CLOSE in found else Agreement.EQUAL


def compare_artifacts(
    left: Artifact, right: Artifact, tolerance: Tolerance
) -> tuple[Agreement, list[ValueDifference]]:
    """Return how far two artifacts agree, and where they differ.

    Contents that are not JSON agree only bit for bit. Numbers are compared as numbers, whether they
    are written with a fraction or not.
    """
    if left.hash == right.hash:
        return Agreement.EQUAL, []
    if left.content is not None or right.content is not None:
        return Agreement.DIFFERENT, []
    found = list(_differences("$", left.payload, right.payload, tolerance))
    return (
        Agreement.CLOSE if all(each.is_close for each in found) else Agreement.DIFFERENT,
        found,
    )


def _differences(
    path: str, left: Any, right: Any, tolerance: Tolerance
) -> Iterator[ValueDifference]:
    match left, right:
        case dict(), dict():
            for key in sorted({*left, *right}):
                own, other = left.get(key, msgspec.UNSET), right.get(key, msgspec.UNSET)
                yield from _differences(f"{path}.{key}", own, other, tolerance)
        case list(), list():
            for index in range(max(len(left), len(right))):
                own = left[index] if index < len(left) else msgspec.UNSET
                other = right[index] if index < len(right) else msgspec.UNSET
                yield from _differences(f"{path}[{index}]", own, other, tolerance)
        case _:
            if _is_number(left) and _is_number(right):
                if left != right:
                    is_close = tolerance.holds(left, right)
                    yield ValueDifference(path, left, right, is_close)
            elif type(left) is not type(right) or left != right:
                yield ValueDifference(path, left, right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

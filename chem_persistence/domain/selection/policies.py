"""Policies by which a step chooses one of several candidates: the one with the largest score.

A policy is a value: a struct, so that it can be a parameter of a step, where it is hashed.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec

from chem_persistence.errors import InvalidArgument

__all__ = ["MaxScore", "PropertySelectionPolicy", "Weighted"]

Candidate_contra = TypeVar("Candidate_contra", contravariant=True)


class PropertySelectionPolicy(Protocol[Candidate_contra]):
    """How a candidate is scored; the one with the largest score is chosen.

    Write one as a frozen msgspec struct: its fields are its parameters, whose hash is stored with
    each choice. `score` must return the same for equal candidates.
    """

    @property
    def policy_id(self) -> str:
        """The name under which choices are stored; change it when `score` comes to change."""
        ...

    def score(self, candidate: Candidate_contra, /) -> float:
        """Return how good a candidate is: a finite number."""
        ...


class MaxScore(msgspec.Struct, frozen=True, tag="max_score"):
    """Choose by one property: the candidate in which it is largest, or `lowest`.

    `key` is the name of a field, or a path such as `energies.gfn2` through structs and dicts.
    """

    policy_id: ClassVar[str] = "chem_persistence.MaxScore"
    key: str
    lowest: bool = False

    def score(self, candidate: object, /) -> float:
        """Return the property, or its negative for the lowest one.

        Raises:
            InvalidArgument: the candidate lacks the property, or it is not a finite number.
        """
        value = _property(candidate, self.key)
        return -value if self.lowest else value


class Weighted(msgspec.Struct, frozen=True, tag="weighted"):
    """Choose by the sum of several properties, each times its weight; see `MaxScore` for the keys.

    A negative weight prefers small values. The weights make the terms comparable: they have the
    inverse units of their properties.

    Raises:
        InvalidArgument: there is no weight, or one is not finite.
    """

    policy_id: ClassVar[str] = "chem_persistence.Weighted"
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.weights or not all(map(math.isfinite, self.weights.values())):
            raise InvalidArgument("weights", f"must be finite numbers, not {dict(self.weights)}")

    def score(self, candidate: object, /) -> float:
        """Return the weighted sum, rounded once: it does not depend on the order of the weights.

        Raises:
            InvalidArgument: the candidate lacks a property, it is not a finite number, or the sum
                is too large.
        """
        terms = [_property(candidate, key) * weight for key, weight in self.weights.items()]
        if not all(map(math.isfinite, terms)):
            raise InvalidArgument("weights", f"make a score that is not finite: {terms}")
        return math.fsum(terms)


def _property(candidate: object, key: str) -> float:
    value: Any = candidate
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InvalidArgument(
            "candidates",
            f"a {type(candidate).__qualname__} has no finite number {key!r}, but {value!r}",
        )
    return float(value)

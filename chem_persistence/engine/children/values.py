"""The values that go into steps which run other flows, and come out of them."""

from typing import Generic, TypeVar

import msgspec

__all__ = ["Gathered2", "Gathered3", "Gathered4", "Many"]

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


class Many(msgspec.Struct, Generic[T], frozen=True):
    """A list as a value: what `Flow.map` takes and returns, in the order of the items.

    `missing` has the places of the items whose flows failed or were cancelled, and were tolerated;
    the other items come without gaps.
    """

    items: tuple[T, ...]
    missing: tuple[int, ...] = ()


class Gathered2(msgspec.Struct, Generic[A, B], frozen=True):
    """The outputs of two flows that `Flow.gather` ran side by side."""

    first: A
    second: B


class Gathered3(msgspec.Struct, Generic[A, B, C], frozen=True):
    """The outputs of three flows that `Flow.gather` ran side by side."""

    first: A
    second: B
    third: C


class Gathered4(msgspec.Struct, Generic[A, B, C, D], frozen=True):
    """The outputs of four flows that `Flow.gather` ran side by side."""

    first: A
    second: B
    third: C
    fourth: D

"""Which values msgspec writes in the canonical form (RFC 8785) by itself, in C.

Plain values are exactly Python's own dicts, lists, tuples, strings, integers, floats, booleans and None, UUIDs, datetimes
in UTC, and structs of these. What msgspec then writes otherwise than it should is little, and shows: in the value, at
the price of a glance at every part, or in the bytes. Where a glance cannot decide, the value counts as not plain.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain
from math import copysign
from types import MemberDescriptorType
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import astuple

from chem_persistence.domain.canonical_writer import MAX_DEPTH, MAX_INTEGER

__all__ = ["BACKSLASH", "NotPlain", "canonical_floats", "check_text", "find_floats"]

BACKSLASH = ord("\\")
_PRIVATE_USE, _SPECIALS = 0xEE, 0xEF  # with one of these begins the UTF-8 of U+E000 to U+FFFF, and no other
_FLOATS, _LISTS = {float}, {list}
_FRACTION = re.compile(rb"\.0(?=[],}])")  # the end of a number, or text that looks like it
_NEGATIVE_ZERO = re.compile(rb"-0\.0[],}]")
_MANY = 16
"""So many floats are rather looked for in the text."""


class NotPlain(Exception):
    """The careful writer has to look at the value."""


def find_floats(value: Any, depth: int, floats: list[float]) -> None:
    """Make sure that a container, `depth` deep, holds plain values only; add floats to `floats` that may be written otherwise.

    Raises:
        NotPlain: something else, or nested too deep; a key that is not exactly a string (it may be there twice as JSON);
            an integer too large.
    """
    kind = type(value)
    items: Iterable[Any]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise NotPlain
        items = value.values()
    elif kind is list or kind is tuple:
        if _is_looked_at_as_one(value, depth, floats):
            return
        items = value
    elif kind in _plain_structs:
        items = astuple(value)
    else:
        items = _parts_of_another(value)
    for item in items:
        kind = type(item)
        if kind is str:
            continue
        if kind is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise NotPlain
        elif kind is float:
            if item.is_integer() or not (1e-5 <= item < 1e15 or -1e15 < item <= -1e-5):
                floats.append(item)
        elif item is not None and kind is not bool and kind is not UUID:
            if depth == MAX_DEPTH:
                raise NotPlain
            find_floats(item, depth + 1, floats)


def _is_looked_at_as_one(items: Sequence[Any], depth: int, floats: list[float]) -> bool:
    """Look at a column of floats at once, and at the rows of a table as if they were one; say whether it is such a list."""
    first = type(items[0]) if items else None
    if first is float and {*map(type, items)} == _FLOATS:
        floats += items
        return True
    if first is list and depth < MAX_DEPTH and {*map(type, items)} == _LISTS:
        find_floats([*chain.from_iterable(items)], depth + 1, floats)
        return True
    return False


def canonical_floats(encoded: bytes, floats: list[float]) -> bytes:
    """Write the floats of what msgspec encoded as ECMAScript does: 1.0 as 1.

    Raises:
        NotPlain: one is NaN or infinite (msgspec writes null) or -0.0, or one of both writes it with an exponent; or there
            is text that looks like 1.0.
    """
    fractions = _fractions_in_text(encoded) if len(floats) >= _MANY else None
    if fractions is None:
        fractions = sum(map(_is_fraction, floats))
    if fractions == 0:
        return encoded
    shorter, count = _FRACTION.subn(b"", encoded)
    if count != fractions:
        raise NotPlain
    return shorter


def _fractions_in_text(encoded: bytes) -> int | None:
    """Count the numbers that end in .0, outside of the strings; None if a look at each has to show whether all is well."""
    if BACKSLASH in encoded:  # before a quote, it may be
        return None
    outside = b"".join(encoded.split(b'"')[::2])
    if b"e" in outside or b"n" in outside or _NEGATIVE_ZERO.search(outside):  # an exponent, or null
        return None
    return len(_FRACTION.findall(outside))


def _is_fraction(item: float) -> bool:
    if 1e-5 <= item < 1e15 or -1e15 < item <= -1e-5:  # both write it without an exponent
        return item.is_integer()
    if item or copysign(1, item) < 0:
        raise NotPlain
    return True


def check_text(encoded: bytes) -> None:
    """Make sure that the text which msgspec wrote is what the canonical form has.

    Raises:
        NotPlain: it has U+0000, or it may have keys that UTF-16 sorts otherwise than UTF-8 does (RFC 8785, section
            3.2.3): one with U+E000 to U+FFFF next to one with a character beyond.
    """
    if _PRIVATE_USE in encoded or _SPECIALS in encoded or b"\\u0000" in encoded:
        raise NotPlain


_plain_structs: set[type] = set()


def _parts_of_another(value: Any) -> tuple[Any, ...]:
    kind = type(value)
    if kind is UUID or (kind is datetime and value.tzinfo is UTC):
        return ()
    if issubclass(kind, msgspec.Struct) and _is_plain_struct(kind):
        _plain_structs.add(kind)
        return astuple(value)
    raise NotPlain


def _is_plain_struct(kind: type[msgspec.Struct]) -> bool:
    """Say whether the instances are written with all their fields, and nothing stands before a field."""
    config = kind.__struct_config__
    return (
        not config.omit_defaults
        and isinstance(config.tag, str | None)
        and kind.__getattribute__ is object.__getattribute__
        and all(type(getattr(kind, name)) is MemberDescriptorType for name in kind.__struct_fields__)
    )

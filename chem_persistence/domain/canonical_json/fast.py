"""Which values msgspec writes in the canonical form (RFC 8785) by itself, in C.

Plain values are exactly Python's own dicts, lists, tuples, strings, integers, floats, booleans and None, UUIDs, datetimes
in UTC, and structs of these. What msgspec then writes otherwise than it should is little, and shows: in the value, at
the price of a glance at every part, or in the bytes. Where a glance cannot decide, the value counts as not plain.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import copysign
from types import MemberDescriptorType
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, convert
from msgspec.structs import astuple

from chem_persistence.domain.canonical_json.careful import MAX_DEPTH, MAX_INTEGER

__all__ = ["BACKSLASH", "NotPlain", "check_text", "count_fractions", "without_fractions"]

BACKSLASH = ord("\\")
_PRIVATE_USE, _SPECIALS = (
    0xEE,
    0xEF,
)  # with one of these begins the UTF-8 of U+E000 to U+FFFF, and no other
_MIN_INTEGER = -MAX_INTEGER
_FRACTION = re.compile(rb"\.0(?=[],}])")  # the end of a number, or text that looks like it
_SMALL = re.compile(rb"e-6[],}]")  # msgspec's 1e-6 is 0.000001
_NEGATIVE_ZERO = re.compile(rb"-0\.0[],}]")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_TEXTS, _SCALARS, _ROWS = {str}, {float, int, str, bool, type(None)}, {list, tuple}
_MANY = 16
"""So many items are rather looked at in C, and their fractions counted in the text."""

_UNCOUNTED = 2**62  # more than there can be, with whatever is added


class NotPlain(Exception):
    """The careful writer has to look at the value."""


_Scalar = (
    None
    | bool
    | Annotated[int, Meta(ge=_MIN_INTEGER, le=MAX_INTEGER)]
    | Annotated[float, Meta(gt=-1e15, lt=1e15)]
    | str
)


class _Table(msgspec.Struct, array_like=True, gc=False):
    rows: list[_Scalar | list[_Scalar]]


def count_fractions(value: Any, depth: int = 1) -> int:
    """Make sure that a container, `depth` deep, holds plain values only; count the floats that msgspec writes with .0 at the end.

    Raises:
        NotPlain: something else, or nested too deep; a key that is not exactly a string (it may be there twice as JSON);
            an integer too large; a float that both write with an exponent, or -0.0.
    """
    kind = type(value)
    items: Iterable[Any]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise NotPlain
        items = value.values()
    elif kind is tuple or kind is list:
        if len(value) >= _MANY and (fractions := _fractions_of_table(value, depth)) is not None:
            return fractions
        items = value
    elif kind in _plain_structs:
        items = astuple(value)
    else:
        items = _parts_of_another(value)
    fractions = 0
    for item in items:
        kind = type(item)
        if kind is str:
            continue
        if kind is int:
            if not _MIN_INTEGER <= item <= MAX_INTEGER:
                raise NotPlain
        elif kind is float:
            if not (1e-10 <= item * item < 1e30 and item % 1.0):
                fractions += _is_fraction(item)
        elif item is not None and kind is not bool and kind is not UUID:
            if depth == MAX_DEPTH:
                raise NotPlain
            fractions += count_fractions(item, depth + 1)
    return fractions


def _fractions_of_table(items: Sequence[Any], depth: int) -> int | None:
    """Look at a column of numbers, texts and the like, or a table of such rows; None if that is not what it is."""
    kinds = {*map(type, items)}
    if kinds == _TEXTS:
        return 0
    if not (kinds <= _SCALARS or (kinds <= _ROWS and depth < MAX_DEPTH)):
        return None
    try:
        convert((items,), _Table)
    except msgspec.ValidationError:
        return None
    return _UNCOUNTED


def _is_fraction(item: float) -> bool:
    if 1e-5 <= item < 1e15 or -1e15 < item <= -1e-5:  # both write it without an exponent
        return item.is_integer()
    if item or copysign(1, item) < 0:
        raise NotPlain
    return True


def without_fractions(encoded: bytes, fractions: int) -> bytes:
    """Write what msgspec encoded as ECMAScript does, 1.0 as 1, where so many numbers, or an unknown number of them, end in .0.

    Raises:
        NotPlain: there is text that looks like such a number; or, uncounted, one that is to be written otherwise than msgspec does.
    """
    if fractions >= _UNCOUNTED:
        if _FRACTION.search(encoded) is None and _SMALL.search(encoded) is None:
            return encoded
        fractions = _fractions_in_text(encoded)
    shorter, count = _FRACTION.subn(b"", encoded)
    if count != fractions:
        raise NotPlain
    return shorter


def _fractions_in_text(encoded: bytes) -> int:
    quoted = BACKSLASH in encoded  # before a quote, it may be
    outside = _TEXT.sub(b"", encoded) if quoted else b"".join(encoded.split(b'"')[::2])
    if _SMALL.search(outside) or _NEGATIVE_ZERO.search(outside):
        raise NotPlain
    return len(_FRACTION.findall(outside))


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
        and all(
            type(getattr(kind, name)) is MemberDescriptorType for name in kind.__struct_fields__
        )
    )

"""Which values msgspec writes in the canonical form (RFC 8785) by itself, in C.

Plain values are exactly Python's own dicts, lists, tuples, strings, integers, floats, booleans and None, UUIDs, datetimes
in UTC, and structs of these. What msgspec then writes otherwise than it should is little, and shows: in the value, at
the price of a glance at every part, or in the bytes. Where a glance cannot decide, the value counts as not plain.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from math import copysign
from types import MemberDescriptorType
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import astuple

from chem_persistence.domain.canonical_writer import MAX_DEPTH, MAX_INTEGER

__all__ = ["NotPlain", "check_text", "count_fractions", "without_fractions"]

_INTEGER_BITS = MAX_INTEGER.bit_length()
_PRIVATE_USE, _SPECIALS = 0xEE, 0xEF  # with one of these begins the UTF-8 of U+E000 to U+FFFF, and no other


class NotPlain(Exception):
    """The careful writer has to look at the value."""


def count_fractions(value: Any, depth: int) -> int:
    """Make sure that a container, `depth` deep, holds plain values only, and count the floats that end in `.0`.

    Raises:
        NotPlain: something else, or nested too deep; a key that is not exactly a string (it may be there twice as JSON);
            NaN (msgspec writes null); an integer too large; a float that msgspec or ECMAScript writes with an exponent.
    """
    kind = type(value)
    items: Iterable[Any]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise NotPlain
        items = value.values()
    elif kind is list or kind is tuple:
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
            if item.bit_length() > _INTEGER_BITS:
                raise NotPlain
        elif kind is float:
            if 1e-5 <= item < 1e15 or -1e15 < item <= -1e-5:  # both write it without an exponent
                fractions += item.is_integer()
            elif item or copysign(1, item) < 0:
                raise NotPlain
            else:
                fractions += 1
        elif item is not None and kind is not bool and kind is not UUID:
            if depth == MAX_DEPTH:
                raise NotPlain
            fractions += count_fractions(item, depth + 1)
    return fractions


def check_text(encoded: bytes) -> None:
    """Make sure that the text which msgspec wrote is what the canonical form has.

    Raises:
        NotPlain: it has U+0000, or it may have keys that UTF-16 sorts otherwise than UTF-8 does (RFC 8785, section
            3.2.3): one with U+E000 to U+FFFF next to one with a character beyond.
    """
    if _PRIVATE_USE in encoded or _SPECIALS in encoded or b"\\u0000" in encoded:
        raise NotPlain


def without_fractions(encoded: bytes, fractions: int) -> bytes:
    """Write 1.0 as 1, which must be done so many times.

    Raises:
        NotPlain: there is text that looks like such a number.
    """
    shorter = encoded.replace(b".0,", b",").replace(b".0]", b"]").replace(b".0}", b"}")
    if len(encoded) - len(shorter) != fractions * len(".0"):
        raise NotPlain
    return shorter


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

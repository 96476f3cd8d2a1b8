r"""The fast encoder: msgspec writes the value in C, and checks tell if the bytes are canonical.

msgspec's `Encoder(order="sorted")` with these checks takes a seventh to an eighteenth of the
time of the careful encoder, but msgspec is not an encoder of RFC 8785. It differs in this:

- Numbers. RFC 8785 formats doubles as ECMAScript does. msgspec writes `1.0` for `1`, `1e16` for
  `10000000000000000`, `1e-6` for `0.000001`, `-0.0` for `0`, `1e22` for `1e+22`, and `null` for NaN
  and the infinities. It writes integers of any size; I-JSON ends at +-(2^53 - 1).
- Keys. RFC 8785 sorts by UTF-16 code unit, msgspec by code point: the orders differ where a key
  with U+E000 to U+FFFF meets one with a character beyond U+FFFF. msgspec writes a key twice if two
  keys of a dict are equal as text, as those of a subclass of str may be.
- Text. msgspec writes U+0000, which JSONB cannot store. Lone surrogates it refuses by itself.
- Structs. `omit_defaults` goes by identity, a tag may be an integer, and a subclass may replace a
  field's descriptor by a property.
- Other types. Naive datetimes are written without a zone; sets, enums, decimals, dataclasses and
  subclasses of str, int and float have rules of their own.
- Depth. msgspec ends where the stack does; our limit is `MAX_DEPTH`.

Why the fast path may be trusted: it is taken only for plain values, whose every part was looked at,
and whose bytes were. Plain are dict with str keys, list, tuple, str, int, float, bool, None, UUID,
datetime in UTC (no subclass of these), and structs that have none of the properties above; a field
of a struct may be UNSET, which both leave out (msgspec refuses it elsewhere). Then:

- an integer out of range, -0.0, and a float that either side writes with an exponent are not plain
  (in a long sequence a float below 1e-6 is: both write its exponent alike);
- floats that end in `.0` are counted in the value, and the `.0` before `,`, `]` or `}` are counted
  in the bytes: if the numbers differ, a string looks like such a float, and the value is not plain.
  If they are equal, removing all of them is right;
- the bytes show U+0000 (`\u0000`) and the lead bytes of U+E000 to U+FFFF: then it is not plain.

Whatever is not plain goes to the careful encoder, so a check that is too strict costs time and
never a wrong byte. The tests compare both encoders, and an independent one, on generated values.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import copysign
from types import MemberDescriptorType
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, convert
from msgspec.structs import astuple

from chem_persistence.domain.canonical_json.careful import MAX_DEPTH, MAX_INTEGER

__all__ = ["BACKSLASH", "NotPlain", "check_text", "count_fractions", "without_fractions"]

BACKSLASH = ord("\\")
_PRIVATE_USE, _SPECIALS = 0xEE, 0xEF  # lead bytes in UTF-8 of U+E000 to U+FFFF, and of no others
_MIN_INTEGER = -MAX_INTEGER
_FRACTION = re.compile(rb"\.0(?=[],}])")  # the end of a number, or of text that looks like one
_SMALL = re.compile(rb"e-6[],}]")  # msgspec's 1e-6 is 0.000001
_NEGATIVE_ZERO = re.compile(rb"-0\.0[],}]")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_TEXTS, _SCALARS, _ROWS = {str}, {float, int, str, bool, type(None)}, {list, tuple}
_MANY = 16
"""From this length on, items are checked in C, and their fractions counted in the bytes."""

_UNCOUNTED = 2**62  # "count the fractions in the bytes": above every sum of counts


class NotPlain(Exception):
    """The value needs the careful encoder."""


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
    """Check that a container at this depth is plain; return the number of floats that end in `.0`.

    Raises:
        NotPlain: a part is not plain: another type, nested too deep, a key that is not exactly a
            str, an integer out of range, -0.0, or a float that is written with an exponent.
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
        elif item is not None and kind is not bool and kind is not UUID and item is not UNSET:
            if depth == MAX_DEPTH:
                raise NotPlain
            fractions += count_fractions(item, depth + 1)
    return fractions


def _fractions_of_table(items: Sequence[Any], depth: int) -> int | None:
    """Check a sequence of scalars, or of rows of scalars, in C; None if it is neither."""
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
    if 1e-5 <= item < 1e15 or -1e15 < item <= -1e-5:  # neither side writes an exponent
        return item.is_integer()
    if item or copysign(1, item) < 0:
        raise NotPlain
    return True


def without_fractions(encoded: bytes, fractions: int) -> bytes:
    """Return the bytes with `1.0` written as `1`; `fractions` is the number of such floats.

    Raises:
        NotPlain: a string looks like such a float; or, if they are not counted yet, there is a
            number that ECMAScript writes in another way.
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
    quoted = BACKSLASH in encoded  # perhaps before a quote
    outside = _TEXT.sub(b"", encoded) if quoted else b"".join(encoded.split(b'"')[::2])
    if _SMALL.search(outside) or _NEGATIVE_ZERO.search(outside):
        raise NotPlain
    return len(_FRACTION.findall(outside))


def check_text(encoded: bytes) -> None:
    """Check that strings in the bytes have no U+0000, and that keys are in the order of RFC 8785.

    Raises:
        NotPlain: there is U+0000 or a character of U+E000 to U+FFFF, which UTF-16 code units
            (section 3.2.3) sort after the characters beyond U+FFFF, but code points before them.
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
    """Return whether instances are written with all their fields, each read from its own slot."""
    config = kind.__struct_config__
    return (
        not config.omit_defaults
        and isinstance(config.tag, str | None)
        and kind.__getattribute__ is object.__getattribute__
        and all(
            type(getattr(kind, name)) is MemberDescriptorType for name in kind.__struct_fields__
        )
    )

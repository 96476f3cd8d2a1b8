"""Canonical JSON: the bytes in which payloads are stored, compared and hashed.

The values are I-JSON (RFC 7493), the form is the JSON Canonicalization Scheme (RFC 8785), the hash
is SHA-256 (FIPS 180-4) of that form. `fast` encodes most values, `careful` the others.
"""

import hashlib
from collections.abc import Callable, Collection
from itertools import chain
from operator import is_
from typing import Any

import msgspec
from msgspec.structs import astuple

from chem_persistence.domain.canonical_json.careful import MAX_INTEGER, utf16, write_canonical
from chem_persistence.domain.canonical_json.fast import (
    BACKSLASH,
    NotPlain,
    check_text,
    count_fractions,
    without_fractions,
)

__all__ = [
    "canonical_json",
    "content_hash",
    "in_canonical_order",
    "may_hold_lost_floats",
    "outweighs",
    "outweighs_by_parts",
    "read_json",
    "restore_floats",
    "written_plainly",
]

_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_SCALAR_BYTES = 8
_NUMBERS, _TEXTS, _ROWS = {int, float, bool, type(None)}, {str}, {list, tuple}
_CONTAINERS = {dict, list}
_SIZED = (dict, list, tuple)
_FEW = 8
_LONG_NUMBER = b"0" * len(str(MAX_INTEGER))

_encode = msgspec.json.Encoder(order="sorted").encode
_measure = msgspec.msgpack.Encoder().encode
_decode = msgspec.json.Decoder().decode


def canonical_json(value: Any) -> bytes:
    """Encode a value in the canonical form of RFC 8785.

    Accepts the types of JSON, and what msgspec converts to them: structs, tuples, sets (sorted),
    UUIDs, enums, dates, bytes (base64), mappings. Datetimes need a time zone. -0.0 is written as 0.

    Raises:
        InvalidPayload: NaN, infinities, integers beyond +-(2^53 - 1), lone surrogates, U+0000, a
            key that is there twice or not a string, naive datetimes, nesting deeper than 128, or a
            type that JSON does not have.
    """
    try:
        encoded = _encode(value)
        fractions = count_fractions(value)
        if not encoded.isascii() or BACKSLASH in encoded:
            check_text(encoded)
        return without_fractions(encoded, fractions) if fractions else encoded
    except (NotPlain, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        pass  # the careful encoder decides, and names the path of what is wrong
    return write_canonical(value, canonical_json)


def written_plainly(value: Any, read: Callable[[bytes], Any]) -> tuple[bytes, Any] | None:
    """Try the fast encoder; return (bytes, decoded value), or None: use the careful one.

    `read` is a decoder whose every field is a string, an integer that JSON keeps exactly, a UUID, a
    datetime that is given in UTC, None, or a struct of these. If the value that it decodes is equal
    to the one given, msgspec has written each field in the canonical form.
    """
    try:
        encoded = _encode(value)
        if encoded.isascii() and BACKSLASH not in encoded:
            found = read(encoded)
            if found == value:
                return encoded, found
    except (TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        pass
    return None


def content_hash(value: Any) -> str:
    """Return the SHA-256 of a value's canonical form, as 64 lower-case hexadecimal characters.

    Raises:
        InvalidPayload: as `canonical_json` does.
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()


def outweighs(value: Any, limit: int) -> bool:
    """Return whether the canonical JSON of a value has, roughly, more than `limit` bytes.

    Most large values are known by the length of the value or of one of its few items. The others
    are measured by their MessagePack, which msgspec makes in a tenth of the time of their JSON.
    """
    if isinstance(value, _SIZED) and _longest(value) * _SCALAR_BYTES > limit:
        return True
    try:
        return len(_measure(value)) > limit
    except RecursionError:
        return False  # too deep for JSON: the encoder refuses it, whatever its size
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return outweighs_by_parts(value, limit)


def _longest(items: Collection[Any]) -> int:
    """Return the length of a container, or of the longest of its items if these are few."""
    longest = len(items)
    if longest <= _FEW:
        for item in items.values() if isinstance(items, dict) else items:
            if isinstance(item, _SIZED):
                longest = max(longest, len(item))
    return longest


def outweighs_by_parts(value: Any, limit: int) -> bool:
    """Return the same, weighing no more than it has to: its time depends on the limit alone."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        items: Collection[Any] = ()
        limit -= _SCALAR_BYTES
        if isinstance(item, str | bytes):
            limit -= len(item)
        elif isinstance(item, dict):
            limit -= _SCALAR_BYTES * len(item)
            items = [*item, *item.values()] if limit > 0 else ()
        elif isinstance(item, list | tuple | set | frozenset):
            items = item
        elif isinstance(item, msgspec.Struct):
            items = astuple(item)
        elif hasattr(item, "__dict__"):
            items = vars(item).values()
        limit -= _SCALAR_BYTES * len(items)
        if limit < 0:
            return True
        weight = _weight_of_scalars(items, limit)
        if weight is None:
            waiting += items
        else:
            limit -= weight
    return limit < 0


def _weight_of_scalars(items: Collection[Any], limit: int) -> int | None:
    """Weigh numbers, texts, or short rows of them, in C; return None if there are other items."""
    kinds = {*map(type, items)}
    if kinds <= _ROWS:
        length = sum(map(len, items))
        if length * _SCALAR_BYTES > limit:
            return limit + 1
        items = [*chain.from_iterable(items)]
        kinds = {*map(type, items)}
    if kinds <= _NUMBERS:
        return _SCALAR_BYTES * len(items)
    if kinds <= _TEXTS:
        return sum(map(len, items))
    return None


def read_json(data: bytes) -> Any:
    """Return the value whose canonical form was stored as this JSON.

    The canonical form writes large floats as integers, and JSONB even larger ones (6.02e23 is read
    with 24 digits). No integer beyond +-(2^53 - 1) is accepted by a store, so one that is read was
    a float, and becomes that float again.

    Raises:
        ValueError: the bytes are not JSON (msgspec.DecodeError), or not UTF-8.
        OverflowError: an integer is beyond every float.
    """
    value = _decode(data)
    return restore_floats(value) if may_hold_lost_floats(data) else value


def in_canonical_order(value: Any) -> Any:
    """Return a decoded value with the keys of every object in canonical order (RFC 8785).

    JSONB orders keys by length. A value whose keys are in order already is returned itself.
    """
    if type(value) is dict:
        keys = [*value]
        is_ascii = "".join(keys).isascii()
        unchanged = is_ascii and keys == sorted(keys)
        if unchanged and _CONTAINERS.isdisjoint(map(type, value.values())):
            return value
        ordered: dict[str, Any] = {}
        for key in sorted(keys, key=None if is_ascii else utf16):
            ordered[key] = in_canonical_order(value[key])
        unchanged = [*ordered] == keys and all(map(is_, ordered.values(), value.values()))
        return value if unchanged else ordered
    if type(value) is list and not _CONTAINERS.isdisjoint(map(type, value)):
        items = [in_canonical_order(item) for item in value]
        unchanged = all(map(is_, items, value))
        return value if unchanged else items
    return value


def may_hold_lost_floats(data: bytes) -> bool:
    """Return whether JSON has a run of digits so long that a float may have become an integer."""
    zeros = data.translate(_DIGITS_AS_ZEROS)
    return zeros.find(_LONG_NUMBER) >= 0  # `in` would first try it as an integer


def restore_floats(value: Any) -> Any:
    """Return the value with each integer beyond +-(2^53 - 1), at any depth, as a float."""
    return _restored(value) if _has_lost_float([value]) else value


def _has_lost_float(items: Any) -> bool:
    for item in items:
        kind = type(item)
        if kind is str or kind is float:
            continue
        if kind is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:
                return True
        elif kind is list:
            if _has_lost_float(item):
                return True
        elif kind is dict and _has_lost_float(item.values()):
            return True
    return False


def _restored(value: Any) -> Any:
    match value:
        case dict():
            return {key: _restored(item) for key, item in value.items()}
        case list():
            return [_restored(item) for item in value]
        case int() if not -MAX_INTEGER <= value <= MAX_INTEGER:
            return float(value)
        case _:
            return value

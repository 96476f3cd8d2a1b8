"""The careful encoder of canonical JSON (RFC 8785), which reports where a value is not I-JSON.

It encodes value by value, in Python. Values for which the encoder in `fast` is known to write the
same bytes are not passed to it, and the items of a long array are passed back in runs: usually only
a few of its numbers need care.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeAlias

import msgspec
from msgspec import NODEFAULT, UNSET

from chem_persistence.domain.canonical_json.numpy_values import (
    NOT_NUMPY,
    NotJson,
    as_integer,
    as_python,
)
from chem_persistence.errors import InvalidPayload

__all__ = ["MAX_DEPTH", "MAX_INTEGER", "struct_members", "utf16", "write_canonical"]

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 7493, section 2.2)."""

MAX_DEPTH = 128
"""The deepest nesting of arrays and objects; every server and decoder in use supports it."""

_RUN = 64
"""The items of a long array that are passed back together."""

_Encode: TypeAlias = Callable[[Any], bytes]

_quote = json.JSONEncoder(ensure_ascii=False).encode


class _Refused(Exception):  # each container that it passes adds its key or index to the path
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str | int] = []


def write_canonical(value: Any, encode: _Encode | None = None) -> bytes:
    """Encode a value in the canonical form of RFC 8785; see `canonical_json`.

    `encode` is that function, to which runs of the items of long arrays are passed.

    Raises:
        InvalidPayload: the value, or one inside it, is not I-JSON.
    """
    parts: list[str] = []
    try:
        _write(value, parts, 0, encode)
        return "".join(parts).encode()
    except _Refused as refused:
        path = "$" + "".join(_path_segment(step) for step in reversed(refused.path))
        raise InvalidPayload(path, refused.reason) from None


def _write(value: Any, parts: list[str], depth: int, encode: _Encode | None) -> None:
    match value:
        case str():
            parts.append(_string(value))
        case None | True | False:
            parts.append({None: "null", True: "true", False: "false"}[value])
        case int() if type(value) is int or isinstance(value, Enum):
            parts.append(_integer(int.__int__(value)))  # an enum's value, as msgspec encodes it
        case float() if type(value) is float:
            parts.append(_number(value))
        case dict():
            _write_object(value, parts, depth + 1, encode)
        case list() | tuple():
            _write_array(list(value), parts, depth + 1, encode)
        case msgspec.Struct():
            _write(struct_members(value), parts, depth, encode)
        case datetime() if type(value) is datetime:
            parts.append(_quote(_timestamp(value)))
        case Mapping():
            _write_object(dict(value), parts, depth + 1, encode)
        case _:
            _write(_as_builtin(value), parts, depth, encode)


def _write_object(
    value: dict[Any, Any], parts: list[str], depth: int, encode: _Encode | None
) -> None:
    if depth > MAX_DEPTH:
        raise _Refused(f"is nested deeper than {MAX_DEPTH}")
    members = {_key(key): item for key, item in value.items()}
    if len(members) != len(value):
        raise _Refused("has a key twice")
    opening = "{"
    for key in sorted(members, key=utf16):
        try:
            parts.append(opening + _string(key) + ":")
            _write(members[key], parts, depth, encode)
        except _Refused as refused:
            refused.path.append(key)
            raise
        opening = ","
    parts.append("}" if members else "{}")


def _write_array(value: list[Any], parts: list[str], depth: int, encode: _Encode | None) -> None:
    if depth > MAX_DEPTH:
        raise _Refused(f"is nested deeper than {MAX_DEPTH}")
    opening, run = "[", 1 if encode is None or len(value) <= _RUN else _RUN
    for first in range(0, len(value), run):
        items = value[first : first + run]
        parts.append(opening)
        opening = ","
        if run == 1 or encode is None or not _write_run(items, parts, depth, encode):
            _write_items(enumerate(items, start=first), parts, depth, encode)
    parts.append("]" if value else "[]")


def _write_items(
    items: Iterable[tuple[int, Any]], parts: list[str], depth: int, encode: _Encode | None
) -> None:
    opening = ""
    for index, item in items:
        parts.append(opening)
        opening = ","
        try:
            _write(item, parts, depth, encode)
        except _Refused as refused:
            refused.path.append(index)
            raise


def _write_run(run: list[Any], parts: list[str], depth: int, encode: _Encode) -> bool:
    """Encode some items of an array, as deep in arrays as they stand; return False if one fails."""
    value: Any = run
    for _ in range(depth - 1):
        value = [value]
    try:
        encoded = encode(value)
    except InvalidPayload:
        return False  # the path that it names begins in the run
    parts.append(encoded[depth : len(encoded) - depth].decode())
    return True


def struct_members(value: msgspec.Struct) -> dict[str, Any] | list[Any]:
    """Return the members of a struct that msgspec would encode, with unconverted values.

    `omit_defaults` compares by value here. msgspec compares by identity, so equal structs could get
    different hashes.
    """
    config = value.__struct_config__
    items = [getattr(value, name) for name in value.__struct_fields__]
    if config.array_like:
        return items if config.tag_field is None else [config.tag, *items]
    members: dict[str, Any] = {} if config.tag_field is None else {config.tag_field: config.tag}
    members.update(zip(value.__struct_encode_fields__, items, strict=True))
    if config.omit_defaults:
        for field in msgspec.structs.fields(value):
            default = (
                field.default if field.default_factory is NODEFAULT else field.default_factory()
            )
            if (
                type(members[field.encode_name]) is type(default)
                and members[field.encode_name] == default
            ):
                del members[field.encode_name]
    return {name: item for name, item in members.items() if item is not UNSET}


def _as_builtin(value: Any) -> Any:
    """Convert a UUID, enum, set, dataclass, ... to JSON types; datetimes stay, to be checked."""
    try:
        if (python := as_python(value)) is not NOT_NUMPY:
            return python
        hook = _item_of_set if isinstance(value, set | frozenset) else None
        builtin = msgspec.to_builtins(
            value, order="deterministic", builtin_types=(datetime,), enc_hook=hook
        )
    except NotJson as error:
        raise _Refused(str(error)) from None
    except (TypeError, ValueError, ArithmeticError) as error:
        if (parts := _parts_of_record(value)) is not None:
            return parts
        raise _Refused(f"cannot be JSON: {error}") from None
    except RecursionError:
        raise _Refused(f"is nested deeper than {MAX_DEPTH}") from None
    if type(builtin) is type(value):
        raise _Refused(f"cannot be JSON: {type(value).__qualname__}")
    return builtin


def _item_of_set(item: Any) -> Any:
    """Return a value of numpy in a set, at any depth, as a Python value: msgspec sorts by those."""
    if (python := as_python(item)) is NOT_NUMPY:
        raise TypeError(f"Encoding objects of type {type(item).__qualname__} is unsupported")
    return python


def _parts_of_record(value: Any) -> dict[str, Any] | None:
    """Return the fields of a dataclass or attrs object that msgspec cannot convert as a whole.

    Each field is then encoded by itself: one may hold a numpy value, or be the one that the error
    must name.
    """
    if isinstance(value, set | frozenset):
        return None  # sets are sorted by their converted items
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(type(value), "__attrs_attrs__"):
        names = [field.name for field in type(value).__attrs_attrs__]
    else:
        return None
    found = {name: getattr(value, name, UNSET) for name in names}
    return {name: part for name, part in found.items() if part is not UNSET}


def _key(key: Any) -> str:
    match key:
        case str():
            return str.__str__(key)
        case int() if type(key) is int:
            return _integer(key)
        case _ if (integer := as_integer(key)) is not None:
            return _integer(integer)
        case _:
            raise _Refused(f"has a key that is not a string: {type(key).__qualname__}")


def utf16(key: str) -> bytes:
    """Order keys by UTF-16 code unit (RFC 8785, section 3.2.3)."""
    return key.encode("utf-16-be", "surrogatepass")


def _string(value: str) -> str:
    text = str.__str__(value)  # a subclass may override methods
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Refused("has a lone surrogate") from None
    if "\0" in text:
        raise _Refused("has U+0000")
    return _quote(text)


def _integer(value: int) -> str:
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise _Refused("is an integer beyond +-(2^53 - 1)")
    return str(value)


def _number(value: float) -> str:
    """Format a double as ECMAScript does (RFC 8785, section 3.2.2.3; Number::toString)."""
    if not math.isfinite(value):
        raise _Refused(
            f"is {value}, which JSON does not have: give None instead, or store the numbers as an "
            "artifact (`Artifact.from_array`)"
        )
    if value == 0:
        return "0"
    shortest = repr(value)
    if "e" not in shortest:
        return shortest.removesuffix(".0")
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = shortest.lstrip("-").partition("e")
    digits = mantissa.replace(".", "")
    point = int(exponent) + 1
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    return sign + mantissa + ("e+" if point > 0 else "e") + str(point - 1)


def _timestamp(value: datetime) -> str:
    offset = value.utcoffset()
    if offset is None:
        raise _Refused("is a datetime without a time zone")
    if offset % timedelta(minutes=1):
        raise _Refused("is a datetime whose time zone is not at whole minutes (RFC 3339)")
    text: str = msgspec.to_builtins(value)
    return text


def _path_segment(step: str | int) -> str:
    if isinstance(step, str) and step.isascii() and step.isidentifier():
        return f".{step}"
    return f"[{step!a}]"

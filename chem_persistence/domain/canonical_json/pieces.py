"""Large values, encoded and decoded piece by piece, in a worker thread.

A call of msgspec holds the interpreter's lock until it returns, about a second for 50 MiB, during
which no other thread runs. So a large value is divided into pieces of about `PIECE_BYTES`, and the
event loop gets its turn between two of them. The bytes and the values are the same.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from chem_persistence.domain.canonical_json.careful import MAX_DEPTH, struct_members, utf16
from chem_persistence.domain.canonical_json.encode import (
    canonical_json,
    outweighs_by_parts,
    read_json,
)
from chem_persistence.errors import InvalidPayload

__all__ = ["PIECE_BYTES", "encode_in_pieces", "read_in_pieces"]

PIECE_BYTES = 2**16

_RUN = 1_024
"""The items of an array that are looked at together."""

_FLAT = rb'[\[{][^"\[\]{}]*+(?:"[^"\\]*+"[^"\[\]{}]*+)*+[\]}]'
_TOKEN = re.compile(rb'%b(?:,%b)*+|"[^"\\]{0,4096}"|["\[\]{}]' % (_FLAT, _FLAT))
"""Containers that hold no other one, as many as there are side by side; a string; or a bracket."""


# ---- encoding


def encode_in_pieces(value: Any) -> bytes:
    """Return what `canonical_json` returns, and raise what it raises."""
    parts: list[bytes] = []
    try:
        _write(value, 0, parts)
    except InvalidPayload:
        return canonical_json(value)  # which names the path
    return b"".join(parts)


def _write(value: Any, depth: int, parts: list[bytes]) -> None:
    kind = type(value)
    if depth >= MAX_DEPTH:
        parts.append(_whole(value, depth))  # raises InvalidPayload if it has parts
    elif isinstance(value, msgspec.Struct):
        _write(struct_members(value), depth, parts)
    elif kind is dict and all(type(key) is str for key in value):
        _write_object(value, depth, parts)
    elif kind is list or kind is tuple:
        _write_array(value, depth, parts)
    else:
        parts.append(_whole(value, depth))


def _write_object(value: dict[str, Any], depth: int, parts: list[bytes]) -> None:
    opening = b"{"
    for key in sorted(value, key=utf16):
        parts.append(opening + canonical_json(key) + b":")
        item = value[key]
        if outweighs_by_parts(item, PIECE_BYTES):
            _write(item, depth + 1, parts)
        else:
            parts.append(_whole(item, depth + 1))
        opening = b","
    parts.append(b"}" if value else _whole(value, depth))


def _write_array(value: Iterable[Any], depth: int, parts: list[bytes]) -> None:
    opening = b"["
    for run in _runs(value):
        parts.append(opening)
        opening = b","
        if len(run) == 1 and outweighs_by_parts(run[0], PIECE_BYTES):
            _write(run[0], depth + 1, parts)
        else:
            parts.append(_whole(run, depth)[1:-1])
    parts.append(b"]" if opening == b"," else _whole([], depth))


def _runs(value: Any) -> Iterator[list[Any]]:
    """Yield the items of an array in runs, of a piece at most or of one item."""
    waiting = [list(value[first : first + _RUN]) for first in range(0, len(value), _RUN)]
    waiting.reverse()
    while waiting:
        run = waiting.pop()
        if len(run) == 1 or not outweighs_by_parts(run, PIECE_BYTES):
            yield run
        else:
            half = len(run) // 2
            waiting += [run[half:], run[:half]]


def _whole(value: Any, depth: int) -> bytes:
    """Encode a value as one piece, as deep in arrays as it stands, for the limit of the depth."""
    for _ in range(depth):
        value = [value]
    encoded = canonical_json(value)
    return encoded[depth : len(encoded) - depth]


# ---- decoding


def read_in_pieces(data: bytes) -> Any:
    """Return what `read_json` returns for the canonical form of a value."""
    if data[:1] not in (b"[", b"{"):
        return read_json(data)
    value, _ = _Container(data, 0).read()
    return value


class _Container:
    """An array or object that begins at an offset in canonical JSON."""

    def __init__(self, data: bytes, begin: int) -> None:
        self._data = data
        self._value: Any = [] if data[begin] == ord("[") else {}
        self._is_array = data[begin] == ord("[")
        self._done = begin + 1  # before this all is decoded

    def read(self) -> tuple[Any, int]:
        """Return the value, and the offset after it."""
        data, place, depth, child = self._data, self._done, 0, 0
        while place < len(data):
            # in steps, since a search, too, holds the lock; a string may be cut off by the step
            step = place + PIECE_BYTES
            token = _TOKEN.search(data, place, step)
            if token is None:
                if depth == 0:
                    self._take_members(place, min(step, len(data)))
                place = step
                continue
            before, at, place = place, token.start(), token.end()
            if at - self._done > PIECE_BYTES:
                if depth:
                    place, depth = self._read_child(child), 0
                    continue
                self._take_members(before, at)
            match data[at]:
                case 0x22 if place == at + 1:
                    place = _end_of_text(data, at)
                case 0x5B | 0x7B if place == at + 1:
                    child = child if depth else at
                    depth += 1
                case 0x5D | 0x7D:
                    if depth == 0:
                        self._take(at)
                        return self._value, place
                    depth -= 1
                case _:
                    pass
        raise msgspec.DecodeError("the JSON ends too early")

    def _read_child(self, begin: int) -> int:
        """Decode a child that is large, after the members before it; return the offset after it."""
        before = self._data[self._done : begin]
        value, end = _Container(self._data, begin).read()
        if self._is_array:
            self._value += read_json(b"[%b]" % before.rstrip(b","))
            self._value.append(value)
        else:
            members = read_json(b"{%bnull}" % before)
            members[next(reversed(members))] = value
            self._value |= members
        self._done = end + (self._data[end : end + 1] == b",")
        return self._done

    def _take_members(self, begin: int, end: int) -> None:
        """Decode members in pieces; the commas between the two offsets are all at this depth."""
        while (cut := self._data.find(b",", max(self._done + PIECE_BYTES, begin), end)) >= 0:
            self._take(cut)

    def _take(self, end: int) -> None:
        """Decode the members up to the comma or the bracket at an offset."""
        piece = self._data[self._done : end]
        if self._is_array:
            self._value += read_json(b"[%b]" % piece)
        else:
            self._value |= read_json(b"{%b}" % piece)
        self._done = end + 1


def _end_of_text(data: bytes, begin: int) -> int:
    """Return the offset after the string that begins at an offset."""
    end = begin
    while True:
        end = data.find(b'"', end + 1)
        if end < 0:
            raise msgspec.DecodeError("the JSON ends too early")
        escapes = end - 1
        while data[escapes] == 0x5C:
            escapes -= 1
        if (end - escapes) % 2:
            return end + 1

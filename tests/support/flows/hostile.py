"""Values that no caller should pass and bytes that no log should hold, as strategies."""

import json
import math
from collections import UserDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from fractions import Fraction
from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import strategies as st

from tests.golden.kinds import golden_rows
from tests.support.flows.json_values import I_JSON, nested

__all__ = ["EVENT_TEXTS", "JSON_TEXTS", "OBJECTS", "mutated"]

# ---- Python objects


class Level(IntEnum):
    LOW = 1
    HIGH = 2**60


class Mode(Flag):
    READ = 1
    WRITE = 2


class Odd(Enum):
    OBJECT = object()
    NAN = math.nan


class Text(str):
    __slots__ = ()


class Node(msgspec.Struct):
    held: Any = None


class Row(msgspec.Struct, array_like=True, tag="row"):
    held: Any = None


class Sparse(msgspec.Struct, omit_defaults=True, tag_field="type", tag="sparse", rename="camel"):
    held_here: Any = None
    other: Any = msgspec.UNSET


@dataclass
class Record:
    held: Any = None


def in_itself(values: list[Any]) -> list[Any]:
    values.append(values)
    return values


def node_in_itself(kind: type[Any]) -> Any:
    node = kind()
    node.held = [node]
    return node


OFFSETS = st.integers(-86_399_999_999, 86_399_999_999).map(
    lambda micros: timezone(timedelta(microseconds=micros))
)
LEAVES = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers(),
    st.text() | st.binary(max_size=20) | st.characters(categories=["Cs"]) | st.text().map(Text),
    st.decimals() | st.fractions() | st.uuids() | st.timedeltas(),
    st.datetimes() | st.datetimes(timezones=OFFSETS) | st.dates() | st.times(),
    st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
    st.sampled_from([Decimal("sNaN"), Fraction(1, 3), *Level, *Mode, *Odd, Ellipsis]),
    st.sampled_from([NotImplemented, object, len, range(3), memoryview(b"x"), msgspec.UNSET]),
    st.sampled_from([bytearray(b"\xff"), msgspec.Raw(b'{"a":1}'), msgspec.Raw(b"{")]),
    st.sampled_from([ValueError("x"), SimpleNamespace(a=1), iter([1]), deque([1]), UUID, math]),
    st.sampled_from([2**53, -(2**63)]),
    st.sampled_from([400, 5_000]).map(lambda digits: 10**digits) | st.just(1_000).map(nested),
    st.builds(node_in_itself, st.sampled_from([Node, Row, Record])),
)  # fmt: skip


def is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return isinstance(value, Hashable)


def hashable_ones(values: list[Any]) -> set[Any]:
    return {value for value in values if is_hashable(value)}


KEYS: st.SearchStrategy[Any] = LEAVES.filter(is_hashable) | st.text(max_size=3)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for containers of such values."""
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=2).map(in_itself),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(hashable_ones),
        st.lists(inner, max_size=4).map(hashable_ones).map(frozenset),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=3).map(MappingProxyType),
        st.dictionaries(KEYS, inner, max_size=3).map(UserDict),
        st.builds(Node, inner) | st.builds(Row, inner) | st.builds(Record, inner),
        st.builds(Sparse, inner, inner),
        st.lists(inner, max_size=3).map(deque),
    )  # fmt: skip


OBJECTS = st.recursive(LEAVES, containers, max_leaves=10) | I_JSON
"""Any object that a caller may pass."""

# ---- JSON texts


def as_object(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"


NUMBERS = st.one_of(
    st.sampled_from(["0", "-0", "1e308", "1e309", "-1e400", "1e-400", "9007199254740993", "1.0"]),
    st.sampled_from(["-1", "2147483648"]),
    st.integers().map(str),
    st.sampled_from([400, 5_000]).map(lambda digits: "9" * digits),
)
SCALARS = st.one_of(
    NUMBERS,
    st.sampled_from(["null", "true", "false", '""']),
    st.text(max_size=5).map(json.dumps),
    st.sampled_from([200, 2_000]).map(lambda depth: "[" * depth + "]" * depth),
    st.sampled_from([200, 2_000]).map(lambda depth: '{"a":' * depth + "1" + "}" * depth),
)
NAMES = st.text(max_size=3).map(json.dumps)
JSON_TEXTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(NAMES, inner), max_size=4).map(as_object),
    ),
    max_leaves=8,
)
"""JSON of any kind; most of it is no event."""


GOLDEN: list[dict[str, Any]] = [json.loads(row.payload) for row in golden_rows().values()]


@st.composite
def event_texts(draw: st.DrawFn) -> str:
    """Draw an event as an old version stored it, with fields replaced, left out or added."""
    members = {name: json.dumps(value) for name, value in draw(st.sampled_from(GOLDEN)).items()}
    for name in draw(st.lists(st.sampled_from([*members, "more"]), max_size=3)):
        if draw(st.booleans()):
            members[name] = draw(JSON_TEXTS)
        else:
            members.pop(name, None)
    return as_object([(json.dumps(name), value) for name, value in members.items()])


EVENT_TEXTS = event_texts()

# ---- bytes

TOKENS = st.one_of(
    st.sampled_from(
        [b"", b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"\\", b"\n", b"\r", b"\xef\xbb\xbf"]
    ),
    st.sampled_from([b"{", b"}", b"[" * 2_000, b"]", b",", b":", b"\\ud800", b"\\u0000"]),
    st.sampled_from([b"null", b"-", b"1e999", b"9" * 500, b"type", b"NaN", b"0" * 64]),
    st.binary(max_size=4),
)


@st.composite
def mutated(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> bytes:
    """Draw bytes with a few positions overwritten, cut out or doubled."""
    data = draw(texts)
    for _ in range(draw(st.integers(0, 4))):
        begin, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        middle = draw(TOKENS | st.just(data[begin:end] * 2))
        data = data[:begin] + middle + data[draw(st.sampled_from([begin, end])) :]
    return data

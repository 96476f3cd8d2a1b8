"""Values at the edges of I-JSON: those that every store keeps, and those that it rejects."""

import enum
import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import strategies as st

from chem_persistence.domain.canonical_json.careful import MAX_DEPTH, MAX_INTEGER

Point = namedtuple("Point", ["x", "y"])  # noqa: PYI024  # a plain tuple with names is tested


class Colour(enum.Enum):
    RED = "red"
    WAVELENGTH = 620.5


class Float(float):
    """A subclass of float, such as numpy's float64."""


class Stamp(datetime):
    """A subclass of datetime, such as pandas' Timestamp."""


class Atom(msgspec.Struct, frozen=True):
    element: str
    charge: float


class Molecule(msgspec.Struct, frozen=True, rename="camel", tag=True):
    atoms: tuple[Atom, ...]
    total_energy: float
    id: UUID
    measured_at: datetime
    raw: bytes


class Holder(msgspec.Struct):
    held: Any


@dataclass
class Record:
    name: str
    mass: float


def nested(depth: int, innermost: Any = ()) -> Any:
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


MOLECULE = Molecule(
    (Atom("C", 1e16), Atom("H", 6.02214076e23), Atom("O", 1.0), Atom("N", -0.0)),
    -5e-324,
    UUID(int=7),
    datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    bytes(range(256)),
)

SURVIVING: dict[str, Any] = {
    "avogadro": 6.02214076e23,
    "1e16": 1e16,
    "1e-7": 1e-7,
    "smallest": 5e-324,
    "smallest normal": 2.2250738585072014e-308,
    "largest": 1.7976931348623157e308,
    "-0.0": -0.0,
    "0.1": 0.1,
    "1.0": 1.0,
    "1e21": 1e21,
    "1e22": 1e22,
    "float 2^53": 2.0**53,
    "float -2^53": -(2.0**53),
    "float 2^64": 2.0**64,
    "2^53-1": MAX_INTEGER,
    "-(2^53-1)": -MAX_INTEGER,
    "true": True,
    "null": None,
    "empty string": "",
    "controls": "".join(map(chr, range(1, 32))) + '"\\/\x7f\u2028\u2029\ufeff\uffff',
    "non-BMP": "\U0001f600 \U0010ffff e\u0301 \u00e9",
    "escapes as text": "\\u0000 \\ud800",
    "1 MB string": "\U0001f9ea" * 250_000,
    "1 MB key": {"k" * 1_000_000: 1},
    "empty key": {"": {"": 1}},
    "odd keys": {
        "a b": 1,
        "it's": 2,
        "\u00e9": 3,
        "\U0001f600": 4,
        "\ufb33": 5,
        "\r": 6,
        "type": 7,
    },
    "integer keys": {1: "a", -2: "b", "c": 3},
    "empty": [[], {}, (), ""],
    "deep": nested(MAX_DEPTH - 10),
    "tuple": (1, (2.5, "x")),
    "named tuple": Point(1, 2e20),
    "set": {3, 1, 2},
    "frozenset": frozenset({"b", "a"}),
    "bytes": b"\x00\xff",
    "uuid": UUID(int=1),
    "enum": [Colour.RED, Colour.WAVELENGTH],
    "decimal": Decimal("1.10"),
    "date": date(2026, 2, 28),
    "time": time(1, 2, 3, 4),
    "duration": timedelta(days=1, seconds=2),
    "UTC": datetime(2026, 1, 1, tzinfo=UTC),
    "Tokyo": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=9))),
    "struct": MOLECULE,
    "dataclass": Record("water", 18.0),
    "ordered": OrderedDict(b=1, a=2),
    "mapping": MappingProxyType({"b": 1, "a": MappingProxyType({})}),
    "many numbers": [10.0**n for n in range(-300, 300, 7)],
}
"""By name: values that are I-JSON, or are converted to it."""

REFUSED: dict[str, tuple[Any, str]] = {
    "NaN": (math.nan, ""),
    "Infinity": (math.inf, ""),
    "-Infinity": (-math.inf, ""),
    "2^53": (2**53, ""),
    "-(2^53)": (-(2**53), ""),
    "huge": (10**400, ""),
    "U+0000": ("a\0b", ""),
    "lone high surrogate": ("\ud83d", ""),
    "lone low surrogate": ("x\ude00y", ""),
    "surrogates in two characters": ("\ud83d\ude00", ""),
    "U+0000 in a key": ({"\0": 1}, "['\\x00']"),
    "surrogate in a key": ({"a": {"\ud800": 1}}, ".a['\\ud800']"),
    "deep in": ({"a": [{"odd key": math.nan}]}, ".a[0]['odd key']"),
    "under an empty key": ({"": math.nan}, "['']"),
    "under a quoted key": ({"it's": [0, math.nan]}, '["it\'s"][1]'),
    "under a foreign key": ({"\u00e9": math.nan}, "['\\xe9']"),
    "under an emoji": ({"\U0001f600": math.nan}, "['\\U0001f600']"),
    "under an integer key": ({1: math.nan}, "['1']"),
    "in a tuple": ((1, (2, math.nan)), "[1][1]"),
    "a key twice": ({"a": {1: "x", "1": "y"}}, ".a"),
    "no string as a key": ([{1.5: 0}], "[0]"),
    "null as a key": ({None: 0}, ""),
    "a boolean as a key": ({True: 0}, ""),
    "a UUID as a key": ({"a": {UUID(int=1): 0}}, ".a"),
    "an enum as a key": ({Colour.RED: 0}, ""),
    "a huge integer as a key": ({"a": {2**53: 0}}, ".a"),
    "naive": ([datetime(2026, 1, 1)], "[0]"),  # noqa: DTZ001  # naive on purpose
    "offset with seconds": (
        datetime(1900, 1, 1, tzinfo=timezone(timedelta(minutes=9, seconds=21))),
        "",
    ),
    "another datetime": ([Stamp(2026, 1, 1, tzinfo=UTC)], "[0]"),
    "another float": ({"a": Float(1.5)}, ".a"),
    "object": ({"a": [object()]}, ".a[0]"),
    "class": (object, ""),
    "complex": ([1j], "[0]"),
    "fraction": (Fraction(1, 2), ""),
    "function": (len, ""),
    "range": (range(3), ""),
    "raw JSON": ([msgspec.Raw(b'{"a":1,"a":2}')], "[0]"),
    "unset": ([msgspec.UNSET], "[0]"),
    "set of unlike": ([{1, "a"}], "[0]"),
    "set with NaN": ({"a": {math.nan}}, ".a[0]"),
    "in a struct": ([Atom("C", math.nan)], "[0].charge"),
    "object in a struct": (Holder({"a": [object()]}), ".held.a[0]"),
    "a key twice in a struct": (Holder({1: "x", "1": "y"}), ".held"),
    "a UUID key twice in a struct": (Holder({UUID(int=1): "x", str(UUID(int=1)): "y"}), ".held"),
    "naive in a struct": (
        Holder([datetime(2026, 1, 1)]),  # noqa: DTZ001  # naive on purpose
        ".held[0]",
    ),
    "too deep": (nested(MAX_DEPTH + 1), "[0]" * MAX_DEPTH),
    "absurdly deep": (nested(100_000), "[0]" * MAX_DEPTH),
    "absurdly deep in a struct": (Holder(nested(100_000)), ".held" + "[0]" * (MAX_DEPTH - 1)),
}
"""By name: a value that is not I-JSON, and the path to the part that is not."""

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [1e16, 6.02214076e23, 1e21, 1e22, 5e-324, -0.0, 1.0, 2.0**53, -(2.0**63), 1e-7]
)
INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
SCALARS = st.none() | st.booleans() | INTEGERS | FLOATS | TEXT
I_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=12,
)
"""Every I-JSON value, in Python's built-in types."""

POISON = st.sampled_from(
    [math.nan, math.inf, -math.inf, 2**53, -(2**53), "\0", "a\ud800", "\udfff", object(), {1, "a"}]
) | st.sampled_from([{"\0": 1}, {"\udc00": 1}, {1: 1, "1": 1}, {None: 1}, nested(MAX_DEPTH + 1)])
"""Values that are not I-JSON."""

"""Canonical JSON against RFC 8785's own vectors and against the reference implementation."""

import hashlib
import json
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from chem_persistence import InvalidPayload, canonical_json, content_hash
from chem_persistence.domain.canonical_json.careful import MAX_DEPTH, MAX_INTEGER
from chem_persistence.domain.canonical_json.encode import read_json
from tests.support.examples import examples
from tests.support.flows.json_values import (
    FLOATS,
    I_JSON,
    MOLECULE,
    POISON,
    REFUSED,
    SURVIVING,
    TEXT,
    Holder,
    nested,
)

DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=examples(200))
AT_LENGTH = settings(deadline=None, max_examples=5_000)

# RFC 8785, appendix B: IEEE 754 double, JSON
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]
NO_NUMBERS = ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"]


def double(pattern: str) -> float:
    value: float = struct.unpack(">d", bytes.fromhex(pattern))[0]
    return value


def jsonb_number(value: float) -> bytes:
    """Write a number as PostgreSQL's numeric does: all digits, no exponent."""
    return format(Decimal(repr(value)), "f").encode()


@pytest.mark.parametrize(("pattern", "written"), NUMBERS)
def test_a_number_is_written_as_appendix_b_says(pattern: str, written: str) -> None:
    assert canonical_json(double(pattern)) == rfc8785.dumps(double(pattern)) == written.encode()


@pytest.mark.parametrize("pattern", NO_NUMBERS)
def test_a_double_that_is_no_number_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidPayload, match="JSON does not have"):
        canonical_json(double(pattern))


def test_the_example_of_section_3_2_2() -> None:
    source = r"""{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }"""
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_json(json.loads(source)) == expected.encode()


def test_the_sorting_example_of_section_3_2_3() -> None:
    members = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical_json(members)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (6.02214076e23, "6.02214076e+23"),
        (1e16, "10000000000000000"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (1e-6, "0.000001"),
        (5e-324, "5e-324"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1.0, "1"),
        (1e21, "1e+21"),
        (1e22, "1e+22"),
        (123456789012345680000.0, "123456789012345680000"),
        (MAX_INTEGER, "9007199254740991"),
        (-MAX_INTEGER, "-9007199254740991"),
        (2.0**53, "9007199254740992"),
    ],
)
def test_a_number_is_written_as_ecmascript_does(value: float, written: str) -> None:
    assert canonical_json(value) == written.encode()


@pytest.mark.parametrize(("value", "path"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_i_json_is_refused_with_its_path(value: object, path: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        canonical_json(value)
    assert caught.value.path == "$" + path
    assert str(caught.value) == f"${path}: {caught.value.reason}"


@pytest.mark.parametrize(("value", "path"), REFUSED.values(), ids=REFUSED)
def test_a_path_begins_at_the_root(value: object, path: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        canonical_json({"a": [Holder(value)]})
    assert caught.value.path.startswith(f"$.a[0].held{path}"[:100])


@pytest.mark.parametrize("value", SURVIVING.values(), ids=SURVIVING)
def test_what_is_mapped_onto_i_json_is_read_back_with_the_same_form(value: object) -> None:
    encoded = canonical_json(value)
    assert canonical_json(read_json(encoded)) == encoded == rfc8785.dumps(read_json(encoded))


@pytest.mark.parametrize(
    "wrap", [list, tuple, lambda item: {"k": item[0]}, lambda item: Holder(item[0])]
)
def test_the_depth_limit_counts_arrays_objects_and_structs(
    wrap: Callable[[list[Any]], Any],
) -> None:
    value: Any = 0
    for _ in range(MAX_DEPTH):
        value = wrap([value])
    encoded = canonical_json(value)
    assert canonical_json(read_json(encoded)) == encoded
    with pytest.raises(InvalidPayload, match="nested deeper"):
        canonical_json(wrap([value]))


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidPayload, match="nested deeper"):
        canonical_json(loop)


def test_a_set_is_written_in_one_order() -> None:
    names = [f"name {n}" for n in range(50)]
    assert (
        canonical_json(set(names))
        == canonical_json(frozenset(names[::-1]))
        == canonical_json(sorted(names))
    )


def test_a_struct_is_written_as_msgspec_writes_it() -> None:
    assert json.loads(canonical_json(MOLECULE)) == json.loads(msgspec.json.encode(MOLECULE))


def test_a_struct_as_an_array_is_written_as_msgspec_writes_it() -> None:
    class Row(msgspec.Struct, array_like=True, tag="row"):
        name: str
        mass: float = 1.5

    assert (
        canonical_json(Row("water")) == b'["row","water",1.5]' == msgspec.json.encode(Row("water"))
    )


def test_a_field_that_is_unset_is_left_out() -> None:
    class Row(msgspec.Struct):
        name: str | msgspec.UnsetType = msgspec.UNSET

    assert canonical_json([Row(), Row("water")]) == b'[{},{"name":"water"}]'


def test_omitted_defaults_are_compared_by_value_not_by_identity() -> None:
    class Row(msgspec.Struct, omit_defaults=True):
        big: int = 1_000_000
        flag: bool | int = True
        names: list[str] = msgspec.field(default_factory=list)
        mass: float = 1.5

    assert canonical_json(Row(int("1000000"), True, [], float("1.5"))) == b"{}"
    assert canonical_json(Row(2, 1, ["a"], 2.5)) == b'{"big":2,"flag":1,"mass":2.5,"names":["a"]}'


def test_the_content_hash_is_the_sha_256_of_the_form() -> None:
    assert (
        content_hash({"b": 1e16, "a": []})
        == hashlib.sha256(b'{"a":[],"b":10000000000000000}').hexdigest()
    )


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        (b"602214076000000000000000", 6.02214076e23),
        (b"10000000000000000", 1e16),
        (b"9007199254740992", 2.0**53),
        (b"-9007199254740992", -(2.0**53)),
        (b"9007199254740991", MAX_INTEGER),
        (b"0.0", 0.0),
        (jsonb_number(5e-324), 5e-324),
        (jsonb_number(1.7976931348623157e308), 1.7976931348623157e308),
    ],
)
def test_a_number_as_jsonb_writes_it_is_read_as_the_number_that_was_stored(
    stored: bytes, value: float
) -> None:
    assert (read_json(stored), type(read_json(stored))) == (value, type(value))


@pytest.mark.parametrize(
    "text", [b"[%b]", b'{"a": %b}', b'[1, {"a": [[], {"b": [%b, 2]}]}]', b'{"a": {"b": %b}}']
)
def test_a_float_that_jsonb_made_an_integer_is_found_at_any_depth(text: bytes) -> None:
    assert canonical_json(read_json(text % b"602214076000000000000000")) == canonical_json(
        msgspec.json.decode(text % b"6.02214076e23")
    )
    assert canonical_json(read_json(text % b'"602214076000000000000000"')) == canonical_json(
        msgspec.json.decode(text % b'"602214076000000000000000"')
    )


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nul", b"[1,]", b'"\xff"', b"1e999", b"1" * 5000, b"NaN"]
)
def test_what_is_not_json_is_not_read(text: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        read_json(text)


def assert_canonical(value: object) -> None:
    encoded = canonical_json(value)
    assert encoded == rfc8785.dumps(value)  # type: ignore[arg-type]  # I-JSON only
    assert canonical_json(read_json(encoded)) == encoded
    assert read_json(encoded) == value


def assert_number_survives_jsonb(value: float) -> None:
    read = read_json(jsonb_number(value))
    assert canonical_json(read) == canonical_json(value)
    assert msgspec.json.decode(canonical_json(read), type=float) == value


def assert_refused(value: object, poison: object, keys: list[str | int]) -> None:
    for key in keys:
        poison = [poison] if isinstance(key, int) else {key: poison, "other": value}
    with pytest.raises(InvalidPayload):
        canonical_json(poison)


KEYS = st.lists(TEXT.filter(lambda key: key != "other") | st.integers(), max_size=5)


@DETERMINISTIC
@given(I_JSON)
def test_every_i_json_value_is_written_as_the_reference_writes_it(value: object) -> None:
    assert_canonical(value)


@DETERMINISTIC
@given(FLOATS)
def test_every_number_survives_jsonb(value: float) -> None:
    assert_number_survives_jsonb(value)


@DETERMINISTIC
@given(I_JSON, POISON, KEYS)
def test_what_i_json_forbids_is_refused_wherever_it_stands(
    value: object, poison: object, keys: list[str | int]
) -> None:
    assert_refused(value, poison, keys)


@pytest.mark.slow
@AT_LENGTH
@given(I_JSON)
def test_at_length_every_i_json_value_is_written_as_the_reference_writes_it(value: object) -> None:
    assert_canonical(value)


@pytest.mark.slow
@AT_LENGTH
@given(FLOATS)
def test_at_length_every_number_survives_jsonb(value: float) -> None:
    assert_number_survives_jsonb(value)


@pytest.mark.slow
@AT_LENGTH
@given(I_JSON, POISON, KEYS)
def test_at_length_what_i_json_forbids_is_refused(
    value: object, poison: object, keys: list[str | int]
) -> None:
    assert_refused(value, poison, keys)


def test_a_megabyte_of_nesting_free_json_is_canonical() -> None:
    value = {f"key {n}": [n, n / 7, "\U0001f9ea"] for n in range(20_000)}
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # dict is invariant


def test_an_array_in_an_array_is_written() -> None:
    assert canonical_json(nested(10)) == b"[" * 11 + b"]" * 11

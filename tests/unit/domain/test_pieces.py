"""Large values in pieces: the same bytes and the same values as at once."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chem_persistence import InvalidPayload, StepSignal, canonical_json
from chem_persistence.domain.canonical_json import pieces
from chem_persistence.domain.canonical_json.encode import outweighs, read_json
from chem_persistence.domain.canonical_json.pieces import (
    encode_in_pieces,
    read_in_pieces,
)


class Row(msgspec.Struct):
    smiles: str
    x: float


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 16)
    monkeypatch.setattr(pieces, "_RUN", 3)


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
    | st.sampled_from(['"', "\\", '\\"', "],[", "{", '":', "[C@H](", ",", "}"]),
    lambda inner: (
        st.lists(inner, max_size=12)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
            inner,
            max_size=6,
        )
    ),
    max_leaves=60,
)


@settings(max_examples=100, deadline=None)
@given(json)
def test_10c_any_value_is_the_same_in_pieces(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", 16)
        patch.setattr(pieces, "_RUN", 3)
        encoded = canonical_json(value)
        assert encode_in_pieces(value) == encoded
        assert repr(read_in_pieces(encoded)) == repr(read_json(encoded))


@pytest.mark.parametrize(
    "value",
    [
        list(range(100)),
        [[i, i / 7, [i]] for i in range(50)],
        {"a": list(range(40)), "b": {"c": ["x" * 40, '"', "\\" * 7]}, "\ue000": 1, "\U0001f600": 2},
        [{"smiles": "C[C@H](N)", "n": i} for i in range(30)],
        {f"key {i}": i / 3 for i in range(60)},
        ["C" * 10_000, '"' * 5_000, "\\" * 5_001],
        [[[[["deep", 1]] * 3] * 3] * 3] * 3,
        [1e16, 1e21, 1e-7, -0.0, 1.0] * 9,
        (Row("C", 1.0),) * 20,
        Row("[C]" * 30, 1e22),
        [],
        {},
        [[], {}, [[]], [{}]] * 9,
        "text",
        1.0,
    ],
)
def test_10c_values_of_each_form_are_the_same_in_pieces(value: Any) -> None:
    encoded = canonical_json(value)
    assert encode_in_pieces(value) == encoded
    assert repr(read_in_pieces(encoded)) == repr(read_json(encoded))


def _nested(depth: int) -> Any:
    value: Any = list(range(40))
    for _ in range(depth - 1):
        value = [value, list(range(40))]
    return value


def _deep(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        [[0.5] * 40, {"x": [1] * 40 + [math.nan]}],
        {"a": [1] * 40, "b": [2**53] + [1] * 40},
        {"a": [1] * 40, "b\0": 1},
        {1: [1] * 40, "1": 2},
        {"a": ["x" * 40, object()]},
        _nested(129),
        _deep(100_000),
        {"a": ["x" * 40], "b": _deep(100_000)},
    ],
)
def test_10c_what_is_refused_is_refused_with_the_same_words(value: Any) -> None:
    with pytest.raises(InvalidPayload) as at_once:
        canonical_json(value)
    with pytest.raises(InvalidPayload) as in_pieces:
        encode_in_pieces(value)
    assert str(in_pieces.value) == str(at_once.value)


def test_10c_the_deepest_value_is_taken_in_pieces() -> None:
    assert encode_in_pieces(_nested(128)) == canonical_json(_nested(128))


@pytest.mark.parametrize(
    "value",
    [
        "C" * 2_000,
        [0.5] * 200,
        {"a": {"b": ["x" * 900, b"y" * 200]}},
        [[-74.0123456, 2.5]] * 60,
        [{"x": -74.0123456, "y": {1: 2.5}}] * 40,
        [("C" * 20, 1j)] * 40,
        Row("C" * 2_000, 1.0),
        {f"key {i:100}": 1 for i in range(12)},
        {"grid": {"values": (0.5,) * 200}},
        [StepSignal(0, "s", "x", [0.125] * 200)],
        [StepSignal(0, "s", "x", "y" * 100)] * 10,
    ],
)
def test_10c_what_is_large_is_known_without_encoding(value: Any) -> None:
    assert outweighs(value, 1_000)
    assert not outweighs(value, 4_000)

"""Numbers and arrays of numpy, in payloads and as artifacts."""

import math
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest

from chem_persistence import Artifact, InvalidArgument, InvalidPayload, canonical_json
from chem_persistence.domain.canonical_json.numpy_values import MAX_ARRAY_ITEMS


class Energy(msgspec.Struct):
    value: float
    count: int = 0


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.float64(0.1), b"0.1"),
        (np.float32(0.1), b"0.1"),
        (np.float32(1 / 3), b"0.33333334"),
        (np.float16(0.1), b"0.1"),
        (np.longdouble(0.5), b"0.5"),
        (np.float64(-0.0), b"0"),
        (np.float64(1e-300), b"1e-300"),
        (np.float32(1e-30), b"1e-30"),
        (np.int64(-7), b"-7"),
        (np.uint8(255), b"255"),
        (np.bool_(True), b"true"),
        (np.str_("C"), b'"C"'),
        (np.array(2.5), b"2.5"),
        (np.array([1, 2]), b"[1,2]"),
        (np.array([], dtype=float), b"[]"),
        (np.array([[0.1, 1.0], [2.5, 3.0]], dtype=np.float32), b"[[0.1,1],[2.5,3]]"),
        (np.array([[True], [False]]), b"[[true],[false]]"),
        (np.array(["C", "O"]), b'["C","O"]'),
        (np.arange(6).reshape(2, 3).T, b"[[0,3],[1,4],[2,5]]"),
        (np.array([1.5, "C", None], dtype=object), b'[1.5,"C",null]'),
        (np.ma.masked_array([1.0, 2.0], mask=[False, False]), b"[1,2]"),
        (np.array([[1.0, 2.5], [3.0, 4.0]]).view(np.matrix), b"[[1,2.5],[3,4]]"),
        (np.array(1.5, dtype=">f8"), b"1.5"),
        ({np.int64(10), np.int64(9)}, b"[9,10]"),
        (frozenset([np.float32(0.1), 2]), b"[0.1,2]"),
        ({(np.int64(1), np.uint8(2))}, b"[[1,2]]"),
        (dict(zip(*np.unique([8, 1, 1], return_counts=True), strict=True)), b'{"1":2,"8":1}'),
        ({np.int8(-1): np.bool_(False)}, b'{"-1":false}'),
    ],
)
@pytest.mark.parametrize("place", ["alone", "struct", "list", "dict", "dataclass"])
def test_12_values_of_numpy_are_the_numbers_that_they_are(
    value: Any, written: bytes, place: str
) -> None:
    @dataclass
    class Holder:
        value: Any

    holders: dict[str, tuple[Any, bytes]] = {
        "alone": (value, written),
        "struct": (Energy(value), b'{"count":0,"value":' + written + b"}"),
        "list": ([1, value], b"[1," + written + b"]"),
        "dict": ({"a": {"b": value}}, b'{"a":{"b":' + written + b"}}"),
        "dataclass": (Holder(value), b'{"value":' + written + b"}"),
    }
    holder, expected = holders[place]
    assert canonical_json(holder) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.float64("nan"), "is nan, which JSON does not have: give None instead"),
        (np.float32("inf"), r"is inf, .*`Artifact.from_array`"),
        (math.nan, "is nan, which JSON does not have: give None instead"),
        (np.uint64(2**63), "is an integer beyond"),
        (np.complex128(1j), "cannot be JSON: numpy.complex128"),
        (np.datetime64("2026-01-01"), "is a datetime64: give a datetime"),
        (np.timedelta64(5, "s"), "is a timedelta64"),
        (np.bytes_(b"x"), "cannot be JSON: numpy.bytes_"),
        (np.longdouble("0.1"), "is a longdouble that no float64 equals"),
        (np.ma.masked_array([1.0, 2.0], mask=[True, False]), "has masked values"),
        (np.ma.masked, "has masked values"),
        (np.zeros(MAX_ARRAY_ITEMS + 1), "is an array of 10_001 items"),
    ],
)
def test_12_what_is_no_number_of_json_is_refused_with_its_path_and_the_cure(
    value: Any, reason: str
) -> None:
    with pytest.raises(InvalidPayload, match=reason) as caught:
        canonical_json({"scf": [0.5, value]})
    assert caught.value.path == "$.scf[1]"


def test_12_an_entry_of_an_array_that_is_nan_is_named() -> None:
    with pytest.raises(InvalidPayload, match="is nan") as caught:
        canonical_json(Energy(np.array([[1.0, 2.0], [3.0, math.nan]])))  # type: ignore[arg-type]
    assert caught.value.path == "$.value[1][1]"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({np.float64(1.5): 1}, "has a key that is not a string: float64"),
        ({np.timedelta64(1, "s"): 1}, "has a key that is not a string: timedelta64"),
        ({np.bool_(True): 1}, "has a key that is not a string: bool"),
        ({np.uint64(2**53): 1}, "is an integer beyond"),
        ({np.int64(1): 1, "1": 2}, "has a key twice"),
        ({np.datetime64("2026-01-01")}, "is a datetime64"),
        ({object()}, "Encoding objects of type object is unsupported"),
    ],
)
def test_12_keys_and_items_of_sets_that_json_does_not_have_are_refused(
    value: Any, reason: str
) -> None:
    with pytest.raises(InvalidPayload, match=reason):
        canonical_json({"a": value})


def test_12_an_array_of_the_stated_size_is_taken() -> None:
    assert canonical_json(np.zeros((100, 100))) == canonical_json([[0] * 100] * 100)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, math.nan], [-0.0, math.inf]]),
        np.arange(24, dtype=np.int16).reshape(2, 3, 4).transpose(2, 0, 1),
        np.array(3.5, dtype=np.float32),
        np.zeros((0, 3)),
        np.array([1 + 2j]),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.array([(1, 2.5)], dtype=[("n", "<i4"), ("x", "<f8")]),
        np.array(["C", "Cl"]),
        np.arange(20_000)[::3],
    ],
)
def test_12_an_array_comes_back_from_its_artifact(array: Any) -> None:
    artifact = Artifact.from_array(kind="grid", array=array, metadata={"unit": "eV"})
    back = artifact.to_array()
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    assert artifact.media_type == "application/x-npy"
    assert artifact.metadata == {
        "unit": "eV",
        "dtype": str(array.dtype),
        "shape": list(array.shape),
    }
    assert artifact.verified() == artifact.content


def test_12_equal_arrays_have_one_hash_whatever_their_order_in_memory() -> None:
    array = np.arange(12.0).reshape(3, 4)
    others = [np.asfortranarray(array), array.astype(">f8"), np.arange(24.0).reshape(3, 8)[:, :4]]
    others[2] = np.ascontiguousarray(np.hstack([array, array]))[:, :4]
    hashes = {Artifact.from_array(kind="x", array=other).hash for other in [array, *others]}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        ([1.0, 2.0], "must be a numpy array, not list"),
        (np.array([object()]), "holds Python objects"),
        (np.ma.masked_array([1.0], mask=[True]), "has masked values"),
        (np.float64(1.0), "must be a numpy array"),
    ],
)
def test_12_what_is_no_array_of_numbers_makes_no_array_artifact(array: Any, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        Artifact.from_array(kind="x", array=array)


def test_12_an_artifact_that_is_no_array_cannot_be_read_as_one() -> None:
    pickled = b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    pickled = pickled.ljust(79) + b"\n" + b"\x80\x04N."
    with pytest.raises(InvalidArgument, match=r"is 'application/json', not an array"):
        Artifact.from_payload(kind="x", payload=[1]).to_array()
    for content in (b"no array", b"", pickled):
        artifact = Artifact.from_content(kind="x", content=content, media_type="application/x-npy")
        with pytest.raises(InvalidArgument, match="is not in the NPY format"):
            artifact.to_array()


def test_12_numpy_is_not_imported_for_values_without_it() -> None:
    program = (
        "import sys, chem_persistence as c\n"
        "from enum import Enum\n"
        "class Color(Enum):\n    RED = 'red'\n"
        "c.canonical_json({'a': [Color.RED, frozenset([1])]})\n"
        "try:\n    c.canonical_json(object())\nexcept c.InvalidPayload: pass\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(
    ("payload", "as_type", "expected"),
    [
        (Energy(1.0, 3), Energy, Energy(1.0, 3)),
        ({"b": 1.0, "a": 2}, dict[str, float], {"a": 2.0, "b": 1.0}),
        ([1.0, 1e19], list[float], [1.0, 1e19]),
        ([1, 2], tuple[int, ...], (1, 2)),
    ],
)
def test_15_a_typed_read_has_the_declared_types(payload: Any, as_type: Any, expected: Any) -> None:
    decoded = Artifact.from_payload(kind="x", payload=payload).decode(as_type)
    assert repr(decoded) == repr(expected) or sorted(decoded) == sorted(expected)
    assert [type(item) for item in _leaves(decoded)] == [type(item) for item in _leaves(expected)]
    content = Artifact.from_content(
        kind="x", content=canonical_json(payload), media_type="application/json"
    )
    assert content.decode(as_type) == expected


def test_15_a_typed_read_of_something_else_is_refused() -> None:
    artifact = Artifact.from_payload(kind="x", payload={"value": "text"})
    with pytest.raises(InvalidPayload, match="Expected `float`, got `str`") as caught:
        artifact.decode(Energy)
    assert caught.value.path == "$.value"
    binary = Artifact.from_content(kind="x", content=b"\x00", media_type="image/png")
    with pytest.raises(InvalidArgument, match="'image/png', not JSON"):
        binary.decode(Energy)
    with pytest.raises(InvalidArgument, match="as_type: cannot be decoded"):
        artifact.decode(Energy | dict[str, int])  # type: ignore[arg-type]


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, msgspec.Struct):
        return list(msgspec.structs.astuple(value))
    return list(value.values()) if isinstance(value, dict) else list(value)

"""The fast encoder of canonical JSON: it writes and rejects exactly what the careful one does."""

import enum
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from chem_persistence import (
    BranchCreated,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    InvalidPayload,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    UnreadableEvent,
    canonical_json,
)
from chem_persistence.domain.canonical_json import encode
from chem_persistence.domain.canonical_json.careful import MAX_DEPTH, MAX_INTEGER, write_canonical
from chem_persistence.domain.events import event_type
from chem_persistence.store.codec import decode_kind, encode_kind
from tests.golden.kinds import KINDS
from tests.support.examples import examples
from tests.support.flows.json_values import (
    FLOATS,
    I_JSON,
    POISON,
    REFUSED,
    SURVIVING,
    TEXT,
    Holder,
    nested,
)

DETERMINISTIC = settings(deadline=None, derandomize=True, max_examples=examples(200))
AT_LENGTH = settings(deadline=None, max_examples=5_000)


class Text(str):
    """Compares unequal to every other text, and prints another text than it holds."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 7

    def __str__(self) -> str:
        return "another"

    def isascii(self) -> bool:
        return True

    def encode(self, *_: object) -> bytes:
        return b"another"

    def __contains__(self, _: object) -> bool:
        return False


class Whole(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 7


class Members(dict[str, Any]):
    """Returns other members than it holds."""

    def items(self) -> Any:
        return {"shown": 1}.items()

    def values(self) -> Any:
        return {"shown": 1}.values()

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["shown"])


class Items(list[Any]):
    """Returns other items than it holds, and claims to have none."""

    def __iter__(self) -> Iterator[Any]:
        return iter(["shown"])

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


class Letter(enum.StrEnum):
    A = "a"


class TwoFaced(enum.StrEnum):
    """A member whose value differs from its text."""

    A = "a"

    def __new__(cls, text: str) -> Self:
        member = str.__new__(cls, text)
        member._value_ = "value of " + text
        return member


class Digit(enum.IntEnum):
    ONE = 1


class TwoFacedDigit(enum.IntEnum):
    ONE = 1

    def __new__(cls, number: int) -> Self:
        member = int.__new__(cls, number)
        member._value_ = number + 5
        return member


class Tagged(msgspec.Struct, tag="tagged", tag_field="a kind", rename="camel"):
    first_held: Any
    z: Any = None


class TaggedByNumber(msgspec.Struct, tag=7):
    held: Any


class TaggedByTooLargeANumber(msgspec.Struct, tag=2**53):
    held: Any


class Row(msgspec.Struct, array_like=True):
    held: Any


class Omitting(msgspec.Struct, omit_defaults=True):
    held: Any = 1_000_000


class Optional(msgspec.Struct):
    held: Any = msgspec.UNSET


class Nothing(msgspec.Struct):
    pass


class Shadowed(Holder):
    @property  # type: ignore[misc]  # a property before a field is what is tested
    def held(self) -> str:
        return "shown"


class Watched(Holder):
    def __getattribute__(self, name: str) -> Any:
        return "shown" if name == "held" else super().__getattribute__(name)


STRUCTS = [
    Holder,
    Tagged,
    TaggedByNumber,
    TaggedByTooLargeANumber,
    Row,
    Omitting,
    Optional,
    Shadowed,
    Watched,
]
HOSTILE = [
    Text("text"),
    Text("\0"),
    Text("\ud800"),
    Whole(1),
    Members(held=math.nan),
    Items([math.nan]),
    {Text("a"): 1, "a": 2},
    {Text("a"): 1, Text("a"): 2},
    {Letter.A: 1},
    {TwoFaced.A: 1},
    Letter.A,
    TwoFaced.A,
    Digit.ONE,
    TwoFacedDigit.ONE,
    *(
        kind(held)
        for kind in STRUCTS
        for held in (1, 1.0, "x", math.nan, int("1000000"), msgspec.UNSET)
    ),
    Optional(),
    Nothing(),
    msgspec.Raw(b"NaN"),
    {1, 2.5},
]
LEAVES = (
    st.sampled_from(HOSTILE)
    | POISON
    | FLOATS
    | TEXT
    | st.sampled_from(list(SURVIVING)).map(SURVIVING.__getitem__)
    | st.sampled_from(list(REFUSED)).map(lambda name: REFUSED[name][0])
    | st.floats()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(
        ["1.0,", ".0]", "-0.0}", "1e-6", "null", "\\u0000", "\U0001f600", "\uffff", "\ue000"]
    )
    | st.uuids()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
)
KEYS = (
    TEXT
    | st.text(max_size=3)
    | st.integers()
    | st.sampled_from(["\U0001f600", "\uffff", Text("a"), "a"])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.builds(lambda kind, held: kind(held), st.sampled_from(STRUCTS), inner)
        | st.builds(StepSignal, st.integers(), TEXT, TEXT, inner)
        | st.builds(StepFinished, inner, inner, inner, inner)
        | st.builds(StepFailed, inner, TEXT, st.builds(StepError, TEXT, inner), inner)
    ),
    max_leaves=8,
)


def json_fields(kind: FlowEventKind) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if field.type is Any]


def outcome(write: Any, value: object) -> object:
    try:
        return write(value)
    except InvalidPayload as refused:
        return refused.path, refused.reason


def assert_both_agree(value: object) -> None:
    assert outcome(canonical_json, value) == outcome(write_canonical, value)


@pytest.fixture
def quick_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the careful writer unavailable."""
    monkeypatch.delattr(encode, "write_canonical")


@DETERMINISTIC
@given(ANYTHING)
def test_both_ways_write_and_refuse_the_same(value: object) -> None:
    assert_both_agree(value)


def test_both_ways_take_what_a_class_shows_for_what_it_holds_or_neither_does() -> None:
    for value in HOSTILE:
        assert_both_agree(value)
        assert_both_agree([1.0, {"a": value}])
        assert_both_agree(Holder((value,)))


@pytest.mark.parametrize("length", [63, 64, 65, 127, 128, 129, 300])
@pytest.mark.parametrize(
    "odd",
    [5e-5, -0.0, 1e22, 2**53, math.nan, "\ud800", "\0", {1: 2}, {"b": (1e-9,), "a": 0}, object()],
)
def test_what_needs_care_in_a_long_array_is_written_or_named_alike(
    length: int, odd: object
) -> None:
    """The careful encoder passes the items of a long array back to the fast one in runs."""
    for place in {0, 1, 62, length // 2, length - 1}:
        row = [{"x": 0.5, "y": str(index)} for index in range(length)]
        values: list[object] = [*row[:place], odd, *row[place + 1 :]]
        assert_both_agree(values)
        assert_both_agree(tuple(values))
        assert_both_agree({"rows": values, "more": [values, odd]})


@pytest.mark.parametrize("inside", [0, 1, 2])
def test_the_limit_of_the_depth_holds_in_the_runs_of_a_long_array(inside: int) -> None:
    item: object = 5e-5
    for _ in range(inside):
        item = [item]
    value: object = [0.5] * 100 + [item]
    for _ in range(MAX_DEPTH - 2):
        value = [value]
    assert_both_agree(value)
    assert isinstance(outcome(canonical_json, value), bytes) is (inside <= 1)


def test_both_ways_take_what_a_class_shows_for_what_it_holds_in_long_lists_too() -> None:
    for value in HOSTILE:
        for long in (
            [value] * 20,
            [0.5] * 20 + [value],
            [[0.5, value]] * 20,
            [[0.5]] * 20 + [value],
            [[[value]]] * 20,
        ):
            assert_both_agree(long)
            assert_both_agree({"a": tuple(long), "b": 1.0})


@pytest.mark.slow
@AT_LENGTH
@given(ANYTHING)
def test_at_length_both_ways_write_and_refuse_the_same(value: object) -> None:
    assert_both_agree(value)


@settings(DETERMINISTIC, max_examples=examples(400))
@given(st.lists(st.floats() | FLOATS))
def test_both_ways_write_every_number_the_same(numbers: list[float]) -> None:
    assert_both_agree(numbers)
    for number in numbers:
        assert_both_agree([number, {"n": number}])


COLUMNS = st.lists(
    st.floats() | FLOATS | st.sampled_from([0.5, 1.0, -2.0]), min_size=16, max_size=24
)
NEIGHBOURS = st.sampled_from(
    [None, True, 7, 2**53, "1.0,", "e", 'a "quoted" 2.0]', "-0.0,", "\\", (1.0,), {"x": -3.0}]
)


def assert_columns_agree(column: list[float], neighbour: object) -> None:
    rows = [column[at : at + 3] for at in range(0, len(column), 3)]
    for value in (
        column,
        tuple(column),
        rows,
        [rows, rows],
        [rows, [], neighbour],
        [column, neighbour],
    ):
        assert_both_agree(value)
        assert_both_agree({"column": value, "neighbour": neighbour})


@DETERMINISTIC
@given(COLUMNS, NEIGHBOURS)
def test_both_ways_write_columns_and_tables_of_numbers_the_same(
    column: list[float], neighbour: object
) -> None:
    assert_columns_agree(column, neighbour)


@pytest.mark.slow
@AT_LENGTH
@given(COLUMNS, NEIGHBOURS)
def test_at_length_both_ways_write_columns_and_tables_of_numbers_the_same(
    column: list[float], neighbour: object
) -> None:
    assert_columns_agree(column, neighbour)


@pytest.mark.parametrize(
    "odd", [math.nan, math.inf, -math.inf, -0.0, 1e-6, 1e16, 1e21, -1e-7, 3.0, 0.0]
)
@pytest.mark.parametrize("place", [0, 9, 29])
def test_one_odd_number_among_many_is_seen(odd: float, place: int) -> None:
    column = [0.25 * n + 0.1 for n in range(30)]
    column[place] = odd
    for neighbour in (None, True, "text", 'a "quoted" text'):
        assert_columns_agree(column, neighbour)


@pytest.mark.parametrize("depth", [MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH])
def test_tables_nest_no_deeper_than_other_lists(depth: int) -> None:
    assert_both_agree(nested(depth, [[1.5, 2.0], [3.5]]))
    assert_both_agree([nested(depth, [])] * 3)


FIELDS = LEAVES | st.lists(LEAVES, max_size=3) | st.lists(TEXT, max_size=3).map(tuple)
COUNTS = st.integers(0, MAX_INTEGER) | st.sampled_from(
    [-1, MAX_INTEGER + 1, True, 1.0, Digit.ONE, Whole(1), None]
)
FACTS = st.one_of(
    st.builds(StepStarted, COUNTS, TEXT | FIELDS),
    st.builds(StepFinished, COUNTS, TEXT, st.lists(TEXT).map(tuple) | FIELDS, TEXT | FIELDS),
    st.builds(StepFailed, COUNTS, TEXT, st.builds(StepError, TEXT, FIELDS, TEXT) | FIELDS, TEXT),
    st.builds(FlowInitialized, TEXT, COUNTS, st.none() | TEXT | FIELDS),
    st.builds(RetryScheduled, TEXT, COUNTS, TEXT | FIELDS),
    st.builds(BranchCreated, st.uuids() | FIELDS, st.uuids(), st.uuids(), TEXT, st.none() | FIELDS),
    st.builds(FlowCompleted, TEXT | FIELDS),
)


def carefully_encoded(kind: FlowEventKind) -> tuple[bytes, FlowEventKind]:
    encoded = write_canonical(kind)
    try:
        return encoded, decode_kind(encoded, UUID(int=1), 0)
    except UnreadableEvent as error:
        raise InvalidPayload("$", f"{type(kind).__qualname__}: {error.reason}") from error


def assert_event_is_encoded_as_carefully(kind: FlowEventKind) -> None:
    assert outcome(encode_kind, kind) == outcome(carefully_encoded, kind)


@DETERMINISTIC
@given(FACTS)
def test_an_event_that_is_taken_as_it_reads_is_what_the_careful_way_makes(
    kind: FlowEventKind,
) -> None:
    assert_event_is_encoded_as_carefully(kind)


@pytest.mark.slow
@AT_LENGTH
@given(FACTS)
def test_at_length_an_event_that_is_taken_as_it_reads_is_what_the_careful_way_makes(
    kind: FlowEventKind,
) -> None:
    assert_event_is_encoded_as_carefully(kind)


@pytest.mark.parametrize("hostile", range(len(HOSTILE)))
def test_no_class_passes_itself_off_as_text_or_as_a_count(hostile: int) -> None:
    held: Any = HOSTILE[hostile]
    for kind in (
        StepStarted(held, "a"),
        StepStarted(0, held),
        FlowInitialized("a", 1, held),
        FlowCompleted(held),
    ):
        assert_event_is_encoded_as_carefully(kind)


@pytest.mark.parametrize(
    "number",
    [
        1e-4,
        1e-5,
        1e-6,
        1e-7,
        1e15,
        1e16,
        1e17,
        1e20,
        1e21,
        1e22,
        2.0**52,
        2.0**53,
        2.0**63,
        0.9999,
        1.0,
        5.0,
    ],
)
def test_both_ways_write_the_same_around_each_change_of_form(number: float) -> None:
    for sign in (1, -1):
        for beyond in (0, number, math.inf):
            near = number
            for _ in range(50):
                assert_both_agree([sign * near])
                near = math.nextafter(near, beyond)


@pytest.mark.parametrize("plane", range(17))
def test_both_ways_write_every_character_the_same(plane: int) -> None:
    for code in range(plane << 16, (plane + 1) << 16, 1 if plane == 0 else 251):
        assert_both_agree({"text": chr(code), "x" + chr(code): 1})


@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize(
    "innermost", [1.0, "x", [], {}, UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC)]
)
def test_both_ways_nest_equally_deep(depth: int, innermost: object) -> None:
    assert_both_agree(nested(depth, innermost))
    assert_both_agree(Holder(nested(depth - 1, innermost)))


@pytest.mark.parametrize("kind", KINDS, ids=event_type)
@pytest.mark.usefixtures("quick_only")
def test_every_event_goes_the_quick_way(kind: FlowEventKind) -> None:
    plain = msgspec.structs.replace(
        kind, **{field: {"energy": -76.4, "n": 3} for field in json_fields(kind)}
    )
    assert canonical_json(plain) == rfc8785.dumps(msgspec.to_builtins(plain))


@pytest.mark.parametrize(
    "value",
    [
        {
            "smiles": "C/C=C\\C",
            "mass": 18.0,
            "charges": (-0.834, 0.417, 0.417),
            "xyz": [0.0, -1.0, 1e-5],
        },
        {
            "n": [MAX_INTEGER, -MAX_INTEGER],
            "none": None,
            "yes": True,
            "\u00e9": "\u65e5\u672c",
            "\U0001f600": 1,
        },
        {"trace": 'line\n\t"quoted" \x7f', "empty": [{}, [], ()]},
        {
            "smiles": 'C/C=C\\C "1.0" \\',
            "xyz": [(n / 7, 0.0, -2.0) for n in range(20)],
            "column": [*range(30), None, True],
        },
        [[[1.5, 2.0], [3.0]], "a.0", "version 1.0"],
    ],
)
@pytest.mark.usefixtures("quick_only")
def test_what_scientists_store_goes_the_quick_way(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("text", ["1.0,", "x.0]", "1.0}", ".0.0,,", "-0.0,"])
@pytest.mark.parametrize("number", [1.0, 1e15, 1e16, 1e-6, 2.5])
def test_text_that_looks_like_a_number_is_left_alone(text: str, number: float) -> None:
    value: Any = {"n": number, "m": [2.0, 3.5], "text": text, text: 5.0}
    assert canonical_json(value) == rfc8785.dumps(value)
    assert canonical_json([number, text]) == rfc8785.dumps([number, text])
    assert canonical_json([-number, text]) == rfc8785.dumps([-number, text])


@pytest.mark.parametrize("key", ["\ud7ff", "\ue000", "\uf000", "\uffff"])
def test_keys_at_the_end_of_the_plane_are_sorted_by_utf_16(key: str) -> None:
    assert canonical_json({key: 1, "\U0001f600": 2}) == rfc8785.dumps({key: 1, "\U0001f600": 2})


def test_a_key_twice_is_refused_whatever_its_class_says() -> None:
    for value in ({Text("a"): 1, "a": 2}, {Text("a"): 1, Text("a"): 2}, [{Text("a"): 1, "a": 2}]):
        with pytest.raises(InvalidPayload, match="has a key twice"):
            canonical_json(value)


def test_what_a_subclass_holds_as_text_is_what_is_checked() -> None:
    assert canonical_json([Text("text")]) == b'["text"]'
    for text in ("\0", "\ud800"):
        with pytest.raises(InvalidPayload):
            canonical_json([Text(text)])


def test_a_list_that_denies_its_items_is_still_json() -> None:
    assert canonical_json([Items([1, 2])]) == b'[["shown"]]'


@settings(DETERMINISTIC, max_examples=examples(400))
@given(I_JSON)
def test_a_struct_is_written_as_its_members_are(value: object) -> None:
    members: Any = {"a kind": "tagged", "firstHeld": value, "z": [value]}
    assert canonical_json(Tagged(value, (value,))) == rfc8785.dumps(members)

"""The fields of a step's types: one that can never be JSON is rejected before any work."""

import dataclasses
import numbers
from collections.abc import Iterable
from enum import Enum, StrEnum
from pathlib import Path
from types import new_class
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    SupportsFloat,
    TypeVar,
)
from uuid import UUID

import msgspec
import numpy as np
import pydantic
import pytest

from chem_persistence import (
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    InvalidDefinition,
    Step,
    StepContext,
)
from chem_persistence.engine.steps.steps_fit import check_fit, extend_sequence

if TYPE_CHECKING:
    from fractions import Fraction

T = TypeVar("T")


class A(msgspec.Struct):
    a: int


class Color(Enum):
    RED = "red"


class Element(StrEnum):
    CARBON = "C"


class Box(msgspec.Struct, Generic[T]):
    value: T


class IntBox(Box[int]):
    pass


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Spin:
    up: int


class Model(pydantic.BaseModel):
    n: int


def step_of(takes: Any, gives: Any, step_id: str = "s") -> Step[Any, Any]:
    """Make a step with these types."""

    async def run(_self: Any, value: Any, _context: StepContext) -> Any:
        return value

    base: Any = Step
    made: Any = new_class(
        "Made", (base[takes, gives],), {}, lambda names: names.update(id=step_id, run=run)
    )
    step: Step[Any, Any] = made()
    return step


class WithComplex(msgspec.Struct):
    z: complex


class WithPath(msgspec.Struct):
    file: Path


class WithArray(msgspec.Struct):
    forces: np.ndarray


class WithScalar(msgspec.Struct):
    energy: np.float64


class WithModel(msgspec.Struct):
    model: Model


class Deep(msgspec.Struct):
    items: dict[str, list[tuple[int, WithComplex | None]]]


class Marked(msgspec.Struct):
    z: Annotated[complex, msgspec.Meta(title="phase")]


class Tree(msgspec.Struct):
    children: list["Tree"]
    z: complex


@dataclasses.dataclass
class PointWithPath:
    file: Path


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (WithComplex, "WithComplex.z is of the type builtins.complex"),
        (WithPath, "WithPath.file is of the type pathlib.Path"),
        (WithArray, "WithArray.forces is of the type numpy.ndarray"),
        (WithScalar, "WithScalar.energy is of the type numpy.float64"),
        (WithModel, "WithModel.model is of the type test_field_types.Model"),
        (Deep, "Deep.items[...][...][...].z is of the type builtins.complex"),
        (Marked, "Marked.z is of the type builtins.complex"),
        (Tree, "Tree.z is of the type builtins.complex"),
        (PointWithPath, "PointWithPath.file is of the type pathlib.Path"),
        (Box[complex], "Box[complex].value is of the type builtins.complex"),
        (Box[dict[bytes, int]], "value has keys of a type that JSON does not have"),
        (Box[dict[tuple[int, int], float]], "value has keys of a type that JSON does not have"),
        (Box[list[dict[UUID | float, int]]], "value[...] has keys of a type that JSON does not"),
        (Box[dict[Annotated[float, msgspec.Meta(gt=0)], int]], "value has keys of a type"),
        (Box[dict[Color, int]], "value has keys of a type that JSON does not have"),
    ],
)
@pytest.mark.parametrize("side", ["takes", "returns"])
def test_12_a_field_that_can_never_be_json_is_refused_when_the_step_is_added(
    declared: Any, text: str, side: str
) -> None:
    step = step_of(declared, None) if side == "takes" else step_of(None, declared)
    with pytest.raises(InvalidDefinition) as caught:
        extend_sequence((), step)
    message = str(caught.value).replace("tests.unit.engine.", "").replace("_local.", "")
    assert side in message
    assert text in message
    assert ": declare" in message


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (Box[object], {"a": [1]}),
        (Box[Iterable[int]], [1, 2]),
        (Box[numbers.Real], 1.5),
        (Box[SupportsFloat], 2.5),
        (Box[dict[int, str]], {1: "one"}),
        (Box[dict[Element, int]], {Element.CARBON: 6}),
        (Box[dict[Literal["a", "b"], int]], {"a": 1}),
        (Box[dict[Annotated[str, msgspec.Meta(min_length=1)] | int, int]], {"a": 1}),
        (Box[dict[Any, int]], {"a": 1}),
    ],
)
async def test_12_a_field_that_values_of_json_can_have_is_accepted_and_runs(
    declared: Any, value: Any
) -> None:
    store = InMemoryEventStore()
    builder = FlowEngine.builder(store, InMemoryFlowRepository(store))
    first, second = step_of(declared, declared, "a"), step_of(declared, declared, "b")
    engine = builder.first_step(first).add_step(second).build()
    await engine.run_to_end(input=Box(value))
    output = (await engine.load()).steps[-1].outputs[0]
    assert (await store.get_artifact(output)).decode(declared) == Box(value)


def test_12_pydantic_models_are_refused_as_step_types() -> None:
    with pytest.raises(InvalidDefinition, match="got Model"):
        extend_sequence((), step_of(Model, None))


async def test_12_dataclasses_are_step_types() -> None:
    class Seed(Step[None, Point]):
        id = "seed"

        async def run(self, _nothing: None, _context: StepContext) -> Point:
            return Point(np.float64(1.5))

    class Flip(Step[Point, Spin]):
        id = "flip"

        async def run(self, point: Point, _context: StepContext) -> Spin:
            assert type(point.x) is float
            return Spin(np.int64(point.x * 2))  # type: ignore[arg-type]

    class Last(Step[Spin, Box[int]]):
        id = "last"

        async def run(self, spin: Spin, _context: StepContext) -> Box[int]:
            return Box(spin.up)

    store = InMemoryEventStore()
    builder = FlowEngine.builder(store, InMemoryFlowRepository(store))
    engine = builder.first_step(Seed()).add_step(Flip()).add_step(Last()).build()
    await engine.run_to_end()
    outputs = [slot.outputs[0] for slot in (await engine.load()).steps]
    payloads = [(await store.get_artifact(output)).payload for output in outputs]
    assert payloads == [{"x": 1.5, "y": 0}, {"up": 3}, {"value": 3}]


class Hidden(msgspec.Struct):
    value: "Fraction"


class OfHidden(msgspec.Struct):
    hidden: list[Hidden]


def local_struct() -> Any:
    class Inner(msgspec.Struct):
        n: int

    class Outer(msgspec.Struct):
        inner: "Inner"

    return Outer


@dataclasses.dataclass
class HiddenData:
    value: "Fraction"


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        (Hidden, "Fraction"),
        (OfHidden, "Fraction"),
        (local_struct(), "Inner"),
        (HiddenData, "Fraction"),
        (Box[Hidden], "Fraction"),
    ],
)
@pytest.mark.parametrize("side", ["takes", "returns"])
def test_13_an_annotation_that_is_not_defined_at_run_time_is_named(
    declared: Any, name: str, side: str
) -> None:
    step = step_of(declared, None) if side == "takes" else step_of(None, declared)
    with pytest.raises(InvalidDefinition, match=f"the name '{name}' is not defined"):
        extend_sequence((), step)


NotAType = msgspec.defstruct("NotAType", [("value", "list[")])


class NotInModule(msgspec.Struct):
    value: "dataclasses.Missing"  # type: ignore[name-defined]


class NotAMember(msgspec.Struct):
    value: list["Element.NAME"]  # type: ignore[name-defined]


@pytest.mark.parametrize("declared", [NotAType, NotInModule, NotAMember, Box[NotInModule]])
@pytest.mark.parametrize("side", ["takes", "returns"])
def test_13_an_annotation_that_cannot_be_evaluated_is_refused(declared: Any, side: str) -> None:
    step = step_of(declared, None) if side == "takes" else step_of(None, declared)
    with pytest.raises(InvalidDefinition, match="in whose annotations one cannot be evaluated: "):
        extend_sequence((), step)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (Box[int], Box[int]),
        (Box[int], Box),
        (IntBox, Box[int]),
        (Box[list[A]], Box[list[A]] | None),
        (Point, Point),
    ],
)
def test_13_generic_structs_fit(given: Any, taken: Any) -> None:
    extend_sequence(extend_sequence((), step_of(None, given)), step_of(taken, None, "t"))


@pytest.mark.parametrize(
    ("given", "taken", "text"),
    [
        (Box[int], Box[str], r"'t' takes Box\[str\], but step 's' returns Box\[int\]"),
        (IntBox, Box[str], r"takes Box\[str\], but step 's' returns IntBox"),
        (Box, Box[str], r"takes Box\[str\], but step 's' returns Box"),
    ],
)
def test_13_generic_structs_with_other_arguments_do_not_fit(
    given: Any, taken: Any, text: str
) -> None:
    with pytest.raises(InvalidDefinition, match=text):
        check_fit(step_of(None, given), step_of(taken, None, "t"))


async def test_13_a_generic_output_is_checked_against_its_arguments() -> None:
    class Wrong(Step[None, Box[int]]):
        id = "wrong"

        async def run(self, _nothing: None, _context: StepContext) -> Box[int]:
            return Box("text")  # type: ignore[arg-type]

    store = InMemoryEventStore()
    engine = FlowEngine.builder(store, InMemoryFlowRepository(store)).first_step(Wrong()).build()
    with pytest.raises(Exception, match="wrong") as caught:
        await engine.run_to_end()
    assert "Expected `int`, got `str`" in str(caught.value.__cause__)

"""The types that a step declares, and which steps fit."""

from typing import Any, Generic, Optional, TypeVar, Union

import msgspec
import pytest

from chem_persistence import BlockingStep, InvalidDefinition, Step, StepContext
from chem_persistence.engine.steps.step_types import members, step_types
from chem_persistence.engine.steps.steps_fit import (
    check_fit,
    check_readable,
    extend_sequence,
)

T = TypeVar("T", bound=msgspec.Struct)


class A(msgspec.Struct):
    a: int


class SubA(A):
    b: int = 0


class B(msgspec.Struct):
    b: int


class TaggedC(msgspec.Struct, tag=True):
    c: int


class TaggedD(msgspec.Struct, tag=True):
    d: int


class Named(msgspec.Struct, Generic[T]):
    value: T


class Returning:
    """The parts of a step that these tests do not use."""

    id = "step"

    async def run(self, value: Any, _context: StepContext) -> Any:
        return value


class FromAToB(Returning, Step[A, B]):
    pass


class FromBToA(Returning, Step[B, A]):
    id = "b to a"


class FromNothing(Returning, Step[None, SubA]):
    id = "nothing"


class Inherited(FromAToB):
    pass


class AnyTo(Returning, Step[T, B]):
    pass


class Bound(AnyTo[A]):
    pass


class BoundTwice(Bound):
    pass


class Blocking(BlockingStep[A, B]):
    id = "blocking"

    def compute(self, _value: A, _context: StepContext) -> B:
        return B(1)


class MaybeA(Returning, Step[A | None, A | B]):
    id = "maybe"


class OldUnion(Returning, Step[Optional[A], Union[A, B]]):  # noqa: UP007, UP045  # old syntax
    id = "old"


class FromEither(Returning, Step[TaggedC | TaggedD, None]):
    id = "either"


class FromAmbiguous(Returning, Step[A | B, None]):
    id = "ambiguous"


class Bare(Returning, Step):  # type: ignore[type-arg]
    pass


class OfInts(Returning, Step[int, A]):
    pass


class OfLists(Returning, Step[list[A], A]):
    pass


class GenericStruct(Returning, Step[Named[A], A]):
    pass


@pytest.mark.parametrize(
    ("step", "types"),
    [
        (FromAToB(), (A, B)),
        (FromNothing(), (type(None), SubA)),
        (Inherited(), (A, B)),
        (Bound(), (A, B)),
        (BoundTwice(), (A, B)),
        (Blocking(), (A, B)),
        (MaybeA(), (A | None, A | B)),
        (OldUnion(), (A | None, A | B)),
        (GenericStruct(), (Named[A], A)),
    ],
)
def test_the_types_are_read_from_the_class(step: Step[Any, Any], types: tuple[Any, Any]) -> None:
    assert step_types(step) == types


@pytest.mark.parametrize("step", [Bare(), AnyTo(), OfInts(), OfLists()])
def test_types_that_are_missing_or_no_structs_are_refused(step: Step[Any, Any]) -> None:
    with pytest.raises(InvalidDefinition, match=f"{type(step).__name__} must derive from Step"):
        step_types(step)
    with pytest.raises(InvalidDefinition):
        extend_sequence((), step)


def test_a_union_has_its_members_and_another_type_itself() -> None:
    assert members(A | None) == (A, type(None))
    assert members(A) == (A,)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (FromAToB(), FromBToA()),
        (FromNothing(), FromAToB()),
        (FromNothing(), MaybeA()),
        (FromBToA(), OldUnion()),
    ],
)
def test_steps_fit_when_all_that_is_given_is_taken(
    earlier: Step[Any, Any], later: Step[Any, Any]
) -> None:
    check_fit(earlier, later)


@pytest.mark.parametrize(
    ("earlier", "later", "text"),
    [
        (FromAToB(), FromNothing(), "'nothing' takes NoneType, but step 'step' returns B"),
        (MaybeA(), FromAToB(), "'step' takes A, but step 'maybe' returns A | B"),
        (FromBToA(), FromBToA(), "'b to a' takes B, but step 'b to a' returns A"),
    ],
)
def test_steps_do_not_fit_when_something_that_is_given_is_not_taken(
    earlier: Step[Any, Any], later: Step[Any, Any], text: str
) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        check_fit(earlier, later)
    assert text in str(caught.value)


def test_a_union_of_tagged_structs_can_be_read_back() -> None:
    check_readable(FromEither())


def test_a_union_of_structs_without_tags_is_refused_when_the_step_is_added() -> None:
    with pytest.raises(
        InvalidDefinition, match=r"'ambiguous' takes .*, which msgspec cannot decode"
    ):
        extend_sequence((), FromAmbiguous())


@pytest.mark.parametrize("step_id", ["", None, 7])
def test_a_step_without_an_id_is_refused_when_it_is_added(step_id: Any) -> None:
    step = FromAToB()
    step.id = step_id
    with pytest.raises(InvalidDefinition, match="FromAToB has no id"):
        extend_sequence((), step)


def test_a_step_whose_class_says_no_id_is_refused_when_it_is_added() -> None:
    class NoId(Step[None, A]):
        async def run(self, _nothing: None, _context: StepContext) -> A:
            return A(1)

    with pytest.raises(InvalidDefinition, match="NoId has no id"):
        extend_sequence((), NoId())

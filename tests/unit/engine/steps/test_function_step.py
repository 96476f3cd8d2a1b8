"""A typed function is a step."""

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from chem_persistence import (
    BlockingStep,
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    InvalidDefinition,
    StepContext,
    StepKind,
    flow,
    step,
)


class Number(msgspec.Struct, frozen=True):
    n: int


class Word(msgspec.Struct, frozen=True):
    text: str


@step("double", version="3", params=Number(2))
async def double(number: Number) -> Number:
    """Double a number."""
    return Number(2 * number.n)


@step("spell")
def spell(number: Number, context: StepContext) -> Word:
    context.signal("thread", threading.current_thread() is threading.main_thread())
    return Word(f"{number.n} in attempt {context.attempt}")


async def test_functions_run_as_steps() -> None:
    store = InMemoryEventStore()
    engine = FlowEngine(store, InMemoryFlowRepository(store), flow("spell", double).then(spell))
    flow_id = await engine.run_to_end(input=Number(4))
    outputs = (await engine.load(flow_id)).steps[-1].outputs
    assert (await store.get_artifact(outputs[0])).payload == {"text": "8 in attempt 1"}
    signals = [event.kind for event in await store.list(flow_id) if event.variant == "G"]
    assert [getattr(signal, "data", None) for signal in signals] == [False]


def test_a_step_has_what_its_decorator_was_given() -> None:
    @step("load", kind=StepKind.SOURCE)
    def load(_nothing: None) -> Number:
        return Number(1)

    assert (double.id, double.version, double.params) == ("double", "3", Number(2))
    assert double.__doc__ == "Double a number."
    assert type(double).__name__ == "double"
    assert not isinstance(double, BlockingStep)
    assert isinstance(spell, BlockingStep)
    assert load.definition().kind is StepKind.SOURCE
    assert [each.id for each in flow("load", load).then(double).steps] == ["load", "double"]


def test_types_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidDefinition, match="step 'double' takes Number, but step 'spell'"):
        flow("wrong", spell).then(double)  # type: ignore[arg-type]


def no_input() -> Number:
    return Number(1)


def too_many(number: Number, context: StepContext, more: int) -> Number:
    return Number(number.n + more + context.attempt)


def only_by_name(number: Number, *, more: int) -> Number:
    return Number(number.n + more)


def no_return(number: Number):  # type: ignore[no-untyped-def]  # noqa: ANN201
    return number


def no_type(number) -> Number:  # type: ignore[no-untyped-def]  # noqa: ANN001
    return Number(number.n)


def no_such_type(number: "Missing") -> Number:  # type: ignore[name-defined]  # noqa: F821
    return Number(number.n)


def no_struct(number: int) -> Number:
    return Number(number)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (no_input, "must take the input, or the input and the context"),
        (too_many, "must take the input, or the input and the context"),
        (only_by_name, "must take the input, or the input and the context"),
        (no_return, "has no annotation of return"),
        (no_type, "has no annotation of number"),
        (no_such_type, "'Missing' is not defined"),
        (print, "is not a function"),
    ],
)
def test_a_function_that_cannot_be_a_step_is_refused(
    function: Callable[..., Any], reason: str
) -> None:
    with pytest.raises(InvalidDefinition, match=reason):
        step("wrong")(function)


def test_a_flow_refuses_a_function_whose_types_cannot_be_stored() -> None:
    with pytest.raises(InvalidDefinition, match="got int"):
        flow("wrong", step("wrong")(no_struct))


def test_a_parameter_with_a_default_is_the_functions_own() -> None:
    @step("add")
    def add(number: Number, more: int = 2) -> Number:
        return Number(number.n + more)

    assert flow("add", add).input_artifact(Number(1)) is not None

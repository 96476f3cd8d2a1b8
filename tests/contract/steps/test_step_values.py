"""What a step gets and returns, on every store: values of the declared types, bit for bit."""

import struct
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pytest

from chem_persistence import (
    FlowEngine,
    InvalidArgument,
    InvalidPayload,
    Step,
    StepContext,
    StepRaised,
    StepStatus,
)
from tests.support.flows.flows import new_flow_id
from tests.support.servers.backends import Backend

Output = TypeVar("Output")


class Sample(msgspec.Struct):
    data: Any = None
    named: dict[str, Any] = {}
    number: int | float = 0


class Pass(Step[Sample, Sample]):
    """Return the input, and keep it for the test to look at."""

    def __init__(self, step_id: str) -> None:
        self.id = step_id
        self.got: list[Sample] = []

    async def run(self, sample: Sample, _context: StepContext) -> Sample:
        self.got.append(sample)
        return sample


BEYOND = [
    1e19,
    2.0**53,
    -(2.0**53 + 2),
    1000000000000000512.0,
    123456789012345680000.0,
    -9.99999999999999e20,
]


def bits(number: Any) -> bytes:
    assert type(number) is float
    return struct.pack("<d", number)


@pytest.mark.parametrize("value", BEYOND)
async def test_a_float_without_a_fraction_reaches_every_step_as_that_float(
    backend: Backend, value: float
) -> None:
    first, second = Pass("first"), Pass("second")
    builder = FlowEngine.builder(backend.store, backend.repository)
    engine, flow_id = builder.first_step(first).add_step(second).build(), new_flow_id()
    await engine.run_to_end(flow_id, Sample([value, {"x": value}], {"doping": value}, value))
    for got in (*first.got, *second.got):
        numbers = [got.data[0], got.data[1]["x"], got.named["doping"], got.number]
        assert {bits(number) for number in numbers} == {bits(value)}


@pytest.mark.parametrize("value", BEYOND)
async def test_it_does_so_when_another_process_goes_on(backend: Backend, value: float) -> None:
    second, flow_id = Pass("second"), new_flow_id()
    builder = FlowEngine.builder(backend.store, backend.repository)
    await (
        builder.first_step(Pass("first"))
        .add_step(Pass("second"))
        .build()
        .run_step(flow_id, Sample(value, {"doping": value}, value))
    )
    async with backend.reconnected() as again:
        builder = FlowEngine.builder(again.store, again.repository)
        await builder.first_step(Pass("first")).add_step(second).build().run_to_end(flow_id)
    assert bits(second.got[0].data) == bits(second.got[0].number) == bits(value)
    assert bits(second.got[0].named["doping"]) == bits(value)


@pytest.mark.parametrize("value", [2**53 - 1, -(2**53 - 1), 0, 7])
async def test_an_integer_stays_an_integer(backend: Backend, value: int) -> None:
    first, second = Pass("first"), Pass("second")
    builder = FlowEngine.builder(backend.store, backend.repository)
    engine = builder.first_step(first).add_step(second).build()
    await engine.run_to_end(input=Sample(value, {"n": value}, value))
    for got in (*first.got, *second.got):
        assert (got.data, got.named, got.number) == (value, {"n": value}, value)
        assert {type(got.data), type(got.named["n"]), type(got.number)} == {int}


class Whole(msgspec.Struct):
    n: int


class Positive(msgspec.Struct):
    n: Annotated[int, msgspec.Meta(ge=0)]


class Nested(msgspec.Struct):
    items: list[Positive]


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    n: int


class Wider(Closed):
    more: int = 0


class Plain(msgspec.Struct):
    n: int


class Wide(Plain):
    more: int = 0


class Renamed(Plain, rename="upper"):
    other: int = 0


class Tagged(msgspec.Struct, tag=True):
    n: int


class TaggedWide(Tagged, tag=True):
    more: int = 0


class Box(msgspec.Struct, Generic[Output]):
    held: Output


@dataclass
class Case(Generic[Output]):
    held: Output


class First(Step[None, Output]):
    """Return the values given, one an attempt."""

    id = "first"

    def __init__(self, *outputs: Output) -> None:
        self._outputs = outputs

    async def run(self, _nothing: None, context: StepContext) -> Output:
        return self._outputs[context.attempt - 1]


class FirstWhole(First[Whole]):
    pass


class FirstPositive(First[Positive]):
    pass


class FirstNested(First[Nested]):
    pass


class FirstClosed(First[Closed]):
    pass


class FirstMaybe(First[Whole | None]):
    pass


class FirstPlain(First[Plain]):
    pass


@pytest.mark.parametrize(
    ("step", "path"),
    [
        (FirstWhole(Whole("7"), Whole(7)), "$.n"),  # type: ignore[arg-type]
        (FirstWhole(Whole(None), Whole(7)), "$.n"),  # type: ignore[arg-type]
        (FirstWhole(Whole(1.5), Whole(7)), "$.n"),  # type: ignore[arg-type]
        (FirstWhole(Whole(1e19), Whole(7)), "$.n"),  # type: ignore[arg-type]
        (FirstPositive(Positive(-1), Positive(1)), "$.n"),
        (FirstNested(Nested([Positive(1), Positive(-1)]), Nested([])), "$.items[1].n"),
        (FirstClosed(Wider(1), Closed(1)), "$"),
        (FirstMaybe(Whole("7"), None), "$.n"),  # type: ignore[arg-type]
    ],
)
async def test_an_output_that_is_not_of_its_declared_type_fails_its_own_step(
    backend: Backend, step: Step[None, Any], path: str
) -> None:
    engine = FlowEngine.builder(backend.store, backend.repository).first_step(step).build()
    flow_id = new_flow_id()
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(flow_id)
    cause = caught.value.__cause__
    assert isinstance(cause, InvalidPayload)
    assert (cause.path, "the output of step 'first'" in cause.reason) == (path, True)
    assert await engine.event_trace(flow_id) == list("ISX")
    await engine.schedule_retry(flow_id, reason="the code is mended")
    await engine.run_to_end(flow_id)
    assert await engine.event_trace(flow_id) == list("ISXRSFC")


class FirstBoxes(First[Box[int] | Box[str]]):
    pass


class FirstCases(First[Case[int] | Case[list[str]] | None]):
    pass


@pytest.mark.parametrize(
    "step",
    [
        FirstPlain(Wide(1, 2)),
        FirstMaybe(None),
        FirstMaybe(Whole(1)),
        FirstWhole(Whole(-1)),
        FirstBoxes(Box("text")),
        FirstBoxes(Box(1)),
        FirstCases(Case(["C"])),
    ],
)
async def test_an_output_of_its_declared_type_is_kept(
    backend: Backend, step: Step[None, Any]
) -> None:
    engine = FlowEngine.builder(backend.store, backend.repository).first_step(step).build()
    flow_id = await engine.run_to_end()
    assert await engine.event_trace(flow_id) == list("ISFC")


async def test_an_output_of_no_member_of_its_declared_type_fails_its_own_step(
    backend: Backend,
) -> None:
    step = FirstBoxes(Box(None), Box("text"))  # type: ignore[arg-type]
    engine = FlowEngine.builder(backend.store, backend.repository).first_step(step).build()
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end()
    assert r"not a valid Box[int] | Box[str]" in str(caught.value.__cause__)


class FirstWider(First[Wider]):
    pass


class FirstTagged(First[TaggedWide | Tagged]):
    pass


class FirstWide(First[Wide | Renamed]):
    pass


class Take(Step[Output, Whole]):
    id = "take"

    async def run(self, _given: Output, _context: StepContext) -> Whole:
        return Whole(1)


class TakeClosed(Take[Closed]):
    pass


class TakeTagged(Take[Tagged | None]):
    pass


class TakePlain(Take[Plain]):
    pass


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (FirstWider(Wider(1)), TakeClosed(), r"which 'take' takes, is not a valid Closed"),
        (FirstTagged(TaggedWide(1), Tagged(1)), TakeTagged(), "not a valid Tagged | NoneType"),
    ],
)
async def test_an_output_that_the_next_step_cannot_read_fails_its_own_step(
    backend: Backend, first: Step[None, Any], second: Step[Any, Whole], reason: str
) -> None:
    builder = FlowEngine.builder(backend.store, backend.repository)
    engine, flow_id = builder.first_step(first).add_step(second).build(), new_flow_id()
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(flow_id)
    assert reason in str(caught.value.__cause__)
    assert await engine.event_trace(flow_id) == list("ISX")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FirstWide(Wide(1, 2)), TakePlain()),
        (FirstWide(Renamed(1, 2)), TakePlain()),
        (FirstTagged(Tagged(1)), TakeTagged()),
        (FirstClosed(Closed(1)), TakeClosed()),
    ],
)
async def test_a_subclass_that_the_next_step_can_read_is_kept(
    backend: Backend, first: Step[None, Any], second: Step[Any, Whole]
) -> None:
    builder = FlowEngine.builder(backend.store, backend.repository)
    engine = builder.first_step(first).add_step(second).build()
    flow_id = await engine.run_to_end()
    assert await engine.event_trace(flow_id) == list("ISFSFC")


@pytest.mark.parametrize("value", ["7", None, 1.5, 1e19])
async def test_an_input_that_is_not_of_its_declared_type_starts_no_flow(
    backend: Backend, value: Any
) -> None:
    class Take(Step[Whole, Whole]):
        id = "take"

        async def run(self, whole: Whole, _context: StepContext) -> Whole:
            return whole

    engine = FlowEngine.builder(backend.store, backend.repository).first_step(Take()).build()
    flow_id = new_flow_id()
    with pytest.raises(InvalidArgument, match=r"\$\.n: the input is not a valid Whole"):
        await engine.run_to_end(flow_id, Whole(value))
    assert await backend.store.list(flow_id) == []


class Later(msgspec.Struct):
    n: int
    solvent: str


class LaterWithDefault(msgspec.Struct):
    n: int
    solvent: str = "water"


class Make(Step[None, Whole]):
    id = "make"

    async def run(self, _nothing: None, _context: StepContext) -> Whole:
        return Whole(1)


class MakeLater(Step[None, Later]):
    id = "make"

    async def run(self, _nothing: None, _context: StepContext) -> Later:
        return Later(1, "water")


class MakeLaterWithDefault(Step[None, LaterWithDefault]):
    id = "make"

    async def run(self, _nothing: None, _context: StepContext) -> LaterWithDefault:
        return LaterWithDefault(1)


class UseLater(Step[Later, Whole]):
    id = "use"

    async def run(self, later: Later, _context: StepContext) -> Whole:
        return Whole(len(later.solvent))


class UseLaterWithDefault(Step[LaterWithDefault, Whole]):
    id = "use"

    async def run(self, later: LaterWithDefault, _context: StepContext) -> Whole:
        return Whole(len(later.solvent))


class Use(Step[Whole, Whole]):
    id = "use"

    async def run(self, whole: Whole, _context: StepContext) -> Whole:
        return whole


async def test_a_struct_that_gained_a_required_field_is_named_and_a_default_mends_it(
    backend: Backend,
) -> None:
    builder, flow_id = FlowEngine.builder(backend.store, backend.repository), new_flow_id()
    old = builder.first_step(Make()).add_step(Use()).build()
    made = (await old.run_step(flow_id)).steps[0].outputs[0]
    required = builder.first_step(MakeLater()).add_step(UseLater()).build()
    with pytest.raises(StepRaised) as caught:
        await required.run_to_end(flow_id)
    cause = caught.value.__cause__
    assert isinstance(cause, InvalidPayload)
    for part in (
        "step 'use'",
        made,
        "'Whole'",
        "Later",
        "missing required field `solvent`",
        "needs a default",
    ):
        assert part in cause.reason
    mended = builder.first_step(MakeLaterWithDefault()).add_step(UseLaterWithDefault()).build()
    assert (await mended.load(flow_id)).steps[1].status is StepStatus.FAILED
    await mended.schedule_retry(flow_id, reason="the new field has a default")
    await mended.run_to_end(flow_id)
    assert await mended.event_trace(flow_id) == list("ISFSXRSFC")

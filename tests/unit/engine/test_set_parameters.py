"""Parameters are set after a flow was built, and only as the steps' structs allow."""

from typing import Any, ClassVar, Self

import msgspec
import pytest

from chem_persistence import (
    Flow,
    InvalidArgument,
    InvalidDefinition,
    MaxScore,
    Step,
    StepContext,
    Weighted,
    flow,
    step,
)
from chem_persistence.cli.parameters import given_params
from chem_persistence.engine.parameters.stored import with_stored_params


class Number(msgspec.Struct):
    n: int


class Grid(msgspec.Struct, frozen=True):
    points: int = 10
    spacing: float = 0.5


class EmbedParams(msgspec.Struct, frozen=True):
    iterations: int = 200
    seed: int | None = None
    grid: Grid = Grid()
    weights: dict[str, float] = {}
    policy: MaxScore | Weighted = MaxScore("energy")
    names: tuple[str, ...] = ()


class Embed(Step[Number, Number]):
    id = "embed"
    params: EmbedParams = EmbedParams()

    async def run(self, number: Number, _context: StepContext) -> Number:
        return Number(number.n + self.params.iterations)


class OptimiseParams(msgspec.Struct, frozen=True, rename="camel"):
    most_steps: int = 5
    method: str = "gfn2"


class Optimise(Step[Number, Number]):
    id = "optimise.fast"
    params: OptimiseParams = OptimiseParams()

    async def run(self, number: Number, _context: StepContext) -> Number:
        return Number(number.n * self.params.most_steps)


class Plain(Step[Number, Number]):
    id = "plain"

    async def run(self, number: Number, _context: StepContext) -> Number:
        return number


FLOW = flow("opt", Embed()).then(Optimise()).then(Plain())


def params_of(changed: Flow[Any, Any], step_id: str = "embed") -> Any:
    return next(step.params for step in changed.steps if step.id == step_id)


def test_what_is_not_named_keeps_its_value() -> None:
    changed = FLOW.with_params({"embed": {"iterations": 500, "grid": {"points": 4}}})
    assert params_of(changed) == EmbedParams(iterations=500, grid=Grid(points=4))
    assert params_of(FLOW) == EmbedParams()
    assert changed.name == FLOW.name
    assert changed.definition_hash != FLOW.definition_hash
    assert changed.parameter_layers == {"embed.iterations": "flow", "embed.grid.points": "flow"}


def test_equal_parameters_make_an_equal_definition() -> None:
    assert FLOW.with_params({"embed": {"iterations": 200}}).definition_hash == FLOW.definition_hash
    built = Embed()
    built.params = EmbedParams(seed=7)
    other = flow("other", built).then(Optimise()).then(Plain())
    assert FLOW.with_params({"embed": {"seed": 7}}).definition_hash == other.definition_hash


def test_the_later_layer_counts() -> None:
    changed = (
        FLOW.with_params({"embed": {"iterations": 300, "seed": 1}})
        .with_params({"embed": {"iterations": 400, "grid": {"points": 2}}}, by="submission")
        .with_params({"embed": {"iterations": 500}}, by="person")
    )
    assert params_of(changed) == EmbedParams(iterations=500, seed=1, grid=Grid(points=2))
    assert changed.parameter_layers == {
        "embed.iterations": "person",
        "embed.seed": "flow",
        "embed.grid.points": "submission",
    }
    assert changed.then(Last()).parameter_layers == changed.parameter_layers


class Last(Plain):
    id = "last"


def test_other_values_than_structs_are_set_as_a_whole() -> None:
    first = FLOW.with_params({"embed": {"weights": {"a": 1.0, "b": 2.0}, "names": ["x"]}})
    second = first.with_params({"embed": {"weights": {"a": 3.0}, "policy": Weighted({"e": 1.0})}})
    assert params_of(second).weights == {"a": 3.0}
    assert params_of(second).names == ("x",)
    assert params_of(second).policy == Weighted({"e": 1.0})
    third = second.with_params({"embed": {"policy": {"weights": {"rmsd": -1.0}}}})
    assert params_of(third).policy == Weighted({"rmsd": -1.0})


def test_a_parameter_is_named_as_in_python() -> None:
    changed = FLOW.with_params({"optimise.fast": {"most_steps": 9}})
    assert params_of(changed, "optimise.fast").most_steps == 9


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"embd": {"iterations": 1}}, "the flow has no step 'embd'; it has embed, optimise.fast"),
        ({"embed": {"iteration": 1}}, "'embed' has no parameter iteration; it has iterations, "),
        ({"embed": {"grid": {"x": 1}}}, "no parameter grid.x; it has grid.points, grid.spacing"),
        ({"embed": {"iterations": "many"}}, r"of step 'embed': Expected `int`, got `str` .*iter"),
        ({"embed": {"iterations": 1.5}}, "Expected `int`, got `float`"),
        ({"embed": {"grid": {"points": None}}}, r"Expected `int`, got `null` - at `\$.grid.point"),
        ({"optimise.fast": {"mostSteps": 1}}, "no parameter mostSteps"),
        ({"plain": {"x": 1}}, "step 'plain' has no parameters"),
    ],
)
def test_what_the_structs_do_not_allow_is_refused(params: Any, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        FLOW.with_params(params)


class Kept(Embed):
    id = "kept"

    def __init__(self, params: EmbedParams) -> None:
        self.params = params
        self.doubled = 2 * params.iterations


class Remade(Kept):
    def with_params(self, params: Any) -> Self:
        return type(self)(params)


def test_a_step_that_keeps_what_follows_from_its_parameters_has_to_make_itself_anew() -> None:
    with pytest.raises(InvalidArgument, match=r"attribute .doubled.*override `with_params`"):
        flow("kept", Kept(EmbedParams())).with_params({"kept": {"iterations": 1}})
    changed = flow("kept", Remade(EmbedParams())).with_params({"kept": {"iterations": 1}})
    (remade,) = changed.steps
    assert isinstance(remade, Remade)
    assert remade.doubled == 2


def test_steps_of_functions_and_steps_with_children_are_refused() -> None:
    @step("function", params=Grid())
    def function(number: Number) -> Number:
        return number

    with pytest.raises(InvalidArgument, match="the function does not get them"):
        flow("f", function).with_params({"function": {"points": 1}})
    with pytest.raises(InvalidArgument, match="set the parameters of their steps where"):
        flow("c", Plain()).call(FLOW).with_params({"opt": {"combinator": "x"}})


def test_a_stored_definition_gives_a_flow_its_parameters_or_is_anothers() -> None:
    changed = FLOW.with_params({"embed": {"seed": 3}, "optimise.fast": {"method": "mmff"}})
    found = with_stored_params(FLOW, changed.definition)
    assert found is not None
    assert found.definition_hash == changed.definition_hash
    assert params_of(found) == params_of(changed)

    class Newer(Embed):
        version = "2"

    class Wider(Embed):
        params: Any = msgspec.defstruct("Wider", [("iterations", int, 200), ("x", int, 1)])()

    for first in (Newer(), Wider()):
        other = flow("opt", first).then(Optimise()).then(Plain())
        assert with_stored_params(other, changed.definition) is None
    assert with_stored_params(flow("opt", Embed()), changed.definition) is None


class Twice(Optimise):
    id = "twice"


@pytest.mark.parametrize(
    ("texts", "params"),
    [
        (["embed.iterations=500"], {"embed": {"iterations": 500}}),
        (["iterations=5", "seed=null"], {"embed": {"iterations": 5, "seed": None}}),
        (["optimise.fast.method=mmff"], {"optimise.fast": {"method": "mmff"}}),
        (["method=a=b"], {"optimise.fast": {"method": "a=b"}}),
        (
            ["embed.grid.points=3", "grid.spacing=0.1"],
            {"embed": {"grid": {"points": 3, "spacing": 0.1}}},
        ),
        (['embed.weights={"a": 1}'], {"embed": {"weights": {"a": 1}}}),
    ],
)
def test_a_person_sets_parameters_by_texts(texts: list[str], params: Any) -> None:
    assert given_params(FLOW, texts) == params


def test_a_name_without_a_step_is_that_of_the_step_a_branch_begins_with() -> None:
    both = FLOW.then(Twice())
    assert given_params(both, ["method=x"], "twice") == {"twice": {"method": "x"}}
    assert given_params(both, ["seed=1"], "twice") == {"embed": {"seed": 1}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("embed.iterations", "must be like step.parameter=value"),
        ("=5", "must be like step.parameter=value"),
        ("size=5", "no step has it, of embed, optimise.fast, plain, twice"),
        ("method=5", "several steps have it: optimise.fast, twice"),
        ("embed.weights.a=5", "'weights' of step 'embed' has no named parts"),
    ],
)
def test_a_text_that_is_not_clear_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        given_params(FLOW.then(Twice()), [text])


def test_a_policy_of_ones_own_is_a_parameter_too() -> None:
    class Near(msgspec.Struct, frozen=True):
        policy_id: ClassVar[str] = "near"
        target: float = 0.0

    assert msgspec.structs.fields(Near)[0].name == "target"
    with pytest.raises(InvalidDefinition):
        Kept(EmbedParams()).with_params(EmbedParams(seed=1))

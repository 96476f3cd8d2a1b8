"""A flow as a value: steps that fit, which an engine or a worker runs, and a client submits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, Literal, TypeVar, cast, overload

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.engine.attempt import check_typed, declared_types
from chem_persistence.engine.children.choose import choose_step
from chem_persistence.engine.children.gather import call_step, gather_step
from chem_persistence.engine.children.map import map_step
from chem_persistence.engine.children.repeat import repeat_step
from chem_persistence.engine.children.step import ChildrenStep
from chem_persistence.engine.children.values import Gathered2, Gathered3, Gathered4, Many
from chem_persistence.engine.jobs.step import BatchJob, check_batch_job
from chem_persistence.engine.parameters.changes import (
    Layer,
    Params,
    changed_steps,
    paths_of,
)
from chem_persistence.engine.reuse import check_reuse
from chem_persistence.engine.steps.process_step import ProcessStep, check_process_step
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.step_types import class_of, members, step_types
from chem_persistence.engine.steps.steps_fit import Steps, extend_sequence
from chem_persistence.errors import InvalidArgument, InvalidDefinition, InvalidPayload

__all__ = ["Flow", "extended", "flow"]

Input = TypeVar("Input")
Output = TypeVar("Output")
Next = TypeVar("Next")
Item = TypeVar("Item")
Result = TypeVar("Result")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


class Flow(Generic[Input, Output]):
    """Steps in order, each of which accepts what the one before it returns; made by `flow`.

    A flow is a value: it has no store, is never changed, and may be shared by engines, clients and
    workers. Together its steps take an `Input` and return an `Output`. Its `name` is stored with
    each of its runs, for people; it is never hashed, so flows of equal steps have one definition.
    """

    def __init__(
        self,
        name: str,
        steps: Steps,
        records: Sequence[str] = (),
        parameter_layers: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._steps = steps
        self._records = _checked_records(records)
        self._parameter_layers = dict(parameter_layers or {})
        self._definition: FlowDefinition | None = None

    @property
    def name(self) -> str:
        """The flow's name in its program; empty for the flow of an engine's builder."""
        return self._name

    @property
    def steps(self) -> Steps:
        """The flow's steps, in order."""
        return self._steps

    @property
    def records(self) -> tuple[str, ...]:
        """The packages whose versions are recorded with each run; see `flow`."""
        return self._records

    @property
    def parameter_layers(self) -> Mapping[str, str]:
        """Who has set which parameter, such as `embed.iterations`; the others are the steps'."""
        return self._parameter_layers

    def __repr__(self) -> str:
        steps = "".join(f" > {step.id}" for step in self.steps)
        return f"<Flow {self.name!r}{steps}>"

    @property
    def definition(self) -> FlowDefinition:
        """The flow's steps as values that are hashed, stored and compared.

        Raises:
            InvalidPayload: a step's params are not I-JSON, which `flow` and `then` have checked.
        """
        if self._definition is None:
            self._definition = FlowDefinition(tuple(step.definition() for step in self.steps))
        return self._definition

    @property
    def definition_hash(self) -> str:
        """The hash of the flow's definition, by which workers find its runs."""
        return self.definition.definition_hash

    def then(self, step: Step[Output, Next]) -> "Flow[Input, Next]":
        """Return a flow of the same name with one more step, which takes what the last one returns.

        Raises:
            InvalidDefinition: the types do not fit, the step has no id or one that is taken, its
                class does not name its types, a field of them can never be JSON, it is a source,
                or the last step is a sink.
            InvalidPayload: the step's params are not I-JSON.
        """
        steps = extended(self.steps, step)
        longer = Flow[Input, Next](self.name, steps, self.records, self.parameter_layers)
        step.definition()
        return longer

    def with_params(self, params: Params, *, by: Layer = "flow") -> "Flow[Input, Output]":
        """Return this flow with other parameters, by the ids of the steps and their names.

        What is not named keeps its value, also in a struct within the parameters; any other value
        is set as a whole. `by` is stored with each run: who has set them.

        Raises:
            InvalidArgument: there is no such step or parameter, a value is not of its type, or the
                step cannot be given other parameters; see `Step.with_params`.
            InvalidPayload: a value is not I-JSON.
        """
        steps = changed_steps(self.steps, params)
        layers = {**self.parameter_layers, **dict.fromkeys(paths_of(self.steps, params), by)}
        return Flow[Input, Output](self.name, steps, self.records, layers)

    def with_steps(
        self, steps: Steps, layers: Mapping[str, str] | None = None
    ) -> "Flow[Input, Output]":
        """Return this flow with copies of its steps that have the parameters of a stored flow."""
        return Flow[Input, Output](self.name, steps, self.records, layers)

    def call(
        self,
        flow: "Flow[Output, Next]",
        *,
        id: str = "",  # noqa: A002
        reuse: Literal["never", "any"] = "never",
    ) -> "Flow[Input, Next]":
        """Return a flow with one more step, which runs `flow` as its child on the last output.

        The step has the id given, or the name of the flow. With `reuse = "any"` it takes over the
        result of an equal step (`Step.reuse`), without a child.

        Raises:
            InvalidDefinition: as `then`.
        """
        return self.then(call_step(flow, id=id, reuse=reuse))

    def map(
        self: "Flow[Input, Many[Item]]",
        flow: "Flow[Item, Result]",
        *,
        id: str = "",  # noqa: A002
        at_once: int = 100,
        failures: float = 0.0,
        reuse: Literal["never", "any"] = "never",
    ) -> "Flow[Input, Many[Result]]":
        """Return a flow with one more step, which runs `flow` for each item of the last output.

        At most `at_once` children are under way at the same time. The step fails if more than the
        share `failures` of the items fail or are cancelled; the places of those that are tolerated
        are `missing` in its output. The step has the id given, or the name of the flow. `reuse` is
        as for `call`.

        Raises:
            InvalidDefinition: as `then`; or `at_once` is less than 1, or `failures` is not from 0
                to 1.
        """
        step = map_step(flow, id=id, at_once=at_once, failures=failures, reuse=reuse)
        return cast("Flow[Input, Many[Result]]", self.then(step))

    @overload
    def gather(
        self,
        first: "Flow[Output, A]",
        second: "Flow[Output, B]",
        /,
        *,
        id: str = ...,
        reuse: Literal["never", "any"] = ...,
    ) -> "Flow[Input, Gathered2[A, B]]": ...
    @overload
    def gather(
        self,
        first: "Flow[Output, A]",
        second: "Flow[Output, B]",
        third: "Flow[Output, C]",
        /,
        *,
        id: str = ...,
        reuse: Literal["never", "any"] = ...,
    ) -> "Flow[Input, Gathered3[A, B, C]]": ...
    @overload
    def gather(
        self,
        first: "Flow[Output, A]",
        second: "Flow[Output, B]",
        third: "Flow[Output, C]",
        fourth: "Flow[Output, D]",
        /,
        *,
        id: str = ...,
        reuse: Literal["never", "any"] = ...,
    ) -> "Flow[Input, Gathered4[A, B, C, D]]": ...
    def gather(
        self,
        *flows: "Flow[Any, Any]",
        id: str = "",  # noqa: A002
        reuse: Literal["never", "any"] = "never",
    ) -> "Flow[Any, Any]":
        """Return a flow with one more step, which runs two to four flows on the last output.

        They run side by side; the output has theirs as `first`, `second`, `third` and `fourth`. The
        step has the id given, or `gather`. `reuse` is as for `call`.

        Raises:
            InvalidDefinition: as `then`; or there are not two to four flows, or they do not take
                the same.
        """
        return self.then(gather_step(flows, id=id, reuse=reuse))

    def choose(
        self,
        branch: Callable[[Output], str],
        flows: "Mapping[str, Flow[Output, Next]]",
        *,
        id: str = "",  # noqa: A002
        version: str = "1",
        reuse: Literal["never", "any"] = "never",
    ) -> "Flow[Input, Next]":
        """Return a flow with one more step, which runs the flow that `branch` names.

        `branch` is called with the last output, and never again once the flow that it named was
        submitted. Its code is not hashed: change `version` when it comes to choose otherwise. The
        step has the id given, or `choose`. `reuse` is as for `call`.

        Raises:
            InvalidDefinition: as `then`; or there is no flow.
        """
        return self.then(choose_step(branch, flows, id=id, version=version, reuse=reuse))

    def repeat(
        self,
        body: "Flow[Output, Output]",
        *,
        until: Callable[[Output], bool],
        limit: int,
        id: str = "",  # noqa: A002
        version: str = "1",
        reuse: Literal["never", "any"] = "never",
    ) -> "Flow[Input, Output]":
        """Return a flow with one more step, which runs `body` on its own output, round by round.

        The first round takes the last output. `until` is called with the output of each round: if
        it is true, that is the step's output. After `limit` rounds the step fails with
        `NotConverged`. The code of `until` is not hashed: change `version` when it comes to decide
        otherwise. The step has the id given, or the name of the flow. `reuse` is as for `call`.

        Raises:
            InvalidDefinition: as `then`; or `limit` is less than 1, or `body` does not take what it
                returns.
        """
        step = repeat_step(body, until, limit=limit, id=id, version=version, reuse=reuse)
        return self.then(step)

    @property
    def inner(self) -> "tuple[Flow[Any, Any], ...]":
        """The flows that the steps of this one run, at any depth, each definition once."""
        return tuple({flow.definition_hash: flow for flow in self._inner()}.values())

    def _inner(self) -> "Iterator[Flow[Any, Any]]":
        for step in self.steps:
            if isinstance(step, ChildrenStep):
                for flow in cast("tuple[Flow[Any, Any], ...]", tuple(step.flows)):
                    yield flow
                    yield from flow.inner

    def input_artifact(self, value: Input) -> Artifact | None:
        """Return the artifact of an input, whose fields have the types that are declared.

        None is no artifact; it is the input of a flow whose first step takes None.

        Raises:
            InvalidArgument: the first step does not take such a value.
            InvalidPayload: it is not I-JSON.
        """
        self.check_input_class(value)
        if value is None:
            return None
        artifact = Artifact.from_payload(kind=type(value).__qualname__, payload=value)
        try:
            takes = step_types(self.steps[0])[0]
            check_typed(artifact, declared_types(value, takes), "the input")
        except InvalidPayload as error:
            raise InvalidArgument("input", str(error)) from error
        return artifact

    def check_input_class(self, value: object) -> None:
        """Check that an input is of a class that the first step takes.

        Raises:
            InvalidArgument: it is not.
        """
        takes = step_types(self.steps[0])[0]
        if type(value) is not takes and not isinstance(
            value, tuple(class_of(member) for member in members(takes))
        ):
            raise InvalidArgument(
                "input", f"step {self.steps[0].id!r} does not take {type(value).__qualname__}"
            )

    def read_output(self, artifact: Artifact) -> Output:
        """Return the output of the flow that is stored as this artifact.

        Raises:
            InvalidPayload: it is not a value of the type that the last step declares; it was stored
                by other code.
            InvalidArgument: msgspec cannot decode the type.
        """
        gives = members(step_types(self.steps[-1])[1])
        named = [member for member in gives if class_of(member).__qualname__ == artifact.kind]
        *others, last = named or gives
        for member in others:
            with suppress(InvalidPayload):
                return cast("Output", artifact.decode(member))
        return cast("Output", artifact.decode(last))


def flow(
    name: str, first: Step[Input, Output], *, records: Sequence[str] = ()
) -> Flow[Input, Output]:
    """Return a flow of one step, whose input is the flow's; `Flow.then` adds others.

    `records` names the packages on which the results depend, as pip does. Their versions in each
    process that runs the flow are stored with it, beside those of Python and of this library; they
    are never hashed. The flows that a step runs have their own.

    Raises:
        InvalidDefinition: the name is empty; the step has no id, its class does not name its types,
            a field of them can never be JSON, or its input type cannot be decoded; or `records`
            names no packages.
        InvalidPayload: the step's params are not I-JSON.
    """
    if not name:
        raise InvalidDefinition("a flow's name is a string that is not empty")
    begun = Flow[Input, Output](name, extended((), first), records)
    first.definition()
    return begun


def _checked_records(records: Sequence[str]) -> tuple[str, ...]:
    if isinstance(records, str) or not all(records):
        raise InvalidDefinition(f"records must be the names of packages, not {records!r}")
    return tuple(records)


def extended(steps: Steps, step: Step[Any, Any]) -> Steps:
    """Return the sequence with one more step, which is checked as `extend_sequence` does.

    Raises:
        InvalidDefinition: see `extend_sequence`, `check_reuse`, `check_process_step` and
            `check_batch_job`.
    """
    longer = extend_sequence(steps, step)
    check_reuse(step)
    if isinstance(step, ProcessStep):
        check_process_step(step)
    if isinstance(step, BatchJob):
        check_batch_job(step)
    return longer

"""A flow as a value: steps that fit, which an engine or a worker runs, and a client submits."""

from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.engine.attempt import check_typed, declared_types
from chem_persistence.engine.process_step import ProcessStep, check_process_step
from chem_persistence.engine.step import Step
from chem_persistence.engine.step_types import class_of, members, step_types
from chem_persistence.engine.steps_fit import Steps, extend_sequence
from chem_persistence.errors import InvalidArgument, InvalidDefinition, InvalidPayload

__all__ = ["Flow", "extended", "flow"]

Input = TypeVar("Input")
Output = TypeVar("Output")
Next = TypeVar("Next")


class Flow(Generic[Input, Output]):
    """Steps in order, each of which accepts what the one before it returns; made by `flow`.

    A flow is a value: it has no store, is never changed, and may be shared by engines, clients and
    workers. Together its steps take an `Input` and return an `Output`. Its `name` is stored with
    each of its runs, for people; it is never hashed, so flows of equal steps have one definition.
    """

    def __init__(self, name: str, steps: Steps) -> None:
        self._name = name
        self._steps = steps
        self._definition: FlowDefinition | None = None

    @property
    def name(self) -> str:
        """The flow's name in its program; empty for the flow of an engine's builder."""
        return self._name

    @property
    def steps(self) -> Steps:
        """The flow's steps, in order."""
        return self._steps

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
        longer = Flow[Input, Next](self.name, extended(self.steps, step))
        step.definition()
        return longer

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
        if not isinstance(value, tuple(class_of(member) for member in members(takes))):
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


def flow(name: str, first: Step[Input, Output]) -> Flow[Input, Output]:
    """Return a flow of one step, whose input is the flow's; `Flow.then` adds others.

    Raises:
        InvalidDefinition: the name is empty; the step has no id, its class does not name its types,
            a field of them can never be JSON, or its input type cannot be decoded.
        InvalidPayload: the step's params are not I-JSON.
    """
    if not name:
        raise InvalidDefinition("a flow's name is a string that is not empty")
    begun = Flow[Input, Output](name, extended((), first))
    first.definition()
    return begun


def extended(steps: Steps, step: Step[Any, Any]) -> Steps:
    """Return the sequence with one more step, which is checked as `extend_sequence` does.

    Raises:
        InvalidDefinition: see `extend_sequence` and `check_process_step`.
    """
    longer = extend_sequence(steps, step)
    if isinstance(step, ProcessStep):
        check_process_step(step)
    return longer

"""Flows as the log has them: who has not their code can submit them again, with other parameters.

The names of the parameters are those of the stored definition, and their types as far as JSON shows
them. A worker that has the code serves such a flow, if the parameters fit it.
"""

from collections.abc import Mapping
from keyword import iskeyword
from typing import Any, NoReturn
from uuid import UUID

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import StepDefinition
from chem_persistence.domain.events import FlowEvent, FlowInitialized
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.parameters.changes import Layer, Params
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.engine.steps.step import Step
from chem_persistence.errors import FlowNotFound, InvalidArgument
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.ports import EventStore
from chem_persistence.store.program.what_ran import parameter_layers

__all__ = ["RecordedFlow", "recorded_flow", "recorded_input"]


class _RecordedStep(Step[Any, Any]):
    """A step of which nothing but its definition is known; `recorded` are its params as JSON."""

    recorded: Any

    def __init__(self, stored: StepDefinition) -> None:
        self.id, self.kind, self.version = stored.id, stored.kind, stored.version
        self.recorded = stored.params
        self.params = _as_struct(stored.params) if _is_named(stored.params) else None

    def hashed_params(self) -> Any:
        return self.recorded if self.params is None else self.params

    async def run(self, _: Any, _context: StepContext) -> NoReturn:
        raise NotImplementedError("the code of a recorded step is not known")


class RecordedFlow(Flow[Any, Any]):
    """A flow of recorded steps, which can be submitted, but not run; its input is an artifact."""

    def with_params(self, params: Params, *, by: Layer = "flow") -> "RecordedFlow":
        """Return this flow with other parameters; see `Flow.with_params`."""
        changed = super().with_params(params, by=by)
        return RecordedFlow(changed.name, changed.steps, (), changed.parameter_layers)

    def input_artifact(self, value: Artifact | None) -> Artifact | None:
        """Return the artifact, which was checked when the flow was begun for the first time."""
        return value


async def recorded_flow(store: EventStore, flow_id: UUID) -> RecordedFlow:
    """Return the flow of which `flow_id` is a run.

    Raises what `EventStore.list` raises, and:
        FlowNotFound: no flow has this id.
        InvalidArgument: its definition is not stored.
    """
    for first in await store.list(flow_id, limit=1):
        stored = None
        if isinstance(first.kind, FlowInitialized):
            stored = await read_definition(store, first.kind.definition_hash)
        if stored is None or not isinstance(first.kind, FlowInitialized):
            raise InvalidArgument("flow_id", f"the definition of flow {flow_id} is not stored")
        steps = tuple(map(_RecordedStep, stored.steps))
        return RecordedFlow(first.kind.name or "", steps, (), parameter_layers(first))
    raise FlowNotFound(flow_id)


async def recorded_input(store: EventStore, first: FlowEvent) -> Artifact | None:
    """Return the input of the flow with this first event, as it is stored; None if it has none.

    Raises what `EventStore.get_artifact` raises.
    """
    if isinstance(first.kind, FlowInitialized) and first.kind.input is not None:
        return await store.get_artifact(first.kind.input)
    return None


def _is_named(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        name.isidentifier() and not iskeyword(name) for name in value
    )


def _as_struct(values: Mapping[str, Any]) -> msgspec.Struct:
    """Return an object as a struct, whose fields have the types that its values show."""
    made = {
        name: _as_struct(value) if value and _is_named(value) else value
        for name, value in values.items()
    }
    fields = [(name, _type_of(value)) for name, value in made.items()]
    return msgspec.defstruct("RecordedParams", fields, frozen=True)(**made)


def _type_of(value: Any) -> Any:
    match value:
        case msgspec.Struct() | bool() | str():
            return type(value)
        case int() | float():  # in JSON 1.0 is 1
            return int | float
        case list():
            return list[Any]
        case dict():
            return dict[str, Any]
        case _:
            return Any

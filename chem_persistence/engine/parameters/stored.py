"""Flows with the parameters that the log has: one who has a flow's code can run them all.

A flow of other parameters has another definition. Whoever has the flow's steps finds those of the
stored definition among them by their ids, kinds and versions, and gives them its parameters. The
hash of what comes out decides: it is that of the stored definition, or the flow is another one.
"""

from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from chem_persistence.domain.definition import FlowDefinition, StepDefinition
from chem_persistence.domain.events import FlowInitialized
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.steps.step import Step
from chem_persistence.errors import ChemPersistenceError
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.ports import EventStore
from chem_persistence.store.program.what_ran import parameter_layers

__all__ = ["flow_as_begun", "flow_with_params_of", "with_stored_params"]

Input = TypeVar("Input")
Output = TypeVar("Output")


def with_stored_params(
    flow: Flow[Input, Output], definition: FlowDefinition
) -> Flow[Input, Output] | None:
    """Return a flow with the parameters of a definition; None if the definition is of others."""
    if len(flow.steps) != len(definition.steps):
        return None
    steps = []
    for step, stored in zip(flow.steps, definition.steps, strict=True):
        own = _with(step, stored)
        if own is None:
            return None
        steps.append(own)
    return flow.with_steps(tuple(steps))


def _with(step: Step[Any, Any], stored: StepDefinition) -> Step[Any, Any] | None:
    if step.definition().definition_hash == stored.definition_hash:
        return step
    if (step.id, step.kind, step.version) != (stored.id, stored.kind, stored.version):
        return None
    if not isinstance(step.params, msgspec.Struct):
        return None
    try:
        params = msgspec.convert(stored.params, type(step.params), str_keys=True)
        other = step.with_params(params)
        is_it = other.definition().definition_hash == stored.definition_hash
    except (msgspec.ValidationError, ChemPersistenceError):
        return None
    return other if is_it else None


async def flow_as_begun(
    store: EventStore, flow: Flow[Input, Output], flow_id: UUID
) -> Flow[Input, Output]:
    """Return a flow with the parameters with which `flow_id` was begun; as it is if it is another.

    Raises what `EventStore.list` raises.
    """
    stored, _ = await _begun(store, flow_id, but=flow.definition_hash)
    return (stored and with_stored_params(flow, stored)) or flow


async def flow_with_params_of(
    store: EventStore, flow: Flow[Input, Output], flow_id: UUID
) -> Flow[Input, Output]:
    """Return a flow with the parameters of `flow_id`, in the steps that both have.

    Raises what `EventStore.list` raises.
    """
    definition, layers = await _begun(store, flow_id)
    stored = {} if definition is None else {step.id: step for step in definition.steps}
    pairs = ((step, stored.get(step.id)) for step in flow.steps)
    taken = {step.id: _with(step, other) for step, other in pairs if other is not None}
    same = {step_id: step for step_id, step in taken.items() if step is not None}
    kept = {
        path: layer
        for path, layer in flow.parameter_layers.items()
        if not any(path.startswith(f"{step_id}.") for step_id in same)
    }
    kept |= {
        path: layer
        for path, layer in layers.items()
        if any(path.startswith(f"{step_id}.") for step_id in same)
    }
    return flow.with_steps(tuple(same.get(step.id, step) for step in flow.steps), kept)


async def _begun(
    store: EventStore, flow_id: UUID, *, but: str | None = None
) -> tuple[FlowDefinition | None, Mapping[str, str]]:
    """Return the definition with which a flow was begun, unless it is `but`, and who set what."""
    for first in await store.list(flow_id, limit=1):
        if isinstance(first.kind, FlowInitialized) and first.kind.definition_hash != but:
            stored = await read_definition(store, first.kind.definition_hash)
            return stored, parameter_layers(first)
    return None, {}

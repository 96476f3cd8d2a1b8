"""Steps with other parameters: checked by the class of the step's params, before all is stored."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.steps_fit import Steps
from chem_persistence.errors import InvalidArgument, InvalidDefinition

__all__ = ["Layer", "Params", "changed_steps", "paths_of"]

Params: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The parameters that are to be set, by their names, of each step, by its id."""

Layer: TypeAlias = Literal["flow", "submission", "person"]
"""Who sets a parameter: the program's flow, the program that submits it, or a person."""


def changed_steps(steps: Steps, params: Params) -> Steps:
    """Return the steps with these parameters; the others stay as they are.

    Raises:
        InvalidArgument: there is no such step or parameter, a value is not of the parameter's type,
            or the step cannot be given other parameters.
        InvalidPayload: a value is not I-JSON.
    """
    ids = [step.id for step in steps]
    if unknown := [step_id for step_id in params if step_id not in ids]:
        raise InvalidArgument(
            "params", f"the flow has no step {unknown[0]!r}; it has {', '.join(ids)}"
        )
    return tuple(_changed(step, params[step.id]) if params.get(step.id) else step for step in steps)


def _changed(step: Step[Any, Any], changes: Mapping[str, Any]) -> Step[Any, Any]:
    params = step.params
    if not isinstance(params, msgspec.Struct):
        raise InvalidArgument("params", f"step {step.id!r} has no parameters")
    try:
        merged = msgspec.convert(_merged(step.id, params, changes, ""), type(params))
    except msgspec.ValidationError as error:
        raise InvalidArgument("params", f"of step {step.id!r}: {error}") from error
    try:
        other = step.with_params(merged)
        other.definition()
    except InvalidDefinition as error:
        raise InvalidArgument("params", str(error)) from error
    return other


def _merged(
    step_id: str, params: msgspec.Struct, changes: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """Return the fields of a struct with the changes; a struct in it is merged, all else set."""
    fields = {field.name: field.encode_name for field in msgspec.structs.fields(type(params))}
    values = msgspec.to_builtins(params)
    if not isinstance(values, dict):  # a struct that is an array in JSON
        raise InvalidArgument("params", f"{path or 'those'} of step {step_id!r} have no names")
    for name, value in changes.items():
        if name not in fields:
            known = ", ".join(f"{path}{field}" for field in fields) or "no parameters"
            raise InvalidArgument(
                "params", f"step {step_id!r} has no parameter {path}{name!s}; it has {known}"
            )
        there = getattr(params, name)
        if isinstance(there, msgspec.Struct) and isinstance(value, Mapping):
            values[fields[name]] = _merged(step_id, there, value, f"{path}{name}.")
        else:
            values[fields[name]] = msgspec.to_builtins(value)
    return values


def paths_of(steps: Steps, params: Params) -> Iterator[str]:
    """Yield the parameters that are set, as `step.parameter`, and those within one as its parts."""
    by_id = {step.id: step.params for step in steps}
    for step_id, changes in params.items():
        yield from _paths(by_id[step_id], changes, step_id)


def _paths(there: Any, changes: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in changes.items():
        inner = getattr(there, name, None)
        if isinstance(inner, msgspec.Struct) and isinstance(value, Mapping):
            yield from _paths(inner, value, f"{path}.{name}")
        else:
            yield f"{path}.{name}"

"""The option `--set` of the commands that submit flows."""

from collections.abc import Sequence
from typing import Any

import msgspec

from chem_persistence.engine.flow import Flow
from chem_persistence.engine.parameters.changes import Params
from chem_persistence.engine.steps.step import Step
from chem_persistence.errors import InvalidArgument

__all__ = ["given_params"]

OPTION = "--set"


def given_params(
    flow: Flow[Any, Any], texts: Sequence[str], from_step: str | None = None
) -> Params:
    """Return the parameters that texts such as `embed.iterations=500` set.

    The value is JSON, or else a text. Without the id of a step the parameter is one of `from_step`,
    or of the only step that has it.

    Raises:
        InvalidArgument: a text has no name and value, or it is not clear what it sets.
    """
    params: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, is_given, value = text.partition("=")
        if not name or not is_given:
            raise InvalidArgument(OPTION, f"must be like step.parameter=value, not {text!r}")
        step, path = _step(flow, name, from_step)
        *outer, last = path.split(".")
        _check_structs(step, outer)
        place = params.setdefault(step.id, {})
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = _value(value)
    return params


def _step(flow: Flow[Any, Any], name: str, from_step: str | None) -> tuple[Step[Any, Any], str]:
    """Return the step that a name begins with, or that has the parameter, and the rest."""
    steps = sorted(flow.steps, key=lambda step: len(step.id), reverse=True)
    for step in steps:
        if name.startswith(f"{step.id}."):
            return step, name[len(step.id) + 1 :]
    first = name.partition(".")[0]
    having = [step for step in flow.steps if first in _fields(step)]
    if from_step is not None:
        having = [step for step in having if step.id == from_step] or having
    if len(having) == 1:
        return having[0], name
    ids = ", ".join(step.id for step in having or flow.steps)
    reason = f"several steps have it: {ids}" if having else f"no step has it, of {ids}"
    raise InvalidArgument(OPTION, f"{name!r} is not clear: {reason}; name step.parameter=value")


def _fields(step: Step[Any, Any]) -> list[str]:
    params = step.params
    if not isinstance(params, msgspec.Struct):
        return []
    return [field.name for field in msgspec.structs.fields(type(params))]


def _check_structs(step: Step[Any, Any], outer: Sequence[str]) -> None:
    """Check that the parts of a path before the last are structs: others are set as a whole."""
    there: Any = step.params
    for part in outer:
        there = getattr(there, part, None)
        if not isinstance(there, msgspec.Struct):
            raise InvalidArgument(
                OPTION,
                f"parameter {part!r} of step {step.id!r} has no named parts: set it as a whole, as "
                "JSON",
            )


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text

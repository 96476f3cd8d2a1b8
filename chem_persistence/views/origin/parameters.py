"""The parameters of a flow's steps, and who has set each of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from chem_persistence.domain.definition import FlowDefinition

__all__ = ["OF_THE_STEP", "ParameterView", "parameter_views"]

OF_THE_STEP = "step"
"""Nobody has set the parameter: it is as the step has it."""


class ParameterView(msgspec.Struct, frozen=True):
    """A parameter of a step, its value, and who has set it: step, flow, submission or person."""

    step: str
    name: str
    value: Any
    set_by: str


def parameter_views(
    definition: FlowDefinition | None, layers: Mapping[str, str]
) -> list[ParameterView]:
    """Return the parameters of a definition with who has set them; none if it is not stored."""
    steps = () if definition is None else definition.steps
    return [
        ParameterView(step.id, path, value, layers.get(f"{step.id}.{path}", OF_THE_STEP))
        for step in steps
        for path, value in _parts(step.id, step.params, layers, "")
    ]


def _parts(
    step_id: str, params: Any, layers: Mapping[str, str], path: str
) -> Iterator[tuple[str, Any]]:
    """Yield the parameters; those within one are yielded by themselves if one of them was set."""
    for key, value in params.items() if isinstance(params, dict) else ():
        inner = f"{path}{key}."
        if any(each.startswith(f"{step_id}.{inner}") for each in layers):
            yield from _parts(step_id, value, layers, inner)
        else:
            yield f"{path}{key}", value

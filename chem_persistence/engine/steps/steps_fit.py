"""Check that steps make a sequence: each can read what the step before it returns.

The types of a step are those that its class gives for `Step[Input, Output]`; see `step_types`.
"""

from typing import Any
from weakref import WeakSet

import msgspec

from chem_persistence.domain.definition import StepKind
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.step_types import (
    accepts,
    check_json_types,
    members,
    step_types,
    type_name,
)
from chem_persistence.errors import InvalidDefinition

__all__ = ["Steps", "check_fit", "check_readable", "extend_sequence"]

Steps = tuple[Step[Any, Any], ...]

_checked: WeakSet[type] = WeakSet()
"""The classes of steps whose types are known to be readable from JSON."""


def extend_sequence(steps: Steps, step: Step[Any, Any]) -> Steps:
    """Return the sequence with one more step at its end.

    Raises:
        InvalidDefinition: the step has no id, or one that an earlier step has; its class does not
            name its types; a field of them can never be JSON; its input type cannot be decoded; it
            does not accept what the last step returns; it is a source but not the first step; or
            the last step is a sink.
    """
    step_id = getattr(step, "id", None)
    if not (isinstance(step_id, str) and step_id):
        raise InvalidDefinition(
            f"{type(step).__qualname__} has no id: set `id`, a string that is not empty, on the "
            "class or on the instance"
        )
    if type(step) not in _checked:
        check_json_types(step)
        check_readable(step)
        _checked.add(type(step))
    if steps:
        check_fit(steps[-1], step)
        _check_position(steps, step)
    return (*steps, step)


def check_readable(step: Step[Any, Any]) -> None:
    """Check that a step's input can be decoded from its artifact.

    Raises:
        InvalidDefinition: msgspec does not decode the type, such as a union of untagged structs.
    """
    takes = step_types(step)[0]
    try:
        msgspec.json.Decoder(takes)
    except TypeError as error:
        raise InvalidDefinition(
            f"step {step.id!r} takes {type_name(takes)}, which msgspec cannot decode: {error}"
        ) from error


def check_fit(earlier: Step[Any, Any], later: Step[Any, Any]) -> None:
    """Check that a step accepts whatever the step before it may return.

    Raises:
        InvalidDefinition: `earlier` may return a type that `later` does not accept.
    """
    gives, takes = step_types(earlier)[1], step_types(later)[0]
    if not all(any(accepts(taken, given) for taken in members(takes)) for given in members(gives)):
        raise InvalidDefinition(
            f"step {later.id!r} takes {type_name(takes)}, "
            f"but step {earlier.id!r} returns {type_name(gives)}"
        )


def _check_position(steps: Steps, step: Step[Any, Any]) -> None:
    last = steps[-1]
    if step.id in [earlier.id for earlier in steps]:
        raise InvalidDefinition(f"two steps have the id {step.id!r}")
    if step.kind is StepKind.SOURCE:
        raise InvalidDefinition(
            f"step {step.id!r} is a source but follows step {last.id!r}: a source is the first step"
        )
    if last.kind is StepKind.SINK:
        raise InvalidDefinition(
            f"step {step.id!r} follows the sink {last.id!r}: a sink is the last step"
        )

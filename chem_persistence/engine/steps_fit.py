"""Check that steps make a sequence: each can read what the step before it returns.

The types of a step are those that its class gives for `Step[Input, Output]`. Each is a struct,
None, or a union of these.
"""

from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from chem_persistence.domain.definition import StepKind
from chem_persistence.engine.step import Step
from chem_persistence.errors import InvalidDefinition

__all__ = [
    "Steps",
    "check_fit",
    "check_readable",
    "extend_sequence",
    "members",
    "step_types",
    "type_name",
]

Steps = tuple[Step[Any, Any], ...]


def extend_sequence(steps: Steps, step: Step[Any, Any]) -> Steps:
    """Return the sequence with one more step at its end.

    Raises:
        InvalidDefinition: the step has no id, or one that an earlier step has; its class does not
            name its types, or its input type cannot be decoded; it does not accept what the last
            step returns; it is a source but not the first step; or the last step is a sink.
    """
    step_id = getattr(step, "id", None)
    if not (isinstance(step_id, str) and step_id):
        raise InvalidDefinition(
            f"{type(step).__qualname__} has no id: set `id`, a string that is not empty, on the "
            "class or on the instance"
        )
    check_readable(step)
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
    if not all(
        any(issubclass(given, taken) for taken in members(takes)) for given in members(gives)
    ):
        raise InvalidDefinition(
            f"step {later.id!r} takes {type_name(takes)}, "
            f"but step {earlier.id!r} returns {type_name(gives)}"
        )


def _check_position(steps: Steps, step: Step[Any, Any]) -> None:
    last = steps[-1]
    if any(step.id == earlier.id for earlier in steps):
        raise InvalidDefinition(f"two steps have the id {step.id!r}")
    if step.kind is StepKind.SOURCE:
        raise InvalidDefinition(
            f"step {step.id!r} is a source but follows step {last.id!r}: a source is the first step"
        )
    if last.kind is StepKind.SINK:
        raise InvalidDefinition(
            f"step {step.id!r} follows the sink {last.id!r}: a sink is the last step"
        )


def step_types(step: Step[Any, Any]) -> tuple[Any, Any]:
    """Return the input type and the output type of a step.

    Raises:
        InvalidDefinition: the class does not name them, or they are not structs.
    """
    cls = type(step)
    types = _type_arguments(cls)
    for declared in types:
        for member in members(declared):
            if not (
                isinstance(member, type)
                and (member is NoneType or issubclass(member, msgspec.Struct))
            ):
                raise InvalidDefinition(
                    f"{cls.__qualname__} must derive from Step[Input, Output] with msgspec "
                    f"structs or None, got {type_name(declared)}"
                )
    return types[0], types[1]


def members(declared: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself as the only one."""
    return get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)


def type_name(declared: Any) -> str:
    """Return a type as an error message names it, such as `Molecule | NoneType`."""
    return " | ".join(getattr(member, "__name__", str(member)) for member in members(declared))


def _type_arguments(cls: type) -> tuple[Any, ...]:
    """Return what the class, or the nearest of its bases, gives for Step's two type parameters."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, Step)):
            continue
        given = tuple(NoneType if argument is None else argument for argument in get_args(base))
        if origin is Step:
            return given or (Any, Any)
        names = getattr(origin, "__parameters__", ())
        bound = dict(zip(names, given, strict=False))
        inherited = _type_arguments(origin)
        return tuple(bound.get(a, a) if isinstance(a, TypeVar) else a for a in inherited)
    return (Any, Any)

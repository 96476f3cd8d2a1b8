"""Which steps may follow which."""

from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from chem_persistence.domain.definition import StepKind
from chem_persistence.engine.step import Step
from chem_persistence.errors import InvalidDefinition

__all__ = ["Steps", "check_fit", "check_readable", "extended", "members", "step_types"]

Steps = tuple[Step[Any, Any], ...]


def extended(steps: Steps, step: Step[Any, Any]) -> Steps:
    """Give the chain with one more step at its end.

    Raises:
        InvalidDefinition: the step has no id or does not say its types, its input could not be read back, its types do not fit
            those of the last step, its id is taken, a source stands after the first step, or any step after a sink.
    """
    step_id = getattr(step, "id", None)
    if not (isinstance(step_id, str) and step_id):
        raise InvalidDefinition(
            f"{type(step).__qualname__} has no id: give the class or the instance one, a string"
        )
    check_readable(step)
    if steps:
        last = steps[-1]
        check_fit(last, step)
        if any(step.id == earlier.id for earlier in steps):
            raise InvalidDefinition(f"two steps have the id {step.id!r}")
        if step.kind is StepKind.SOURCE:
            raise InvalidDefinition(
                f"step {step.id!r} is a source and stands after step {last.id!r}"
            )
        if last.kind is StepKind.SINK:
            raise InvalidDefinition(f"step {step.id!r} stands after the sink {last.id!r}")
    return (*steps, step)


def step_types(step: Step[Any, Any]) -> tuple[Any, Any]:
    """Give the input and output types of a step.

    Raises:
        InvalidDefinition: the class does not say them, or they are no structs.
    """
    cls = type(step)
    types = _arguments(cls)
    for declared in types:
        for member in members(declared):
            if not (
                isinstance(member, type)
                and (member is NoneType or issubclass(member, msgspec.Struct))
            ):
                raise InvalidDefinition(
                    f"{cls.__qualname__} must derive from Step[Input, Output] with msgspec structs or None, "
                    f"got {_named(declared)}"
                )
    return types[0], types[1]


def members(declared: Any) -> tuple[Any, ...]:
    """Give the members of a union, or the type alone."""
    return get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)


def check_fit(earlier: Step[Any, Any], later: Step[Any, Any]) -> None:
    """Refuse a step that cannot take what the one before it gives.

    Raises:
        InvalidDefinition: a type that `earlier` may give is none that `later` takes.
    """
    gives, takes = step_types(earlier)[1], step_types(later)[0]
    if not all(
        any(issubclass(given, taken) for taken in members(takes)) for given in members(gives)
    ):
        raise InvalidDefinition(
            f"step {later.id!r} takes {_named(takes)}, but step {earlier.id!r} gives {_named(gives)}"
        )


def check_readable(step: Step[Any, Any]) -> None:
    """Refuse a step whose input could not be read back from its artifact.

    Raises:
        InvalidDefinition: its input type is none that msgspec decodes, such as a union of structs without tags.
    """
    takes = step_types(step)[0]
    try:
        msgspec.json.Decoder(takes)
    except TypeError as error:
        raise InvalidDefinition(
            f"step {step.id!r} takes {_named(takes)}, which cannot be read back: {error}"
        ) from error


def _arguments(cls: type) -> tuple[Any, ...]:
    """Find what the class, or the nearest of its bases, puts for Step's two type parameters."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, Step)):
            continue
        given = tuple(NoneType if argument is None else argument for argument in get_args(base))
        if origin is Step:
            return given or (Any, Any)
        names = getattr(origin, "__parameters__", ())
        bound = dict(zip(names, given, strict=False))
        return tuple(bound.get(a, a) if isinstance(a, TypeVar) else a for a in _arguments(origin))
    return (Any, Any)


def _named(declared: Any) -> str:
    return " | ".join(getattr(member, "__name__", str(member)) for member in members(declared))

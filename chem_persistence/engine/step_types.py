"""The types that a step declares, read from its class, and whether two steps fit."""

from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from chem_persistence.engine.step import Step
from chem_persistence.errors import InvalidDefinition

__all__ = ["check_fit", "check_readable", "members", "step_types"]


def step_types(step: Step[Any, Any]) -> tuple[Any, Any]:
    """Give the input and output types of a step.

    Raises:
        InvalidDefinition: the class does not say them, or they are no structs.
    """
    cls = type(step)
    types = _arguments(cls)
    for declared in types:
        for member in members(declared):
            if not (isinstance(member, type) and (member is NoneType or issubclass(member, msgspec.Struct))):
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
    if not all(any(issubclass(given, taken) for taken in members(takes)) for given in members(gives)):
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

"""The types that a step's class names, and whether their values can be JSON.

A type is a class whose values are JSON objects or arrays: a msgspec struct, a dataclass or an attrs
class, also with type arguments (`Box[int]`). A step may also name None, or a union of these.
"""

import dataclasses
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from chem_persistence.engine.steps.step import Step
from chem_persistence.errors import InvalidDefinition

__all__ = [
    "accepts",
    "arguments_as",
    "check_json_types",
    "class_of",
    "is_record",
    "members",
    "step_types",
    "type_name",
]

_OTHER_KEYS = (
    "has keys of a type that JSON does not have: declare `str` or `int` for the keys, or a list of "
    "pairs"
)
_JSON_VALUES = (dict, list, str, int, float, bool, NoneType)
_KEYS = (inspect.AnyType, inspect.StrType, inspect.IntType, inspect.LiteralType, inspect.CustomType)

_KNOWN = "_chem_persistence_step_types"  # in the class's __dict__: they are read at each attempt


def step_types(step: Step[Any, Any]) -> tuple[Any, Any]:
    """Return the input type and the output type of a step.

    Raises:
        InvalidDefinition: the class does not name them, or they are not structs.
    """
    cls = type(step)
    known: tuple[Any, Any] | None = cls.__dict__.get(_KNOWN)
    if known is None:
        known = _declared_types(cls)
        setattr(cls, _KNOWN, known)
    return known


def _declared_types(cls: type) -> tuple[Any, Any]:
    types = _type_arguments(cls)
    for declared in types:
        if not all(is_record(class_of(member)) for member in members(declared)):
            raise InvalidDefinition(
                f"{cls.__qualname__} must derive from Step[Input, Output] with msgspec "
                "structs, dataclasses, attrs classes or None, "
                f"got {type_name(declared)}"
            )
    return types[0], types[1]


def members(declared: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself as the only one."""
    return get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)


def class_of(member: Any) -> Any:
    """Return the class of a type: `Box` for `Box[int]`."""
    return get_origin(member) or member


def type_name(declared: Any) -> str:
    """Return a type as an error message names it, such as `Molecule | NoneType` or `Box[int]`."""
    return " | ".join(_name(member) for member in members(declared))


def accepts(taken: Any, given: Any) -> bool:
    """Return whether every value of the type `given` is one of the type `taken`.

    `Box` takes every `Box[...]`; `Box[int]` takes `Box[int]` and the subclasses of it.
    """
    if not issubclass(class_of(given), class_of(taken)):
        return False
    wanted = get_args(taken)
    return not wanted or wanted == arguments_as(given, class_of(taken))


def check_json_types(step: Step[Any, Any]) -> None:
    """Check that every field of a step's types, at any depth, has a type that JSON can hold.

    Raises:
        InvalidDefinition: a field has another type, such as `complex`, `Path`, `numpy.ndarray` or
            a pydantic model; or an annotation names what is not defined when the program runs.
    """
    for verb, declared in zip(("takes", "returns"), step_types(step), strict=True):
        subject = f"step {step.id!r} {verb} {type_name(declared)}"
        try:
            described = inspect.multi_type_info(members(declared))
        except NameError as error:
            raise InvalidDefinition(
                f"{subject}, in whose annotations the name {error.name!r} is not defined when the "
                "program runs: import it outside `if TYPE_CHECKING`, and define it at the top "
                "level of its module"
            ) from error
        except (AttributeError, SyntaxError) as error:
            raise InvalidDefinition(
                f"{subject}, in whose annotations one cannot be evaluated: {error}"
            ) from error
        except (TypeError, ValueError) as error:
            raise InvalidDefinition(f"{subject}, which msgspec cannot read: {error}") from error
        for member, information in zip(members(declared), described, strict=True):
            for path, reason in _never_json(information, "", set()):
                raise InvalidDefinition(f"{subject}, but {_name(member)}{path} {reason}")


def is_record(cls: Any) -> bool:
    """Return whether a class is one whose values are records, or that of None."""
    return isinstance(cls, type) and (
        cls is NoneType
        or issubclass(cls, msgspec.Struct)
        or dataclasses.is_dataclass(cls)
        or hasattr(cls, "__attrs_attrs__")
    )


def _name(member: Any) -> str:
    arguments = ", ".join(type_name(argument) for argument in get_args(member))
    name = getattr(class_of(member), "__name__", str(member))
    return f"{name}[{arguments}]" if arguments else name


def _type_arguments(cls: type) -> tuple[Any, ...]:
    """Return what the class, or the nearest of its bases, gives for Step's two type parameters."""
    given = arguments_as(cls, Step)
    return tuple(NoneType if argument is None else argument for argument in given) or (Any, Any)


def arguments_as(given: Any, target: type) -> tuple[Any, ...]:
    """Return the type arguments that a class, or its nearest base, gives to the generic `target`.

    Empty if it gives none.
    """
    cls = class_of(given)
    if cls is target:
        return get_args(given)
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = class_of(base)
        if isinstance(origin, type) and issubclass(origin, target):
            inherited = arguments_as(base, target)
            bound = dict(zip(getattr(cls, "__parameters__", ()), get_args(given), strict=False))
            return tuple(_bound(argument, bound) for argument in inherited)
    return ()


def _bound(argument: Any, bound: dict[Any, Any]) -> Any:
    """Return a type argument with its type variables replaced, as far as they are known."""
    if isinstance(argument, TypeVar):
        return bound.get(argument, argument)
    parameters = getattr(argument, "__parameters__", ())
    if any(parameter in bound for parameter in parameters):
        return argument[tuple(bound.get(parameter, parameter) for parameter in parameters)]
    return argument


def _never_json(information: Any, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    """Yield what JSON cannot hold below a description: its path, and the reason."""
    if isinstance(information, inspect.CustomType):
        cls = information.cls
        if not _has_json_values(cls):
            name = f"{cls.__module__}.{cls.__qualname__}"
            yield path, f"is of the type {name}, which JSON cannot hold: {_cure(cls)}"
        return
    if isinstance(information, inspect.RawType) or id(information) in seen:
        return
    seen.add(id(information))  # a recursive type holds itself
    if isinstance(information, inspect.Field):
        yield from _never_json(information.type, f"{path}.{information.name}", seen)
        return
    if isinstance(information, inspect.DictType) and not _is_key(information.key_type):
        yield path, _OTHER_KEYS
    for name in getattr(information, "__struct_fields__", ()):
        part = getattr(information, name)
        if isinstance(part, inspect.Type):
            yield from _never_json(part, f"{path}[...]" if name.endswith("_type") else path, seen)
        elif isinstance(part, tuple):
            inside = f"{path}[...]" if name == "item_types" else path
            for item in part:
                yield from _never_json(item, inside, seen)


def _has_json_values(cls: type) -> bool:
    """Return whether values of JSON are instances: of `object`, `Iterable`, `numbers.Real`, ..."""
    try:
        return any(issubclass(kind, cls) for kind in _JSON_VALUES)
    except TypeError:  # a protocol that cannot be checked at run time
        return False


def _is_key(information: Any) -> bool:
    """Return whether values of a type can be the keys of an object: text, or integers."""
    match information:
        case inspect.Metadata(type=inner):
            return _is_key(inner)
        case inspect.UnionType(types=types):
            return any(_is_key(member) for member in types)
        case inspect.EnumType(cls=cls):
            return issubclass(cls, str)
        case _:
            return isinstance(information, _KEYS)


def _cure(cls: type) -> str:
    names = {f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__}
    if "numpy.ndarray" in names:
        return (
            "declare `list[float]` (a small array is taken as one), or store the array with "
            "`Artifact.from_array` and keep its hash, a `str`"
        )
    if "numpy.generic" in names:
        return "declare `float`, `int` or `bool`, which take numpy's scalars"
    if cls is complex:
        return "declare two floats, the real and the imaginary part"
    if "pathlib.PurePath" in names or "pathlib._local.PurePath" in names:
        return "declare `str`"
    return "declare a msgspec struct, a dataclass or an attrs class"

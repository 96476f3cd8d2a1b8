"""Values of arguments and options, converted without pydantic.

New versions of typer convert by pydantic, whose import takes longer than most answers of the
database. What nobody has to explain is converted here: texts, flags, paths and choices that are
right, and what our own parsers read. All else is left to typer, and so are the words for what is
wrong.
"""

from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

__all__ = ["NotPlain", "plain_value"]


class NotPlain(Exception):
    """A value that typer has to convert or to refuse."""


def plain_value(hint: Any, value: Any) -> Any:
    """Return the value of a parameter as its annotation says; None is for one that is left out.

    Raises:
        NotPlain: it is left to typer.
    """
    if value is None:
        return None
    if get_origin(hint) is not Annotated:
        raise NotPlain
    declared, told, *_ = get_args(hint)
    if told.parser is not None:
        try:
            return told.parser(value)
        except (ValueError, typer.BadParameter) as error:
            raise NotPlain from error
    if told.exists or told.min is not None or told.max is not None:
        raise NotPlain
    return _converted(_kind(declared), value)


def _kind(declared: Any) -> Any:
    """Return the type of an annotation, without the None of what may be left out."""
    if get_origin(declared) in {Union, UnionType}:
        return next(each for each in get_args(declared) if each is not NoneType)
    return declared


def _converted(kind: Any, value: Any) -> Any:
    if kind in {str, bool} and isinstance(value, kind):
        return value
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind == list[str]:
        return list(value)
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    raise NotPlain

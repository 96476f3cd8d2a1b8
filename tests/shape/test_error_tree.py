"""The docstring of `errors` draws the tree of the error classes.

These tests pin form rather than behaviour: they compare the drawing with the classes.
"""

import inspect
import re

import pytest

from chem_persistence import errors
from chem_persistence.errors import ChemPersistenceError


def drawn() -> dict[str, str | None]:
    """Return the parent of each class in the drawing, in which a level is four columns wide."""
    parents: dict[str, str | None] = {}
    line_of_descent: list[str] = []
    for line in str(errors.__doc__).splitlines():
        if "-- " in line or line == "ChemPersistenceError":
            indent, name = re.match(r"([|` -]*)(\w+)", line).groups()  # type: ignore[union-attr]
            depth = len(indent) // 4
            line_of_descent[depth:] = [name]
            parents[name] = line_of_descent[depth - 1] if depth else None
    return parents


def defined() -> dict[str, str | None]:
    """Return the parent of each class in the module."""
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    return {
        value.__name__: None if value is ChemPersistenceError else value.__bases__[0].__name__
        for value in classes
        if issubclass(value, ChemPersistenceError)
    }


def test_the_drawing_shows_every_error_below_its_parent() -> None:
    assert drawn() == defined()


def test_every_error_of_the_module_is_in_the_tree() -> None:
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert classes - {"UUID", "datetime"} == set(errors.__all__) == set(defined())


@pytest.mark.parametrize("name", errors.__all__)
def test_the_drawing_says_what_an_error_means(name: str) -> None:
    assert re.search(rf"\b{name} {{2,}}\S|^{name}$", str(errors.__doc__), re.MULTILINE)
    assert inspect.getdoc(getattr(errors, name))

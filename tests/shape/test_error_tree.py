"""The docstring of `errors` draws the tree of the error classes.

These tests pin form rather than behaviour: they compare the drawing with the classes.
"""

import inspect
import pkgutil
import re
from importlib import import_module

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
    """Return the parent of each class in the package."""
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    return {
        value.__name__: None if value is ChemPersistenceError else value.__bases__[0].__name__
        for value in classes
        if issubclass(value, ChemPersistenceError)
    }


def test_the_drawing_shows_every_error_below_its_parent() -> None:
    assert drawn() == defined()


def test_every_error_of_the_package_is_in_the_tree() -> None:
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert classes == set(errors.__all__) == set(defined())


def test_the_package_has_every_error_of_its_modules() -> None:
    names = [found.name for found in pkgutil.iter_modules(errors.__path__, f"{errors.__name__}.")]
    public = [name for module in names for name in import_module(module).__all__]
    assert sorted(public) == sorted(errors.__all__)


def test_an_error_is_named_by_a_module_that_is_public() -> None:
    """The log stores the names of errors, so they stay when a class moves within the package."""
    modules = {value.__module__ for value in vars(errors).values() if inspect.isclass(value)}
    assert modules == {"chem_persistence", "chem_persistence.errors"}


@pytest.mark.parametrize("name", errors.__all__)
def test_the_drawing_says_what_an_error_means(name: str) -> None:
    assert re.search(rf"\b{name} {{2,}}\S|^{name}$", str(errors.__doc__), re.MULTILINE)
    assert inspect.getdoc(getattr(errors, name))

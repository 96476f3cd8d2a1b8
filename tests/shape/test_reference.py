"""The reference describes every public name, and when each error is raised and what to do.

These tests pin form rather than behaviour: they compare the headings of pages with `__all__`.
"""

import re
from collections import Counter

import pytest

import chem_persistence
from chem_persistence import errors
from tests.support.pages.pages import DOCUMENTATION

REFERENCE = DOCUMENTATION / "reference"
ENTRY = re.compile(r"^::: chem_persistence\.(\w+)$", re.MULTILINE)
CATALOGUE = (REFERENCE / "errors.md").read_text(encoding="utf-8")


def test_every_public_name_is_described_once() -> None:
    described = Counter(
        name for page in REFERENCE.glob("*.md") for name in ENTRY.findall(page.read_text("utf-8"))
    )
    assert described == Counter(chem_persistence.__all__)


def test_the_catalogue_has_every_error_and_nothing_else() -> None:
    assert sorted(ENTRY.findall(CATALOGUE)) == sorted(errors.__all__)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_says_when_it_comes_and_what_to_do(name: str) -> None:
    (entry,) = re.findall(
        rf"^::: chem_persistence\.{name}\n(.*?)(?=^:::|\Z)", CATALOGUE, re.MULTILINE | re.DOTALL
    )
    paragraph = r"\S(?:.|\n(?!\n)){15,}"
    assert re.fullmatch(
        (
            r"    options:\n      members: false\n\n"
            rf"\*\*When\.\*\* {paragraph}\n\n\*\*Do\.\*\* {paragraph}\n*"
        ),
        entry,
    )


def test_the_catalogue_shows_the_tree() -> None:
    drawn = str(errors.__doc__).split("\n\n", 1)[1].strip()
    assert drawn in CATALOGUE

"""The citation and the policies agree with the project's metadata and files.

These tests pin form rather than behaviour: they read the text of files.
"""

import re
import tomllib

from chem_persistence import __version__
from tests.support.pages.pages import REPOSITORY

CITATION = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def field(name: str) -> str:
    (value,) = re.findall(rf"^{name}: (.+)$", CITATION, re.MULTILINE)
    return str(value)


def test_the_citation_names_this_version_and_licence() -> None:
    assert (field("version"), field("license")) == (__version__, PROJECT["license"])
    assert all(author["name"] in CITATION for author in PROJECT["authors"])


def test_files_that_the_policies_name_are_there() -> None:
    for page in ("SECURITY.md", "CONTRIBUTING.md"):
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        named = re.findall(r"`((?:documentation|tests)/[\w/.-]+\.\w+)`", text)
        assert named
        assert [name for name in named if not (REPOSITORY / name).exists()] == []

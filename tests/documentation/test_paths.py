"""Every path of the repository that a document names is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages.pages import REPOSITORY

PACKAGE = REPOSITORY / "chem_persistence"
ROOTS = {"benchmarks", "chem_persistence", "documentation", "examples", "sql", "tests"}
FOLDERS = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
MADE = {"benchmarks/results/results.json"}
"""What the tools of the repository write and git does not keep."""
NAMED = re.compile(r"`([\w.*{},-]+(?:/[\w.*{},-]+)+/?)`")
LINKED = re.compile(r"\]\((?!https?:)([^)#\s]+)[^)]*\)")
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "*/README.md", "documentation/**/*.md")
    for path in REPOSITORY.glob(pattern)
    if not path.relative_to(REPOSITORY).parts[0].startswith(".")
)


def named_paths(text: str) -> Iterator[str]:
    """Yield the paths in backticks that begin in the repository, or in a folder of the package."""
    for name in NAMED.findall(text):
        if name.split("/")[0] in ROOTS | FOLDERS and name not in MADE:
            yield name


def is_there(name: str) -> bool:
    return any(any(root.glob(name.rstrip("/"))) for root in (REPOSITORY, PACKAGE))


def test_documents_are_found() -> None:
    assert len(DOCUMENTS) > 25


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [name for name in named_paths(text) if not is_there(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_between_documents_leads_to_a_file(document: Path) -> None:
    linked = LINKED.findall(document.read_text(encoding="utf-8"))
    assert [name for name in linked if not (document.parent / name).exists()] == []

"""The built site loads nothing from other hosts, and every page is in its navigation."""

import re
from pathlib import Path

import pytest

from tests.support.pages.check_site import faults_of_site, foreign_requests
from tests.support.pages.pages import DOCUMENTATION, REPOSITORY


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ('<script src="https://cdn.example/a.js"></script>', ".html"),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', ".html"),
        ('<link rel="preconnect" href="https://fonts.example">', ".html"),
        ('<img src="a.png" srcset="a.png 1x, HTTPS://img.example/b.png 2x">', ".html"),
        ('<p style="background: url(https://img.example/a.png)">', ".html"),
        ('<style>@import "https://fonts.example/a.css";</style>', ".html"),
        ('<svg><image href="https://img.example/a.png"/></svg>', ".svg"),
        ('@font-face { src: url("https://fonts.example/a.woff2") }', ".css"),
    ],
)
def test_what_a_page_loads_from_another_host_is_found(text: str, suffix: str) -> None:
    assert len(foreign_requests(text, suffix)) == 1


def test_what_a_reader_may_follow_is_not_loaded() -> None:
    links = '<a href="https://www.postgresql.org">manual</a><img src="/a.png">'
    assert foreign_requests(f'{links}<script>"https://a"</script>', ".html") == []


def test_a_site_is_checked_page_by_page(tmp_path: Path) -> None:
    (tmp_path / "there.png").touch()
    (tmp_path / "right.html").write_text('<img src="there.png"><a href="gone.html">', "utf-8")
    (tmp_path / "wrong.html").write_text('<img src="gone.png"><img src="//a.example/b">', "utf-8")
    assert list(faults_of_site(tmp_path)) == [
        "wrong.html asks another host: //a.example/b",
        "wrong.html loads a file that is missing: gone.png",
    ]


def test_the_navigation_names_every_page_once_and_nothing_else() -> None:
    configuration = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"^ *- (?:\w+: )?([\w/-]+\.md)$", configuration, re.MULTILINE)
    pages = [str(page.relative_to(DOCUMENTATION)) for page in DOCUMENTATION.rglob("*.md")]
    assert sorted(named) == sorted(pages)


def test_the_documentation_keeps_to_its_four_kinds() -> None:
    assert {page.name for page in DOCUMENTATION.glob("*.*")} == {"index.md", "tutorial.md"}
    folders = {"explanation", "how-to", "reference"}  # the tutorial is one page
    assert {page.parts[0] for page in pages_in_folders()} == folders


def pages_in_folders() -> list[Path]:
    """Return the pages below the root of the documentation, relative to it."""
    return [page.relative_to(DOCUMENTATION) for page in DOCUMENTATION.glob("*/**/*.md")]

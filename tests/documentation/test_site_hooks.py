"""The built site loads nothing from other hosts, and links only to what is there."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.pages.pages import DOCUMENTATION


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCUMENTATION / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
def test_what_a_page_loads_from_another_host_is_found(
    hooks: ModuleType, text: str, suffix: str
) -> None:
    assert len(hooks.foreign_requests(text, suffix)) == 1


def test_what_a_reader_may_follow_is_not_loaded(hooks: ModuleType) -> None:
    page = '<a href="https://www.postgresql.org">manual</a><img src="/a.png"><script>"https://a"</script>'
    assert hooks.foreign_requests(page, ".html") == []


def test_a_link_into_the_repository_becomes_its_path(hooks: ModuleType) -> None:
    folder = DOCUMENTATION / "benchmarks"
    seen = hooks.without_links_out("[this](../../benchmarks/README.md)", folder, DOCUMENTATION)
    assert seen == "this (`benchmarks/README.md`)"


def test_a_link_to_a_page_or_to_nothing_stays_for_the_strict_build(hooks: ModuleType) -> None:
    folder = DOCUMENTATION / "benchmarks"
    for link in ("[t](../tutorial.md)", "[n](../../nothing.md)"):
        assert hooks.without_links_out(link, folder, DOCUMENTATION) == link


def test_every_page_is_in_the_navigation() -> None:
    configuration = (Path(DOCUMENTATION).parent / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(page.relative_to(DOCUMENTATION)) for page in DOCUMENTATION.rglob("*.md")}
    assert [page for page in sorted(pages) if f"{page}\n" not in configuration] == []

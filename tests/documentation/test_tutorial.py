"""Following the tutorial from an empty folder ends with finished flows and a page."""

from pathlib import Path

import pytest

from tests.support.pages.pages import DOCUMENTATION, blocks, follow


@pytest.mark.slow
def test_the_tutorial_goes_as_it_says(tmp_path: Path) -> None:
    assert follow(DOCUMENTATION / "tutorial.md", tmp_path, {"DATABASE_URL": ""}) == 10
    page = (tmp_path / "flow.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "KeyError" in page


def test_nothing_of_the_tutorial_is_left_out() -> None:
    assert [block.not_run for block in blocks(DOCUMENTATION / "tutorial.md") if block.not_run] == []

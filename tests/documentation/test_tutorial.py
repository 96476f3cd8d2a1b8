"""A newcomer who follows the tutorial from an empty folder ends with finished flows."""

from pathlib import Path

from tests.support.pages import DOCUMENTATION, blocks, follow


def test_the_tutorial_goes_as_it_says(tmp_path: Path) -> None:
    assert follow(DOCUMENTATION / "tutorial.md", tmp_path, {"DATABASE_URL": ""}) >= 6


def test_the_tutorial_leaves_out_only_what_is_not_there_yet() -> None:
    left_out = [block.not_run for block in blocks(DOCUMENTATION / "tutorial.md") if block.not_run]
    assert all("another branch" in reason for reason in left_out)

"""A wrong page is noticed: the tests of the pages can fail."""

from pathlib import Path

import pytest

from tests.support.pages.pages import blocks, follow, is_output

RIGHT = """\
```python title="hello.py"
print("hello")
print(1 / 3)
```

```console
$ python hello.py
hello
...
$ python hello.py \\
> | wc --lines
2
```
"""


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_right_page_is_followed(tmp_path: Path) -> None:
    assert follow(page(tmp_path, RIGHT), tmp_path, {}) == 2


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("hello\n...", "goodbye\n..."),
        ("hello\n...", "hello"),
        ("hello.py\nhello", "missing.py\nhello"),
        ('print("hello")', "1 / 0"),
        ("$ python hello.py \\", "$ exit 3 # \\"),
        ("hello\n...", "ERROR: it fails\n..."),
    ],
)
def test_a_wrong_page_is_noticed(tmp_path: Path, said: str, wrong: str) -> None:
    with pytest.raises(AssertionError):
        follow(page(tmp_path, RIGHT.replace(said, wrong, 1)), tmp_path, {})


def test_a_snippet_that_nothing_runs_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="neither a file nor a command"):
        follow(page(tmp_path, "```python\nprint(1)\n```\n"), tmp_path, {})


def test_only_the_block_after_the_comment_is_left_alone(tmp_path: Path) -> None:
    text = "<!-- not run: it is late -->\n```console\n$ exit 1\n```\n\n```console\n$ true\n```\n"
    assert [block.not_run for block in blocks(page(tmp_path, text))] == ["it is late", None]
    assert follow(page(tmp_path, text), tmp_path, {}) == 1


def test_dots_stand_for_any_lines() -> None:
    assert is_output(["a", "b", "c"], ["a", "..."])
    assert is_output(["a"], ["a", "..."])
    assert not is_output(["b", "a"], ["a", "..."])

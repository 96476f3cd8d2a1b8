"""Texts for a terminal look as rich draws them, which is not imported for most of them."""

import re
import sys
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text as RichText

from chem_persistence.cli.terminal.printing import column, print_line, print_table
from chem_persistence.cli.terminal.styled import Text, escaped

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
STYLES = ["", "green", "red", "cyan dim", "green dim", "bold", "bold red", "dim"]
PIECES = st.lists(
    st.tuples(
        st.text(st.sampled_from("abc xyz é━│…漢👍"), min_size=1, max_size=8),
        st.sampled_from(STYLES),
    ),
    max_size=5,
)


class Terminal(StringIO):
    """An output that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def text_of(pieces: list[tuple[str, str]]) -> Text:
    text = Text()
    for piece, style in pieces:
        text.append(piece, style)
    return text


def drawn_by_rich(pieces: list[tuple[str, str]], *, no_color: bool) -> str:
    drawn = StringIO()
    console = Console(
        file=drawn,
        width=1_000,
        force_terminal=True,
        color_system="256",
        no_color=no_color,
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(RichText.assemble(*pieces), end="")
    return drawn.getvalue()


@pytest.mark.parametrize("no_color", [False, True])
@given(pieces=PIECES)
def test_a_text_is_drawn_as_by_rich(pieces: list[tuple[str, str]], no_color: bool) -> None:  # noqa: FBT001
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FORCE_COLOR", raising=False)
        patch.setenv("NO_COLOR", "1" if no_color else "")
        patch.setenv("TERM", "xterm-256color")
        drawn = escaped(text_of(pieces), Terminal())
        assert escaped(text_of(pieces), StringIO()) == text_of(pieces).plain
    assert drawn == drawn_by_rich(pieces, no_color=no_color)


@given(pieces=PIECES, width=st.integers(1, 12))
def test_a_text_is_cut_as_by_rich(pieces: list[tuple[str, str]], width: int) -> None:
    text, expected = text_of(pieces), RichText.assemble(*pieces)
    expected.truncate(width, overflow="ellipsis")
    assert text.cut(width, "…").plain == expected.plain
    assert text.cut(width, "…").width <= width


def test_what_is_wider_than_the_terminal_is_wrapped_and_folded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "24")
    monkeypatch.setenv("NO_COLOR", "1")
    columns = [column("id", ids=True), column("state", fold=True), column("n", right=True)]
    rows = [("a123456789-x", "running the first step", "7"), ("b123456789-y", "failed", "12")]
    print_table(columns, rows)
    print_line("a line that is longer than the terminal is wide")
    assert ESCAPE.sub("", terminal.getvalue()).splitlines() == [
        "id        state        n",
        "a1234567  running      7",
        "          the first",
        "          step",
        "b1234567  failed      12",
        "a line that is longer",
        "than the terminal is",
        "wide",
    ]

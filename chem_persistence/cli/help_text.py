"""The help of a command is its docstring."""

from collections.abc import Callable
from inspect import getdoc

__all__ = ["paragraphs"]


def paragraphs(command: Callable[..., None]) -> str:
    """Give a docstring's paragraphs, each as one line, for a terminal of any width to break."""
    return "\n\n".join(" ".join(part.split()) for part in (getdoc(command) or "").split("\n\n"))

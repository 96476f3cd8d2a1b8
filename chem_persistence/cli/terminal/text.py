"""Texts for a terminal that need no package to draw them: escaped, times, sizes, errors."""

import sys
from datetime import datetime, timedelta

__all__ = [
    "has_box_characters",
    "one_line",
    "shown",
    "shown_ago",
    "shown_error",
    "shown_time",
]


def shown(text: object) -> str:
    """Return a text with its control and format characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: str) -> str:
    """Return a text with a space for each of its line breaks, and none at its ends."""
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def shown_error(error_class: str, message: str) -> str:
    """Return an error as one line, escaped as by `shown`."""
    return shown(one_line(f"{error_class}: {message}").removesuffix(":"))


def shown_time(moment: datetime | None) -> str:
    """Return a moment in UTC to the second; None is empty."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def shown_ago(length: timedelta) -> str:
    """Return how long ago something was, in one unit."""
    seconds = max(0, round(length.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def has_box_characters() -> bool:
    """Return whether the encoding of standard output has the characters that boxes are made of."""
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")

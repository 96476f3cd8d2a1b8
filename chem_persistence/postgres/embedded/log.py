"""What the log of an embedded server tells of a start that failed, or of a stop that does not end.

Source: PostgreSQL manual, section 19.8, "Error Reporting and Logging".
"""

import re
from pathlib import Path

__all__ = ["ServerLog", "last_lines"]

_LINE = re.compile(
    r"\b(?P<part>DEBUG[1-5]|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|CONTEXT|QUERY|STATEMENT|LOCATION)"
    r":  (?P<text>.*)"
)
_ENDING = {"FATAL", "PANIC"}
_EXPLAINING = {"DETAIL", "HINT"}
_REPEATING = {"CONTEXT", "QUERY", "STATEMENT", "LOCATION"}
_SILENCE = "it wrote no log"


class ServerLog:
    """The file to which a server writes, start after start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def end(self) -> int:
        """Give the place behind what is written so far."""
        return self._path.stat().st_size if self._path.exists() else 0

    def last_words(self, since: int) -> str:
        """Give the last lines that were written behind a place."""
        return last_lines(self._written(since)) or _SILENCE

    def reason(self, since: int) -> str:
        """Tell why a server ended that wrote behind a place: its last fatal message, and the message before that.

        It is the message before that names a wrong setting. Without a fatal message it is the last lines.
        """
        messages: list[list[str]] = []
        fatal = 0
        for line in self._written(since).splitlines():
            found = _LINE.search(line)
            if found is None or found["part"] in _REPEATING:
                continue
            said = f"{found['part']}: {found['text']}"
            if found["part"] in _EXPLAINING and messages:
                messages[-1].append(said)
                continue
            messages.append([said])
            if found["part"] in _ENDING:
                fatal = len(messages)
        if not fatal:
            return self.last_words(since)
        return "\n".join(
            said for message in messages[max(0, fatal - 2) : fatal] for said in message
        )

    def _written(self, since: int) -> str:
        if not self._path.exists():
            return ""
        with self._path.open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")


def last_lines(text: str) -> str:
    """Give the end of what a program wrote."""
    return "\n".join(text.strip().splitlines()[-10:])

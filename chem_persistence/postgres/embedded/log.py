"""The log of an embedded server, read for the reason of a failed start or stop.

Source: PostgreSQL manual, section 19.8, "Error Reporting and Logging".
"""

import re
from pathlib import Path

__all__ = ["ServerLog", "last_lines"]

_LINE = re.compile(
    r"\b(?P<part>DEBUG[1-5]|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC"
    r"|DETAIL|HINT|CONTEXT|QUERY|STATEMENT|LOCATION):  (?P<text>.*)"
)
_ENDING = {"FATAL", "PANIC"}
_EXPLAINING = {"DETAIL", "HINT"}
_REPEATING = {"CONTEXT", "QUERY", "STATEMENT", "LOCATION"}
_SILENCE = "it wrote no log"


class ServerLog:
    """The file to which a server appends its log at every start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def end(self) -> int:
        """Return the present size of the file, in bytes."""
        return self._path.stat().st_size if self._path.exists() else 0

    def last_lines_since(self, since: int) -> str:
        """Return the last lines that were written after an offset."""
        return last_lines(self._written(since)) or _SILENCE

    def reason(self, since: int) -> str:
        """Return the last fatal message that was written after an offset, and the one before it.

        The one before it names a wrong setting. Without a fatal message, return the last lines.
        """
        messages: list[list[str]] = []
        fatal = 0
        for line in self._written(since).splitlines():
            found = _LINE.search(line)
            if found is None or found["part"] in _REPEATING:
                continue
            message = f"{found['part']}: {found['text']}"
            if found["part"] in _EXPLAINING and messages:
                messages[-1].append(message)
                continue
            messages.append([message])
            if found["part"] in _ENDING:
                fatal = len(messages)
        if not fatal:
            return self.last_lines_since(since)
        return "\n".join(
            line for message in messages[max(0, fatal - 2) : fatal] for line in message
        )

    def _written(self, since: int) -> str:
        if not self._path.exists():
            return ""
        with self._path.open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")


def last_lines(text: str) -> str:
    """Return the last ten lines of a text."""
    return "\n".join(text.strip().splitlines()[-10:])

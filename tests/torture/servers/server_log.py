"""The log of a server: its errors, counted by SQLSTATE."""

from collections import Counter
from pathlib import Path

__all__ = ["ServerLog"]


class ServerLog:
    """The log of the embedded server in `directory`, whose `log_line_prefix` begins with `%e `."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "cluster" / "server.log"
        self._read = 0
        self._refusals: Counter[str] = Counter()

    def refusals(self) -> Counter[str]:
        """Count the SQLSTATEs of the errors that the server has logged so far."""
        with self._path.open("rb") as log:
            log.seek(self._read)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            state, _, rest = line.partition(" ")
            if rest.lstrip().startswith(("ERROR:", "FATAL:", "PANIC:")):
                self._refusals[state] += 1
        return self._refusals

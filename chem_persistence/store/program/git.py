"""The git commit that is checked out in a directory, read from git's own files.

No process is started: a worker on a cluster begins in milliseconds, and git need not be installed.
The format of the files is in gitrepository-layout(5). Whether the files in the directory are those
of the commit is not looked at.
"""

import re
from pathlib import Path

__all__ = ["checked_out_commit"]

_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")

MOST_SYMBOLIC = 5
"""How many references may refer to the next one, as in git itself."""


def checked_out_commit(directory: Path) -> str | None:
    """Return the hash of the commit that is checked out where a directory is; None if unknown."""
    try:
        for parent in (directory, *directory.parents):
            if (found := parent / ".git").exists():
                return _head(_git_directory(found))
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _git_directory(found: Path) -> Path:
    """Return the directory to which `.git` refers if it is a file, as in a worktree."""
    if found.is_dir():
        return found
    return found.parent / found.read_text(encoding="utf-8").removeprefix("gitdir:").strip()


def _head(git: Path) -> str | None:
    common = git / "commondir"
    shared = git / common.read_text(encoding="utf-8").strip() if common.exists() else git
    name = "HEAD"
    for _ in range(MOST_SYMBOLIC):
        text = _reference(git, shared, name)
        if text is None or not text.startswith("ref:"):
            return text if text is not None and _HASH.fullmatch(text) else None
        name = text.removeprefix("ref:").strip()
    return None


def _reference(git: Path, shared: Path, name: str) -> str | None:
    """Return what a reference holds: a loose one first, of the worktree, then a packed one."""
    for folder in (git, shared):
        if (loose := folder / name).is_file():
            return loose.read_text(encoding="utf-8").strip()
    packed = shared / "packed-refs"
    if packed.is_file():
        for line in packed.read_text(encoding="utf-8").splitlines():
            commit, _, ref = line.partition(" ")
            if ref == name:
                return commit
    return None

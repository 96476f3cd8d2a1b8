"""An earlier version of the library, checked out beside this one, with its own environment."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

__all__ = ["Checkout", "check_out", "check_out_tree"]

REPOSITORY = Path(__file__).parents[2]
CHECKOUTS = REPOSITORY / "build" / "against"

_COMPLETE = ".complete"
"""The file in a checkout's environment that says that nothing is missing there."""


class Checkout(msgspec.Struct, frozen=True):
    """A version: how it is named, and the interpreter that imports it.

    The benchmarks that it runs are those of this working tree: `path` has them and nothing else, so
    that the library is imported from the environment.
    """

    name: str
    python: Path
    path: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of its processes."""
        return {**os.environ, "PYTHONPATH": str(self.path), "PYTHONSAFEPATH": "1"}


def check_out(revision: str, say: Callable[[str], None], within: Path = CHECKOUTS) -> Checkout:
    """Check out a revision of this repository, and make its environment, unless both are there.

    Raises:
        subprocess.CalledProcessError: there is no such revision, or its packages cannot be had.
    """
    tree = check_out_tree(revision, say, within)
    place, environment = tree.parent, tree.parent / "environment"
    made = Checkout(place.name, environment / "bin" / "python", place / "path")
    if (place / _COMPLETE).exists():
        return made
    made.path.mkdir(exist_ok=True)
    benchmarks = made.path / "benchmarks"
    benchmarks.unlink(missing_ok=True)
    benchmarks.symlink_to(REPOSITORY / "benchmarks", target_is_directory=True)
    _run(sys.executable, "-m", "venv", str(environment))
    packages = ["--editable", f"{tree}[uvloop]", *_same_versions()]
    options = ["--quiet", "--disable-pip-version-check"]
    _run(str(made.python), "-m", "pip", "install", *options, *packages)
    (place / _COMPLETE).touch()
    return made


def check_out_tree(revision: str, say: Callable[[str], None], within: Path = CHECKOUTS) -> Path:
    """Check out the files of a revision, unless they are there, and return their folder.

    Raises:
        subprocess.CalledProcessError: there is no such revision.
    """
    commit = _git("rev-parse", "--verify", "--short=10", f"{revision}^{{commit}}")
    tree = within / commit / "tree"
    if not tree.exists():
        say(f"checking out {commit} into {tree}")
        tree.parent.mkdir(parents=True, exist_ok=True)
        _git("worktree", "prune")
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
    return tree


def _same_versions() -> list[str]:
    """Return the packages of which both versions have to have the same release."""
    from importlib.metadata import version  # noqa: PLC0415  # of those that are installed

    return [f"{name}=={version(name)}" for name in ("asyncpg", "msgspec", "uvloop")]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)

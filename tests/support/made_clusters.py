"""Data of new servers, as copies of what one run of initdb has made: a copy costs a fifth of it.

For tests that need a server of their own, and do not look at how its data are made.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from chem_persistence import embedded_postgres

__all__ = ["embedded_copy", "folder", "give_cluster", "give_data"]


async def give_cluster(directory: Path, *, version: str = "wheel") -> Path:
    """Put the data of a new server into a directory for `embedded_postgres`, and return it.

    `version` names the programs that embedded servers run at the time: each makes data of its own.
    """
    made = folder() / version
    if not made.exists():
        async with embedded_postgres(made):
            pass
    directory.mkdir(0o700, parents=True, exist_ok=True)
    await give_data(made / "cluster", directory / "cluster")
    return directory


@asynccontextmanager
async def embedded_copy() -> AsyncIterator[str]:
    """Run an embedded server on such data, in a temporary directory; yield its URL."""
    with tempfile.TemporaryDirectory(prefix="embedded-") as parent:
        async with embedded_postgres(await give_cluster(Path(parent) / "server")) as url:
            yield url


async def give_data(made: Path, data: Path, owner: tuple[int, int] | None = None) -> None:
    """Copy the data of a stopped server, without its log, for the owner that is given."""
    no_log = shutil.ignore_patterns("server.log")
    await asyncio.to_thread(shutil.copytree, made, data, ignore=no_log)
    if owner is not None:
        for path in (data, *data.rglob("*")):
            os.chown(path, *owner, follow_symlinks=False)


@cache
def folder() -> Path:
    """Make the folder of this process's clusters; it is removed when the process ends."""
    return Path(_temporary().name)


@cache
def _temporary() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="embedded-made-")

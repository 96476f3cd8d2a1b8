"""A PostgreSQL server that runs in a directory as long as it has users."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio

from chem_persistence.postgres.connection.event_loop import check_event_loop

__all__ = ["embedded_postgres"]

T = TypeVar("T")


@asynccontextmanager
async def embedded_postgres(directory: Path | str | None = None) -> AsyncIterator[str]:
    """Run PostgreSQL in `directory` and yield its URL, for user and database `postgres`.

    Without a directory the server uses a temporary one, which is removed at the end. A given
    directory is created with its parents and keeps its data. Any number of processes and tasks may
    share it: the first one starts the server and the last one stops it. Users that were killed do
    not count; the next user joins the server that they left, or restarts it. Needs POSIX and
    `pip install 'chem-persistence[embedded]'`.

    The server listens on a Unix socket only, and asks for no password, since the socket and the
    data are in directories of mode 0700: only root and the user that the server runs as can
    connect.

    The directory must belong to the caller (under root, also to the user that the server runs as),
    and no other user may write into it, nor into one above it without the sticky bit: a user who
    can put files or links there controls the log. Links in it are not followed.

    PostgreSQL refuses to run as root. Under root the server runs as the owner of the existing data,
    which is the system user `postgres` or `embedded_postgres`; the latter is created if both are
    missing. That user must reach the data and the programs, so every directory above them gets
    `o+x` (never `o+r`) if it lacks it, and the files of the wheel become readable by all. Other
    users' permissions are not changed.

    Raises:
        InvalidArgument: the `embedded-postgres` package is missing, the directory cannot be created
            or written, other users could interfere with it, its folder `cluster` was removed or
            emptied, or its data belongs to another major version of PostgreSQL; or no asyncio event
            loop runs.
        StoreUnavailable: the server could not be set up, started or stopped; the message ends with
            the reason from its log.
    """
    check_event_loop()
    from chem_persistence.postgres.embedded.lease import Lease  # noqa: PLC0415  # POSIX only

    lease = Lease(directory)
    try:
        yield await _to_its_end(lease.take)
    finally:
        await _to_its_end(lease.give_back)


async def _to_its_end(work: Callable[[], T]) -> T:
    """Run `work` in a thread to its end, and raise a cancellation only afterwards.

    anyio's shield does not stop `Task.cancel()`, after which the lease that the thread acquires
    would never be released. A task would be cancelled when the loop shuts down, so the executor's
    future is awaited directly.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled from running.exception()
    return running.result()

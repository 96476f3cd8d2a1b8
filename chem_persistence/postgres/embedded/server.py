"""A real PostgreSQL server in a directory, for as long as someone uses it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio

__all__ = ["embedded_postgres"]

T = TypeVar("T")


@asynccontextmanager
async def embedded_postgres(directory: Path | str | None = None) -> AsyncIterator[str]:
    """Run PostgreSQL in `directory` and give its URL, for user and database `postgres`.

    Without a directory the server lives in a temporary one, which is removed at the end. A directory that is
    given is created with its parents and keeps its data. Any number of processes and tasks may share it: the
    first starts the server and the last stops it. Users that were killed do not count, and the next user joins,
    or starts again, whatever server they left. Needs `pip install 'chem-persistence[embedded]'`, and POSIX.

    The server listens on a Unix socket only. Nobody is asked for a password, because the socket and the data are
    in directories of mode 0700: only the user that the server runs as, and root, can connect.

    PostgreSQL refuses to run as root. Under root the server runs as the owner of the existing data, else as the
    system user `postgres` or `embedded_postgres`, which is created where both are missing. That user must reach
    the data and the programs, so every directory above them gets `o+x` (never `o+r`) where it lacks it, and the
    wheel's own files become readable by all. An ordinary user's permissions are left alone.

    Raises:
        InvalidArgument: the `embedded-postgres` package is missing, the directory cannot be created or written,
            or its data belongs to another major version of PostgreSQL.
        StoreUnavailable: the server could not be set up, started or stopped; the message ends with what its
            log says of that.
    """
    from chem_persistence.postgres.embedded.lease import Lease  # noqa: PLC0415  # POSIX only

    lease = Lease(directory)
    try:
        yield await _to_its_end(lease.take)
    finally:
        await _to_its_end(lease.give_back)


async def _to_its_end(work: Callable[[], T]) -> T:
    """Run `work` in a thread and wait for its end through any cancellation, which is raised afterwards.

    anyio's shield does not stop `Task.cancel()`, which would leave a lease that a thread takes to nobody. A task
    would itself be cancelled when the loop shuts down, hence the executor's bare future.
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

"""The database of the examples: the server that you name, else an embedded one."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chem_persistence import PoolProvider, build_dev_pool_from_env, build_pool, embedded_postgres

__all__ = ["open_database", "open_server"]


@asynccontextmanager
async def open_database(
    url: str | None = None, *, directory: Path | None = None, connections: int = 4
) -> AsyncIterator[PoolProvider]:
    """Connect to `url`, else to DATABASE_URL, else to an embedded server.

    The embedded server keeps its data in `directory`; without one the data is temporary.
    """
    if url is not None:
        async with await build_pool(url, max_size=connections) as pool:
            yield PoolProvider(pool)
    elif os.environ.get("DATABASE_URL"):
        async with await build_dev_pool_from_env(max_size=connections) as pool:
            yield PoolProvider(pool)
    else:
        async with (
            embedded_postgres(directory) as own,
            await build_pool(own, max_size=connections) as pool,
        ):
            yield PoolProvider(pool)


@asynccontextmanager
async def open_server(
    url: str | None = None, *, directory: Path | None = None
) -> AsyncIterator[str]:
    """Yield `url`, else DATABASE_URL, else the URL of an embedded server.

    A program passes it to the processes that it starts. The embedded server keeps its data in
    `directory`; without one the data is temporary.
    """
    if named := url or os.environ.get("DATABASE_URL"):
        yield named
    else:
        async with embedded_postgres(directory) as own:
            yield own

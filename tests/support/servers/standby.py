"""A streaming standby of an embedded server: a real, read-only server."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from chem_persistence import embedded_postgres

__all__ = ["base_backup", "standby_of"]

PATIENCE_SECONDS = 60.0
REPLAYED = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"


@asynccontextmanager
async def standby_of(url: str) -> AsyncIterator[str]:
    """Copy an embedded server; yield the URL of a standby that has all of the server's data."""
    with tempfile.TemporaryDirectory(prefix="chem-persistence-standby-") as name:
        directory = Path(name)
        await base_backup(url, directory)
        async with embedded_postgres(directory) as standby:
            await _caught_up(url, standby)
            yield standby


async def base_backup(url: str, directory: Path, *options: str) -> None:
    """Copy a server that listens on a socket to `directory`/cluster.

    It runs the server's own program, as the user that the server runs as.
    """
    (socket,) = parse_qs(urlsplit(url).query)["host"]
    owner = Path(socket).stat()
    directory.chmod(0o700)
    os.chown(directory, owner.st_uid, owner.st_gid)
    primary = await asyncpg.connect(url)
    programs = await primary.fetchval("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
    await primary.close()
    root = os.geteuid() == 0
    backup = await asyncio.create_subprocess_exec(
        f"{programs}/pg_basebackup",
        f"--dbname={url}",
        f"--pgdata={directory / 'cluster'}",
        *("--checkpoint=fast", "--no-sync", "--write-recovery-conf", *options),
        user=owner.st_uid if root else None,
        group=owner.st_gid if root else None,
        extra_groups=[] if root else None,
        cwd=directory,
    )
    if await backup.wait() != 0:
        raise OSError("pg_basebackup made no standby")


async def _caught_up(url: str, standby_url: str) -> None:
    primary, standby = await asyncpg.connect(url), await asyncpg.connect(standby_url)
    try:
        wanted = await primary.fetchval("SELECT pg_current_wal_flush_lsn()::text")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await standby.fetchval(REPLAYED, wanted):
                await asyncio.sleep(0.02)
    finally:
        await primary.close()
        await standby.close()

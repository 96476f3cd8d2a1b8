"""PgBouncer in front of the server of the tests.

In transaction mode a client has one of the server's sessions only while it is in a transaction. If
the server is verified over TLS, PgBouncer verifies it and shows its clients the same certificate.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.faults.tls_ends import tls_ends
from tests.support.servers.tls import free_port

__all__ = ["pgbouncer_before", "pgbouncer_program"]

SERVER_CONNECTIONS = 3
PATIENCE_SECONDS = 20.0
NOBODY = 65534
CONFIGURATION = """\
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {connections}
server_login_retry = 1
"""
TLS = """\
server_tls_sslmode = verify-full
server_tls_ca_file = {folder}/root.crt
client_tls_sslmode = require
client_tls_cert_file = {folder}/server.crt
client_tls_key_file = {folder}/server.key
"""


def pgbouncer_program() -> str | None:
    """Return the path of PgBouncer; Debian installs it outside an ordinary user's PATH."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def pgbouncer_before(
    database_url: str, mode: Literal["transaction", "session"] = "transaction"
) -> AsyncIterator[str]:
    """Yield the database's URL through a PgBouncer with fewer sessions than clients."""
    program = pgbouncer_program()
    assert program is not None
    target, port = urlsplit(database_url), free_port()
    account = _account(database_url)
    with tempfile.TemporaryDirectory(prefix="chem-persistence-pgbouncer-") as name:
        configuration, log = Path(name, "pgbouncer.ini"), Path(name, "log")
        configuration.write_text(
            CONFIGURATION.format(
                server=_server(database_url), port=port, mode=mode, connections=SERVER_CONNECTIONS
            ),
            encoding="utf-8",
        )
        Path(name).chmod(0o755)
        parameters = _with_tls(database_url, configuration, account)
        with log.open("wb") as logged:
            process = await asyncio.create_subprocess_exec(
                program,
                str(configuration),
                user=account and account[0],
                group=account and account[1],
                extra_groups=account and [],
                stdin=asyncio.subprocess.DEVNULL,
                stderr=logged,
            )
        try:
            await _takes_connections(process, port, log)
            user = target.username or "postgres"
            yield f"postgresql://{user}@127.0.0.1:{port}{target.path}{parameters}"
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _takes_connections(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Wait until PgBouncer listens; raise AssertionError with its log if it has ended."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
    raise AssertionError(log.read_text(encoding="utf-8"))


def _account(database_url: str) -> tuple[int, int] | None:
    """Return the user and group to run as, or None for the present ones.

    PgBouncer does not run as root; it runs as the owner of the server's socket, else as nobody.
    """
    if os.geteuid() != 0:
        return None
    host = parse_qs(urlsplit(database_url).query).get("host")
    owner = Path(host[0]).stat() if host else None
    return (owner.st_uid, owner.st_gid) if owner and owner.st_uid else (NOBODY, NOBODY)


def _with_tls(database_url: str, configuration: Path, account: tuple[int, int] | None) -> str:
    """Encrypt both sides if the server is encrypted; return the parameters for the client's URL."""
    ends, folder = tls_ends(database_url), configuration.parent
    if ends is None:
        return ""
    for file in (ends.root, ends.certificate, ends.key):
        shutil.copy(file, folder)
    if account is not None:
        os.chown(folder / ends.key.name, *account)
    with configuration.open("a", encoding="utf-8") as lines:
        lines.write(TLS.format(folder=folder))
    return f"?{urlsplit(database_url).query}"


def _server(database_url: str) -> str:
    """Return the server's address and user in the syntax of PgBouncer's configuration."""
    parts = urlsplit(database_url)
    query = parse_qs(parts.query)
    words = {
        "host": parts.hostname or query["host"][0],
        "port": parts.port or query.get("port", ["5432"])[0],
        "user": parts.username or "postgres",
        "password": unquote(parts.password) if parts.password else None,
    }
    return " ".join(f"{word}='{value}'" for word, value in words.items() if value)

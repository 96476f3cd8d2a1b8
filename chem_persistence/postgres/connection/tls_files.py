"""Checks of the TLS files that a database URL names, before a connection is attempted."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from chem_persistence.errors import InvalidDatabaseUrl

__all__ = ["check_tls_files"]

_UNVERIFIED = {"disable", "allow", "prefer"}


def check_tls_files(dsn: str) -> None:
    """Check the TLS files that asyncpg will read for this DSN of a `DatabaseUrl`.

    asyncpg passes on the errors of the operating system and of OpenSSL, which do not name the file
    and look like those of an unreachable server.

    Raises:
        InvalidDatabaseUrl: a file is missing, unreadable, or not of the kind its keyword asks for.
    """
    values = dict(parse_qsl(urlsplit(dsn).query))
    mode = values.get("sslmode", "prefer")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for keyword in ("sslrootcert", "sslcrl"):
        if mode not in _UNVERIFIED and values.get(keyword):
            with _named(keyword):
                context.load_verify_locations(cafile=values[keyword])
    certificate, key = values.get("sslcert"), values.get("sslkey")
    for keyword in ("sslcert", "sslkey"):
        if mode != "disable" and certificate and values.get(keyword):
            with _named(keyword):
                Path(values[keyword]).read_bytes()
    # Without sslkey, asyncpg looks for a key in the home directory.
    if mode != "disable" and certificate and key:
        with _named("sslcert and sslkey"):
            context.load_cert_chain(certificate, key, lambda: values.get("sslpassword", ""))


@contextmanager
def _named(keyword: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise InvalidDatabaseUrl(
            f"{keyword}: OpenSSL cannot use the file: {error.reason}"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InvalidDatabaseUrl(f"{keyword}: the file cannot be read: {reason}") from None

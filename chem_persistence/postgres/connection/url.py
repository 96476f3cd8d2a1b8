"""Database URLs: parsed as libpq parses them, and translated for asyncpg.

asyncpg sends each parameter that it does not know to the server as a setting, and omits checks that
a URL can ask for. Here each keyword is passed on, translated, dropped if it changes nothing, or
rejected.

Sources: PostgreSQL 18 manual, "libpq - C Library", sections "Connection Strings", "Parameter Key
Words" and "Environment Variables".
"""

import difflib
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import quote, unquote, urlencode

import msgspec

from chem_persistence.errors import InvalidDatabaseUrl
from chem_persistence.postgres.connection.sockets import KeepAlive

__all__ = ["DatabaseUrl", "parse_database_url"]

_ANY: Final = "*"
_INTEGER: Final = "integer"
_NONE: Final = ""
_SESSIONS: Final = "any|read-write|read-only|primary|standby|prefer-standby"
_TLS_VERSIONS: Final = "|TLSv1|TLSv1.1|TLSv1.2|TLSv1.3"


class _Keyword(msgspec.Struct, frozen=True):
    """How a libpq keyword is treated.

    `action`: pass it to asyncpg under the same name, read it here, or drop it. `accepts` lists the
    values that are not rejected. `variable` is the environment variable that libpq reads if the URL
    has no value; empty if asyncpg reads it itself or there is none.
    """

    action: Literal["pass", "read", "drop"]
    accepts: str
    variable: str = ""


_KEYWORDS: Final = {
    "host": _Keyword("read", _ANY, "PGHOST"),
    "hostaddr": _Keyword("read", _ANY, "PGHOSTADDR"),
    "port": _Keyword("read", _ANY, "PGPORT"),
    **dict.fromkeys(
        ("dbname", "user", "password", "passfile", "sslpassword"), _Keyword("pass", _ANY)
    ),
    "connect_timeout": _Keyword("read", _INTEGER, "PGCONNECT_TIMEOUT"),
    "options": _Keyword("read", _ANY, "PGOPTIONS"),
    "application_name": _Keyword("read", _ANY, "PGAPPNAME"),
    "fallback_application_name": _Keyword("read", _ANY),
    "target_session_attrs": _Keyword("pass", _SESSIONS, "PGTARGETSESSIONATTRS"),
    # The URL accepts any of its hosts, so the first one that answers will do.
    "load_balance_hosts": _Keyword("drop", "disable|random", "PGLOADBALANCEHOSTS"),
    # asyncpg always uses UTF-8, and its callers see only str.
    "client_encoding": _Keyword("drop", _ANY, "PGCLIENTENCODING"),
    "replication": _Keyword("drop", "|false|off|no|0"),
    **{
        f"keepalives{end}": _Keyword("read", _INTEGER)
        for end in ("", "_idle", "_interval", "_count")
    },
    "tcp_user_timeout": _Keyword("read", _INTEGER),
    # asyncpg speaks protocol 3.0 only.
    "min_protocol_version": _Keyword("drop", "3.0", "PGMINPROTOCOLVERSION"),
    "max_protocol_version": _Keyword("drop", "3.0|3.2|latest", "PGMAXPROTOCOLVERSION"),
    # asyncpg ignores an unknown service, most of a service's settings, and PGSERVICE.
    "service": _Keyword("drop", _NONE, "PGSERVICE"),
    "sslmode": _Keyword("pass", "disable|allow|prefer|require|verify-ca|verify-full", "PGSSLMODE"),
    "sslnegotiation": _Keyword("pass", "postgres|direct", "PGSSLNEGOTIATION"),
    "sslrootcert": _Keyword("pass", _ANY, "PGSSLROOTCERT"),
    "sslcert": _Keyword("pass", _ANY, "PGSSLCERT"),
    "sslkey": _Keyword("pass", _ANY, "PGSSLKEY"),
    "sslcrl": _Keyword("pass", _ANY, "PGSSLCRL"),
    "sslcrldir": _Keyword("drop", _NONE, "PGSSLCRLDIR"),
    "ssl_min_protocol_version": _Keyword("pass", _TLS_VERSIONS, "PGSSLMINPROTOCOLVERSION"),
    "ssl_max_protocol_version": _Keyword("pass", _TLS_VERSIONS, "PGSSLMAXPROTOCOLVERSION"),
    "sslcertmode": _Keyword("drop", "allow", "PGSSLCERTMODE"),
    "sslsni": _Keyword("drop", "1", "PGSSLSNI"),
    # Servers since 14 never compress, and a TLS key log is for debugging: asyncpg is stricter.
    "sslcompression": _Keyword("drop", _ANY, "PGSSLCOMPRESSION"),
    "sslkeylogfile": _Keyword("drop", _ANY),
    "channel_binding": _Keyword("drop", "disable|prefer", "PGCHANNELBINDING"),
    "require_auth": _Keyword("drop", _NONE, "PGREQUIREAUTH"),
    "requirepeer": _Keyword("drop", _NONE, "PGREQUIREPEER"),
    "gssencmode": _Keyword("drop", "disable|prefer", "PGGSSENCMODE"),
    "gssdelegation": _Keyword("drop", "0", "PGGSSDELEGATION"),
    "krbsrvname": _Keyword("pass", _ANY, "PGKRBSRVNAME"),
    "gsslib": _Keyword("pass", "|gssapi|sspi", "PGGSSLIB"),
    **dict.fromkeys(
        ("servicefile", "scram_client_key", "scram_server_key"), _Keyword("drop", _NONE)
    ),
    **{
        f"oauth_{end}": _Keyword("drop", _NONE)
        for end in ("issuer", "client_id", "client_secret", "scope")
    },
}

_HINTS: Final = {
    "search_path": "search_path is the `schema` argument of build_pool",
    "database": "a database is written as /name after the host, or as dbname",
    "ssl": "ssl can only be true; write sslmode",
}
_SETTING_HINT: Final = "a server setting is written options=-c%20name%3Dvalue"

_HOST: Final = re.compile(r"(?:\[([^\]]+)\]|((?!\[)[^:]*))(?::(.*))?", re.DOTALL)
_SETTING_NAME = re.compile("[a-z_]+")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00|\0")
_WHOLE_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]{1,10}\s*", re.ASCII)


class DatabaseUrl(msgspec.Struct, frozen=True):
    """A libpq URL and environment, in asyncpg's terms; its repr shows no secret.

    Where the URL has no user, password, password file or database, `dsn` leaves them to asyncpg,
    which reads their PG* variables. `connect_timeout` is in seconds, or None if the URL sets none.
    `names` are the hosts that `dsn` replaces by their addresses: the password file has the names.
    """

    dsn: str
    connect_timeout: float | None
    server_settings: Mapping[str, str]
    keepalive: KeepAlive = KeepAlive()
    names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"DatabaseUrl(<hidden>, connect_timeout={self.connect_timeout!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("connect_timeout", self.connect_timeout)]


def parse_database_url(url: str, environ: Mapping[str, str]) -> DatabaseUrl:
    """Translate a libpq URL, completed from the PG* environment variables, for asyncpg.

    A value in the URL takes precedence over the environment, and a later one in the URL over an
    earlier one (manual, sections above).

    Args:
        url: `postgresql://[user[:password]@][host[:port],...][/dbname][?keyword=value&...]`.
        environ: the environment variables, as in `os.environ`.

    Raises:
        InvalidDatabaseUrl: the URL is malformed, has a keyword that libpq does not know, or asks
            for something that asyncpg does not support. The message repeats nothing of the URL but
            the names of keywords.
    """
    values = _complete(_split(url), environ)
    _settle_tls(values)
    addresses, port = _addresses(values)
    passed = [name for name, keyword in _KEYWORDS.items() if keyword.action == "pass"]
    query = {name: values[name] for name in passed if values.get(name)}
    query |= {"port": port} if port else {}
    application = values.get("application_name", values.get("fallback_application_name", ""))
    settings = {"options": values.get("options", ""), "application_name": application}
    timeout = int(values.get("connect_timeout", "0"))
    return DatabaseUrl(
        dsn=f"postgresql://{addresses}?{urlencode(query, safe='', quote_via=quote)}",
        connect_timeout=float(timeout) if timeout > 0 else None,
        server_settings={name: value for name, value in settings.items() if value},
        keepalive=_keepalive(values),
        names=tuple(values["host"].split(",")) if _has_names_and_addresses(values) else (),
    )


def _keepalive(values: Mapping[str, str]) -> KeepAlive:
    """Return the options of the socket; as for libpq, only keepalives=0 switches keepalive off."""

    def number(name: str, largest: int) -> int:
        return min(max(int(values.get(name, "0")), 0), largest)

    return KeepAlive(
        on=int(values.get("keepalives", "1")) != 0,
        idle=number("keepalives_idle", 2**15 - 1),  # the largest that Linux accepts
        interval=number("keepalives_interval", 2**15 - 1),
        count=number("keepalives_count", 127),
        user_timeout=number("tcp_user_timeout", 2**31 - 1),
    )


def _has_names_and_addresses(values: Mapping[str, str]) -> bool:
    return bool(values.get("host") and values.get("hostaddr"))


def _split(url: str) -> dict[str, str]:
    """Split a URL as libpq does: an unescaped `@` ends the password, `#` is not special."""
    if not url:
        raise InvalidDatabaseUrl("is missing or empty")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgresql", "postgres"}:
        hint = ", without the name of a driver" if separator and "+" in scheme else ""
        raise InvalidDatabaseUrl(f"must begin with postgresql:// or postgres://{hint}")
    values: dict[str, str] = {}
    if credentials := re.match(r"([^@/:]*)(?::([^@/]*))?@", rest):
        values |= {"user": credentials[1], "password": credentials[2] or ""}
        rest = rest[credentials.end() :]
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    path, _, query = rest[len(authority) :].partition("?")
    hosts = [_HOST.fullmatch(host) for host in authority.split(",")]
    if None in hosts:
        raise InvalidDatabaseUrl("has a host with unmatched brackets")
    values["host"] = ",".join(host[1] or host[2] for host in hosts if host)
    values["port"] = ",".join(host[3] or "" for host in hosts if host)
    values["dbname"] = path[1:]
    decoded = {name: _decode(value) for name, value in values.items() if value}
    return decoded | dict(_parameters(query))


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    for number, parameter in enumerate(
        query.removesuffix("&").split("&") if query else (), start=1
    ):
        if parameter.count("=") != 1:
            raise InvalidDatabaseUrl(
                f"query parameter {number} must have one '=' (write others as %3D)"
            )
        name, value = map(_decode, parameter.split("="))
        if (name, value) == ("ssl", "true"):
            name, value = "sslmode", "require"
        elif name == "requiressl":
            name, value = "sslmode", "require" if value.startswith("1") else "prefer"
        if name not in _KEYWORDS:
            near = difflib.get_close_matches(name[:40], _KEYWORDS, n=1, cutoff=0.8)
            hint = _HINTS.get(name, f"did you mean {near[0]}?" if near else _SETTING_HINT)
            # A name with other characters than a setting's, or beside an "@", may be a password.
            given = name if _SETTING_NAME.fullmatch(name) and "@" not in query else number
            raise InvalidDatabaseUrl(f"libpq does not know query parameter {given}: {hint}")
        yield name, value


def _decode(text: str) -> str:
    """Decode percent-encoding as libpq does.

    `+` is kept, spaces around the text are removed, and spaces inside it are an error.
    """
    if _BAD_ESCAPE.search(text):
        raise InvalidDatabaseUrl("has a bad percent escape (write % as %25)")
    trimmed = text.strip(" ")
    if " " in trimmed:
        raise InvalidDatabaseUrl("has a space inside (write it as %20)")
    return unquote(trimmed, errors="surrogateescape")


def _complete(given: dict[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Add the values of the environment, then check each value against its keyword.

    Raises:
        InvalidDatabaseUrl: a keyword does not accept its value.
    """
    variables = {
        name: keyword.variable for name, keyword in _KEYWORDS.items() if keyword.variable in environ
    }
    values = {name: environ[variable] for name, variable in variables.items()} | given
    if "sslmode" not in values and environ.get("PGREQUIRESSL", "").startswith("1"):
        values["sslmode"] = "require"
    for name in {"ssl_min_protocol_version", "ssl_max_protocol_version"} & values.keys():
        values[name] = re.sub("^tlsv", "TLSv", values[name], flags=re.IGNORECASE)
    for name, value in values.items():
        label = name if name in given else variables.get(name, name)
        keyword = _KEYWORDS[name]
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidDatabaseUrl(f"{label} is not UTF-8")
        if keyword.accepts == _INTEGER and not _WHOLE_NUMBER.fullmatch(value):
            raise InvalidDatabaseUrl(f"{label} must be an integer")
        if keyword.accepts not in {_ANY, _INTEGER} and value not in keyword.accepts.split("|"):
            choices = keyword.accepts.strip("|").replace("|", " or ") or "left out"
            raise InvalidDatabaseUrl(f"{label} must be {choices}: asyncpg supports no other value")
    return values


def _settle_tls(values: dict[str, str]) -> None:
    """Check libpq's rules between the TLS keywords, and resolve `sslrootcert=system` to a file."""
    if values.get("sslrootcert") == "system":
        if values.setdefault("sslmode", "verify-full") != "verify-full":
            raise InvalidDatabaseUrl("sslrootcert=system needs sslmode=verify-full")
        bundle = ssl.get_default_verify_paths().cafile
        if not bundle:
            raise InvalidDatabaseUrl(
                "sslrootcert=system: OpenSSL has no bundle file on this machine; give a path"
            )
        values["sslrootcert"] = bundle
    weak = values.get("sslmode", "prefer") in {"disable", "allow", "prefer"}
    if values.get("sslnegotiation") == "direct" and weak:
        raise InvalidDatabaseUrl(
            "sslnegotiation=direct needs sslmode=require, verify-ca or verify-full"
        )
    if values.get("sslmode") == "verify-full" and values.get("hostaddr"):
        raise InvalidDatabaseUrl(
            "hostaddr with sslmode=verify-full: asyncpg verifies only the address it connects to"
        )


def _addresses(values: Mapping[str, str]) -> tuple[str, str]:
    """Return `host:port,...`, or an empty string and the port if there is no host.

    Each host is escaped so that urllib and asyncpg accept IPv6 addresses and socket directories.
    """
    hosts, addresses = values.get("host", "").split(","), values.get("hostaddr", "").split(",")
    if addresses != [""]:
        hosts = hosts if hosts != [""] else hosts * len(addresses)
        if len(hosts) != len(addresses):
            raise InvalidDatabaseUrl("has a different number of hosts than of values of hostaddr")
        hosts = [address or host for address, host in zip(addresses, hosts, strict=True)]
    ports = values.get("port", "").split(",")
    if len(ports) not in {1, len(hosts)}:
        raise InvalidDatabaseUrl("has a different number of ports than of hosts")
    if any(
        port and not (_WHOLE_NUMBER.fullmatch(port) and 0 < int(port) < 65536) for port in ports
    ):
        raise InvalidDatabaseUrl("has a port that is not 1 to 65535 (in a password write / as %2F)")
    ports = [str(int(port or "5432")) for port in ports] * (len(hosts) // len(ports))
    if hosts == [""]:
        return "", ports[0] if values.get("port") else ""
    if "" in hosts:
        raise InvalidDatabaseUrl("has an empty host among several hosts")
    if any("@" in host for host in hosts):
        raise InvalidDatabaseUrl("has a host with '@' (in a user or password write it as %40)")
    return ",".join(
        f"{quote(host, safe='')}:{port}" for host, port in zip(hosts, ports, strict=True)
    ), ""

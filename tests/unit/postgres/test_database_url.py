"""asyncpg gets what a database URL means to libpq.

The readings of libpq below were checked with `psql` 15; the tests do not need it.
"""

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from asyncpg import connect_utils
from hypothesis import given
from hypothesis import strategies as st

from chem_persistence.errors import InvalidDatabaseUrl
from chem_persistence.postgres.connection.url import DatabaseUrl, parse_database_url

SECRET: Final = "hUnter7Zq"
# asyncpg has no public way to show how it reads a DSN.
READ_DSN: Final = connect_utils._parse_connect_dsn_and_args  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _no_postgres_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "HOST",
        "PORT",
        "USER",
        "PASSWORD",
        "DATABASE",
        "PASSFILE",
        "SSLMODE",
        "SERVICE",
        "SERVICEFILE",
    ):
        monkeypatch.delenv(f"PG{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def parse(url: str, **environ: str) -> DatabaseUrl:
    return parse_database_url(url, environ)


def refusal(url: str, **environ: str) -> str:
    with pytest.raises(InvalidDatabaseUrl) as caught:
        parse_database_url(url, environ)
    return str(caught.value)


def driver_reads(url: DatabaseUrl) -> tuple[list[Any], Any]:
    """Return how asyncpg reads the DSN, as `asyncpg.connect` does."""
    others = (
        "host port user password passfile database ssl service servicefile direct_tls "
        "server_settings"
    )
    nothing = dict.fromkeys([*others.split(), "target_session_attrs", "krbsrvname", "gsslib"])
    addresses, parameters = READ_DSN(dsn=url.dsn, **nothing)
    assert not parameters.server_settings
    return addresses, parameters


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("postgresql://u@h/d", [("h", 5432)]),
        ("postgres://u@h:1/d", [("h", 1)]),
        ("postgresql://u@h:/d", [("h", 5432)]),
        ("postgresql://u@h:+1%20/d", [("h", 1)]),
        ("postgresql://u@10.0.0.1:1/d", [("10.0.0.1", 1)]),
        ("postgresql://u@[::1]:1/d", [("::1", 1)]),
        (
            "postgresql://u@[::1],h:2,[fe80::1%25eth0]:3/d",
            [("::1", 5432), ("h", 2), ("fe80::1%eth0", 3)],
        ),
        ("postgresql://u@a:1,b:2/d", [("a", 1), ("b", 2)]),
        ("postgresql://u@a,b:2/d", [("a", 5432), ("b", 2)]),
        ("postgresql://u@a:1,b:2/d?port=3", [("a", 3), ("b", 3)]),
        ("postgresql://u@a%2Cb:2/d", [("a", 2), ("b", 2)]),
        ("postgresql://u@/d?host=a,b&port=1,2", [("a", 1), ("b", 2)]),
        ("postgresql://u@/d?host=::1", [("::1", 5432)]),
        ("postgresql://u@ignored/d?host=h", [("h", 5432)]),
        ("postgresql://u@%2Fvar%2Frun/d", ["/var/run/.s.PGSQL.5432"]),
        ("postgresql://u@%2Fvar%2Frun:1/d", ["/var/run/.s.PGSQL.1"]),
        ("postgresql:///d?user=u&host=/var/run&port=1", ["/var/run/.s.PGSQL.1"]),
        ("postgresql://u@/d?host=/a%20b%3F%23", ["/a b?#/.s.PGSQL.5432"]),
        ("postgresql://u@/d?hostaddr=127.0.0.1", [("127.0.0.1", 5432)]),
        ("postgresql://u@/d?hostaddr=127.0.0.1,::1&port=1", [("127.0.0.1", 1), ("::1", 1)]),
        ("postgresql://u@h:1/d?hostaddr=127.0.0.1", [("127.0.0.1", 1)]),
        ("postgresql://u@a,b/d?hostaddr=127.0.0.1,", [("127.0.0.1", 5432), ("b", 5432)]),
    ],
)
def test_hosts_and_ports_are_those_that_libpq_dials(url: str, addresses: list[object]) -> None:
    assert driver_reads(parse(url))[0] == addresses


@pytest.mark.parametrize(
    ("url", "user", "password", "database"),
    [
        ("postgresql://u:p@h/d", "u", "p", "d"),
        ("postgresql://u@h", "u", None, "u"),
        ("postgresql://u:@h/", "u", None, "u"),
        ("postgresql://u%40x:p%40q%3A%2F%3F%23%5B@h/d%2Fe", "u@x", "p@q:/?#[", "d/e"),
        ("postgresql://u:a:b@h/d", "u", "a:b", "d"),
        ("postgresql://u:a?b#c[d]@h/d#e", "u", "a?b#c[d]", "d#e"),
        ("postgresql://u:a+b@h/c+d", "u", "a+b", "c+d"),
        ("postgresql://h/d?user=u&password=a+b%26", "u", "a+b&", "d"),
        ("postgresql://x:y@h/z?user=u&password=p&dbname=d", "u", "p", "d"),
        ("postgresql://h/?user=x&user=u&password=p&", "u", "p", "u"),
        ("postgresql://u:p%C3%A4\u00fc@h/\u00e9?", "u", "p\u00e4\u00fc", "\u00e9"),
        ("postgresql://u@h/a/b", "u", None, "a/b"),
        ("postgresql:// u : p @ h / d ", "u", "p", "d"),
    ],
)
def test_user_password_and_database_are_those_that_libpq_sends(
    url: str, user: str, password: str | None, database: str
) -> None:
    parameters = driver_reads(parse(url))[1]
    assert (parameters.user, parameters.password, parameters.database) == (user, password, database)


@pytest.mark.parametrize(
    "url", ["postgresql://", "postgres://?", "postgresql:///", "postgresql://@/?"]
)
def test_empty_parts_are_left_to_the_driver(url: str) -> None:
    assert parse(url).dsn == "postgresql://?"


def test_a_port_without_a_host_is_the_port_of_the_default_socket() -> None:
    assert driver_reads(parse("postgresql://u@:1/d"))[0][0] == "/run/postgresql/.s.PGSQL.1"


text = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)
host = st.one_of(
    st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
    st.ip_addresses().map(str),
    text.filter(lambda path: "," not in path and "@" not in path and ".s.PGSQL." not in path).map(
        lambda path: f"/{path}"
    ),
)


@given(
    user=text,
    password=text,
    database=text,
    places=st.lists(st.tuples(host, st.integers(1, 65535)), min_size=1, max_size=3),
)
def test_every_part_of_a_url_comes_back_from_the_driver(
    user: str, password: str, database: str, places: list[tuple[str, int]]
) -> None:
    hosts = ",".join(f"{_written(host)}:{port}" for host, port in places)
    credentials = f"{quote(user, '')}:{quote(password, '')}"
    addresses, parameters = driver_reads(
        parse(f"postgresql://{credentials}@{hosts}/{quote(database, '')}")
    )
    assert (parameters.user, parameters.password, parameters.database) == (user, password, database)
    assert addresses == [_dialled(host, port) for host, port in places]


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("/") else quote(host, "")


def _dialled(host: str, port: int) -> str | tuple[str, int]:
    if host.startswith("/"):
        return f"{host}.s.PGSQL.{port}" if host.endswith("/") else f"{host}/.s.PGSQL.{port}"
    return host, port


@given(user=text, password=text, database=text)
def test_parts_in_the_query_come_back_as_well(user: str, password: str, database: str) -> None:
    query = f"user={quote(user, '')}&password={quote(password, '')}&dbname={quote(database, '')}"
    parameters = driver_reads(parse(f"postgresql://h?{query}"))[1]
    assert (parameters.user, parameters.password, parameters.database) == (user, password, database)


@pytest.mark.parametrize(
    "parameter",
    [
        "gssencmode=disable",
        "gssencmode=prefer",
        "gssdelegation=0",
        "channel_binding=disable",
        "channel_binding=prefer",
        "require_auth=",
        "requirepeer=",
        "sslcertmode=allow",
        "sslsni=1",
        "sslcompression=1",
        "sslkeylogfile=/tmp/x",
        "client_encoding=auto",
        "client_encoding=LATIN1",
        "replication=false",
        "keepalives=1",
        "tcp_user_timeout=0",
        "load_balance_hosts=random",
        "min_protocol_version=3.0&max_protocol_version=latest",
        "krbsrvname=&sslcert=&sslkey=&sslcrl=&sslpassword=&sslrootcert=&passfile=&gsslib=",
        "options=&application_name=&fallback_application_name=",
        "service=&scram_client_key=&oauth_issuer=",
    ],
)
def test_what_asyncpg_does_without_harm_is_dropped(parameter: str) -> None:
    expected = DatabaseUrl(
        dsn="postgresql://h:5432?user=u", connect_timeout=None, server_settings={}
    )
    assert parse(f"postgresql://u@h?{parameter}") == expected


@pytest.mark.parametrize(
    "parameter",
    [
        "gssencmode=require",
        "gssencmode=",
        "gssdelegation=1",
        "channel_binding=require",
        "require_auth=scram-sha-256",
        "requirepeer=postgres",
        "sslcertmode=require",
        "sslcertmode=disable",
        "sslsni=0",
        "sslcrldir=/x",
        "scram_client_key=x",
        "scram_server_key=x",
        "oauth_issuer=x",
        "oauth_client_id=x",
        "oauth_client_secret=x",
        "oauth_scope=x",
        "replication=database",
        "service=x",
        "servicefile=x",
        "min_protocol_version=3.2",
        "max_protocol_version=2.0",
        "ssl_min_protocol_version=SSLv3",
        "gsslib=x",
        "sslmode=",
        "sslmode=parse",
        "sslnegotiation=x",
        "target_session_attrs=x",
        "load_balance_hosts=x",
        "keepalives=x",
        "keepalives_idle=",
        "tcp_user_timeout=1.5",
        "connect_timeout=",
        "connect_timeout=1_0",
        "connect_timeout=\u0663",
    ],
)
def test_what_would_lose_safety_or_meaning_is_refused_by_name(parameter: str) -> None:
    assert parameter.partition("=")[0] in refusal(f"postgresql://u:{SECRET}@h/d?{parameter}")


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_sslmode_reaches_the_driver(mode: str) -> None:
    assert driver_reads(parse(f"postgresql://u@h/d?sslmode={mode}"))[1].sslmode.name == mode


@pytest.mark.parametrize(
    ("parameter", "passed"),
    [
        ("sslmode=verify-full&sslrootcert=/a%20b", "sslmode=verify-full&sslrootcert=%2Fa%20b"),
        ("ssl=true", "sslmode=require"),
        ("sslmode=disable&ssl=true", "sslmode=require"),
        ("requiressl=1", "sslmode=require"),
        ("requiressl=0", "sslmode=prefer"),
        ("sslmode=require&sslnegotiation=direct", "sslmode=require&sslnegotiation=direct"),
        ("ssl_min_protocol_version=tlsv1.2", "ssl_min_protocol_version=TLSv1.2"),
        ("ssl_max_protocol_version=TLSV1.3", "ssl_max_protocol_version=TLSv1.3"),
        ("sslcert=c&sslkey=k&sslcrl=l", "sslcert=c&sslkey=k&sslcrl=l"),
        ("sslpassword=a+b", "sslpassword=a%2Bb"),
        ("passfile=/p", "passfile=%2Fp"),
        ("target_session_attrs=prefer-standby", "target_session_attrs=prefer-standby"),
        ("krbsrvname=k&gsslib=gssapi", "krbsrvname=k&gsslib=gssapi"),
    ],
)
def test_what_asyncpg_means_alike_is_passed(parameter: str, passed: str) -> None:
    assert parse(f"postgresql://h?{parameter}").dsn == f"postgresql://h:5432?{passed}"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "missing or empty"),
        ("postgresql", "must begin with postgresql://"),
        ("host=h user=u", "must begin with postgresql://"),
        ("http://h", "must begin with postgresql://"),
        ("POSTGRESQL://h", "must begin with postgresql://"),
        (" postgresql://h", "must begin with postgresql://"),
        ("postgresql+asyncpg://h", "without the name of a driver"),
        ("postgresql://h:0", "port"),
        ("postgresql://h:65536", "port"),
        ("postgresql://h:x", "port"),
        ("postgresql://h:1_0", "port"),
        ("postgresql://h:\u0663", "port"),
        ("postgresql://h:" + "9" * 5000, "port"),
        (f"postgresql://u:1/{SECRET}x:y@h:z/d?port=q", "port"),
        (f"postgresql://u:{SECRET}/x@h/d", "%2F"),
        (f"postgresql://u:p@{SECRET}@h/d", "%40"),
        ("postgresql://%40abstract/d", "@"),
        ("postgresql://a,,b/d", "empty host"),
        ("postgresql://a,/d", "empty host"),
        ("postgresql://a:1,b:2/d?host=h", "number of ports"),
        ("postgresql://:1,:2/d", "empty host"),
        ("postgresql://a,b/d?hostaddr=127.0.0.1", "number of hosts"),
        ("postgresql://[::1/d", "brackets"),
        ("postgresql://[]/d", "brackets"),
        ("postgresql://[::1]x/d", "brackets"),
        ("postgresql://::1/d", "port"),
        ("postgresql://u:%zz@h", "escape"),
        ("postgresql://u:%4@h", "escape"),
        ("postgresql://u:%00@h", "escape"),
        ("postgresql://u:\0@h", "escape"),
        ("postgresql://u:%FF@h", "UTF-8"),
        ("postgresql://u:\ud800@h", "UTF-8"),
        ("postgresql://h/a b", "%20"),
        ("postgresql://h?sslmode", "one '='"),
        ("postgresql://h?sslmode=a=b", "one '='"),
        ("postgresql://h?&sslmode=disable", "one '='"),
        ("postgresql://h?&", "one '='"),
        ("postgresql://h?sslmod=disable", "did you mean sslmode?"),
        ("postgresql://h?sslmode=disable&nope=1", "libpq does not know query parameter nope: "),
        ("postgresql://h?no%2Dpe=1", "libpq does not know query parameter 1: "),
        ("postgresql://h?ssl=false", "sslmode"),
        ("postgresql://h?search_path=x", "`schema` argument of build_pool"),
        ("postgresql://h?statement_timeout=1", "options=-c%20name%3Dvalue"),
        ("postgresql://h?database=d", "dbname"),
        ("postgresql://h?sslnegotiation=direct", "sslmode=require"),
        ("postgresql://h?sslrootcert=system&sslmode=require", "sslmode=verify-full"),
        ("postgresql://h?hostaddr=127.0.0.1&sslmode=verify-full", "hostaddr"),
    ],
)
def test_a_url_that_cannot_be_honoured_says_why(url: str, reason: str) -> None:
    message = refusal(url)
    assert reason in message
    assert SECRET not in message


def test_a_piece_of_a_password_is_not_taken_for_a_parameters_name() -> None:
    message = refusal("postgresql://u:in/the?bottle=x@h/d")
    assert "query parameter 1: " in message
    assert "bottle" not in message


def test_no_url_at_all_is_refused() -> None:
    missing: Any = None
    assert "missing" in refusal(missing)


@pytest.mark.parametrize(
    ("value", "timeout"), [("10", 10.0), ("1", 1.0), ("%205%20", 5.0), ("0", None), ("-1", None)]
)
def test_connect_timeout_is_seconds_and_nothing_when_not_positive(
    value: str, timeout: float | None
) -> None:
    assert parse(f"postgresql://h?connect_timeout={value}").connect_timeout == timeout


@pytest.mark.parametrize(
    ("query", "settings"),
    [
        (
            "options=-c%20search_path%3Dx%20-c%20geqo%3Doff",
            {"options": "-c search_path=x -c geqo=off"},
        ),
        ("application_name=a+b", {"application_name": "a+b"}),
        ("fallback_application_name=f", {"application_name": "f"}),
        ("fallback_application_name=f&application_name=a", {"application_name": "a"}),
        ("fallback_application_name=f&application_name=", {}),
    ],
)
def test_what_the_server_must_hear_is_a_server_setting(
    query: str, settings: dict[str, str]
) -> None:
    assert parse(f"postgresql://h?{query}").server_settings == settings


def test_sslrootcert_system_verifies_fully_against_the_bundle_of_openssl(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    expected = f"postgresql://h:5432?sslmode=verify-full&sslrootcert={quote(str(bundle), '')}"
    assert parse("postgresql://h?sslrootcert=system").dsn == expected
    assert parse("postgresql://h", PGSSLROOTCERT="system").dsn == expected


def test_sslrootcert_system_is_refused_where_openssl_has_no_bundle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    assert "sslrootcert=system" in refusal("postgresql://h?sslrootcert=system")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGGSSENCMODE", "require"),
        ("PGCHANNELBINDING", "require"),
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGREQUIREPEER", "postgres"),
        ("PGSSLCERTMODE", "require"),
        ("PGSSLCRLDIR", "/x"),
        ("PGSERVICE", "x"),
        ("PGSSLMODE", "x"),
        ("PGMINPROTOCOLVERSION", "3.2"),
        ("PGCONNECT_TIMEOUT", "x"),
        ("PGAPPNAME", "\udcff"),
    ],
)
def test_a_variable_that_cannot_be_honoured_is_refused_by_name(variable: str, value: str) -> None:
    assert variable in refusal("postgresql://h", **{variable: value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGGSSENCMODE", "disable"),
        ("PGCHANNELBINDING", "prefer"),
        ("PGREQUIREAUTH", ""),
        ("PGREQUIREPEER", ""),
        ("PGSSLCERTMODE", "allow"),
        ("PGREQUIRESSL", "0"),
        ("PGCLIENTENCODING", "LATIN1"),
        ("PGUSER", "left to asyncpg"),
        ("PGPASSWORD", "left to asyncpg"),
    ],
)
def test_a_harmless_variable_changes_nothing(variable: str, value: str) -> None:
    assert parse("postgresql://h", **{variable: value}) == parse("postgresql://h")


def test_a_value_in_the_url_wins_over_the_environment() -> None:
    url = (
        "postgresql://h:1?gssencmode=disable&requirepeer="
        "&connect_timeout=3&sslmode=disable&application_name=u"
    )
    environ = {
        "PGGSSENCMODE": "require",
        "PGREQUIREPEER": "x",
        "PGCONNECT_TIMEOUT": "9",
        "PGHOST": "x",
    }
    more = {"PGPORT": "9", "PGSSLMODE": "require", "PGREQUIRESSL": "1", "PGAPPNAME": "e"}
    assert parse(url, **environ, **more) == parse(url)


def test_the_environment_completes_the_url() -> None:
    environ = {
        "PGHOST": "::1",
        "PGPORT": "1",
        "PGCONNECT_TIMEOUT": "9",
        "PGOPTIONS": "-c a=b",
        "PGAPPNAME": "e",
    }
    assert parse("postgresql://u@/d", **environ, PGREQUIRESSL="1") == DatabaseUrl(
        dsn="postgresql://%3A%3A1:1?dbname=d&user=u&sslmode=require",
        connect_timeout=9.0,
        server_settings={"options": "-c a=b", "application_name": "e"},
    )


def test_hostaddr_is_refused_when_the_environment_asks_for_a_verified_name() -> None:
    assert "hostaddr" in refusal("postgresql://h?hostaddr=127.0.0.1", PGSSLMODE="verify-full")


def test_a_repr_shows_no_secret() -> None:
    url = parse(f"postgresql://u:{SECRET}@h/d?options={SECRET}&connect_timeout=2")
    assert repr(url) == str(url) == "DatabaseUrl(<hidden>, connect_timeout=2.0)"
    assert SECRET not in repr(url.__rich_repr__())


def outcome_of(url: str, **environ: str) -> DatabaseUrl | InvalidDatabaseUrl:
    try:
        return parse_database_url(url, environ)
    except InvalidDatabaseUrl as refused:
        chained = (refused.__cause__, refused.__context__)
        if chained != (None, None):
            raise AssertionError(chained) from None
        return refused


piece = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [*"@:/?#[],&=%+ ", "%40", "%2F", "%00", "%zz", "host", "localhost", "5432", "[::1]"]
    ),
    st.sampled_from(
        [
            "sslmode=",
            "gssencmode=require",
            "password=",
            "options=",
            "port=",
            "ssl=true",
            "&",
            "=",
            "hostaddr=",
        ]
    ),
    st.just(SECRET),
)


@pytest.mark.parametrize("name", [SECRET, f"{SECRET}sslmode", "Secret", "tr0ub4dor"])
def test_a_parameter_that_may_be_a_password_is_named_by_its_number(name: str) -> None:
    outcome = str(outcome_of(f"postgresql://h/?{name}="))
    assert "query parameter 1" in outcome
    assert name not in outcome


@given(
    st.sampled_from(["postgresql://", "postgres://", "postgresql+asyncpg://", "", f"{SECRET}://"]),
    st.lists(piece, max_size=12),
)
def test_any_text_is_a_database_url_or_a_refusal_and_never_leaks(
    scheme: str, pieces: list[str]
) -> None:
    outcome = outcome_of(scheme + "".join(pieces))
    assert SECRET not in repr(outcome)
    assert SECRET not in str(outcome)


@given(
    st.sampled_from(["PGHOST", "PGPORT", "PGHOSTADDR", "PGCONNECT_TIMEOUT", "PGSSLROOTCERT"]),
    st.text(),
)
def test_any_value_of_a_variable_is_used_or_refused(variable: str, value: str) -> None:
    assert isinstance(
        outcome_of("postgresql://h", **{variable: value}), DatabaseUrl | InvalidDatabaseUrl
    )

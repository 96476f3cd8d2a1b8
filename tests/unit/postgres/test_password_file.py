"""The password file is read as psql reads it: escapes, blanks, the first line that matches."""

from pathlib import Path

import pytest

from chem_persistence.postgres.connection.password_file import find_password
from chem_persistence.postgres.connection.url import parse_database_url

URL = "postgresql://ada@db.example.org/chem"


def found(folder: Path, lines: str, url: str = URL, **environ: str) -> str | None:
    path = folder / "pgpass"
    path.write_bytes(lines.encode())
    path.chmod(0o600)
    environ = {"PGPASSFILE": str(path)} | environ
    return find_password(parse_database_url(url, environ), environ)


@pytest.mark.parametrize(
    ("line", "password"),
    [
        (r"*:*:*:*:a\:b", "a:b"),
        (r"*:*:*:*:a\\b", r"a\b"),
        (r"*:*:*:*:\\\:", r"\:"),
        (r"*:*:*:*:a\bc", "abc"),
        ("*:*:*:*: outer blanks ", " outer blanks "),
        ("*:*:*:*:\ttab\t", "\ttab\t"),
        ("*:*:*:*:ends:here", "ends"),
        ("*:*:*:*:last\\", "last\\"),
        ("*:*:*:*:windows\r\n", "windows"),
        ("db.example.org:5432:chem:ada:all four", "all four"),
        (r"db\.example.org:5432:chem:ad\a:escaped", "escaped"),
        ("*:*:*:*:水", "水"),
    ],
)
def test_the_password_is_what_psql_reads(tmp_path: Path, line: str, password: str) -> None:
    assert found(tmp_path, line) == password


@pytest.mark.parametrize(
    "line",
    [
        "other:5432:chem:ada:x",
        "*:5433:chem:ada:x",
        "*:*:other:ada:x",
        "*:*:*:eve:x",
        " *:*:*:*:a blank before the star",
        "*:*:*:*",
        "",
    ],
)
def test_a_line_that_does_not_match_is_passed_over(tmp_path: Path, line: str) -> None:
    assert found(tmp_path, f"{line}\n*:*:*:*:the next") == "the next"


def test_a_comment_is_no_line(tmp_path: Path) -> None:
    assert found(tmp_path, "#*:*:*:*:x\n*:*:*:*:y") == "y"


def test_names_may_have_colons_and_backslashes(tmp_path: Path) -> None:
    url = "postgresql://a%3Ab%5Cc@h/d"
    assert found(tmp_path, r"h:5432:d:a\:b\\c:secret", url) == "secret"


def test_a_socket_is_known_by_its_folder_and_as_localhost(tmp_path: Path) -> None:
    url = "postgresql://ada@/chem?host=/run/pg"
    assert found(tmp_path, "/run/pg:5432:chem:ada:x", url) == "x"
    assert found(tmp_path, "localhost:5432:chem:ada:y", url) == "y"


def test_a_host_with_an_address_is_known_by_its_name(tmp_path: Path) -> None:
    url = "postgresql://ada@db/chem?hostaddr=10.0.0.1&sslmode=disable"
    assert found(tmp_path, "10.0.0.1:*:*:*:x\ndb:*:*:*:y", url) == "y"


def test_of_several_hosts_the_first_one_with_a_line_counts(tmp_path: Path) -> None:
    url = "postgresql://ada@one:1,two:2/chem"
    assert found(tmp_path, "two:2:*:*:second\none:2:*:*:wrong port", url) == "second"


def test_a_password_elsewhere_needs_no_file(tmp_path: Path) -> None:
    assert found(tmp_path, "*:*:*:*:x", "postgresql://ada:pw@h/d") is None
    assert found(tmp_path, "*:*:*:*:x", URL, PGPASSWORD="pw") is None


def test_a_file_that_others_may_read_is_ignored_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    path.write_text("*:*:*:*:x")
    path.chmod(0o644)
    environ = {"PGPASSFILE": str(path)}
    with pytest.warns(UserWarning, match="0600"):
        assert find_password(parse_database_url(URL, environ), environ) is None

"""The loader of SQL statements: one file per topic in sql/queries, each statement named."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

__all__ = ["CITUS_SNAPSHOT", "SCHEMA_SNAPSHOT", "SQL_DIRECTORY", "statement", "statements"]

_PACKED = Path(__file__).parents[2] / "sql"

_CHECKOUT = Path(__file__).parents[3]

SQL_DIRECTORY = _PACKED if _PACKED.is_dir() else _CHECKOUT / "sql"
"""The folder of the SQL files: inside the installed package, or beside it in a checkout."""

SCHEMA_SNAPSHOT = (
    _PACKED / "schema_f5.sql"
    if _PACKED.is_dir()
    else _CHECKOUT / "documentation" / "snapshots" / "schema_f5.sql"
)
"""The file with the schema that all migrations make, as `describe_schema` returns it."""

CITUS_SNAPSHOT = SCHEMA_SNAPSHOT.with_name("schema_f5_citus.sql")
"""The file with those objects that the distribution of the log replaces or adds."""

_HEADING = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def statement(name: str) -> str:
    """Return the statement `topic/name`, under `-- name: name` in sql/queries/topic.sql."""
    topic, _, name = name.partition("/")
    return statements(topic)[name]


@cache
def statements(topic: str) -> Mapping[str, str]:
    """Read the statements of sql/queries/`topic`.sql, by name, in the order of the file."""
    text = (SQL_DIRECTORY / "queries" / f"{topic}.sql").read_text(encoding="utf-8")
    _, *parts = _HEADING.split(text)
    return MappingProxyType(
        {name: body.rstrip() + "\n" for name, body in zip(parts[::2], parts[1::2], strict=True)}
    )

"""The SQL of the benchmarks, one statement per file."""

from pathlib import Path

__all__ = ["read_sql", "sql_path"]


def sql_path(name: str) -> Path:
    """Return the path of `sql/<name>.sql`."""
    return Path(__file__).parents[1] / "sql" / f"{name}.sql"


def read_sql(name: str) -> str:
    """Read `sql/<name>.sql`."""
    return sql_path(name).read_text(encoding="utf-8")

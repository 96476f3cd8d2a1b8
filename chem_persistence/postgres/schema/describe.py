"""Descriptions of a live schema, as SQL statements by which two databases can be compared."""

import re
from functools import cache
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from chem_persistence.postgres.schema.statements import SCHEMA_SNAPSHOT, statement

__all__ = ["describe_schema", "describe_statements", "library_parts", "library_tables"]

DESCRIBE_SCHEMA_COLUMNS = statement("migrations/describe_schema_columns")
DESCRIBE_SCHEMA_CONSTRAINTS = statement("migrations/describe_schema_constraints")
DESCRIBE_SCHEMA_DOMAINS = statement("migrations/describe_schema_domains")
DESCRIBE_SCHEMA_FUNCTIONS = statement("migrations/describe_schema_functions")
DESCRIBE_SCHEMA_INDEXES = statement("migrations/describe_schema_indexes")
DESCRIBE_SCHEMA_SEARCH_PATH = statement("migrations/describe_schema_search_path")
DESCRIBE_SCHEMA_SEQUENCES = statement("migrations/describe_schema_sequences")
DESCRIBE_SCHEMA_TABLES = statement("migrations/describe_schema_tables")
DESCRIBE_SCHEMA_TRIGGERS = statement("migrations/describe_schema_triggers")
DESCRIBE_SCHEMA_TYPES = statement("migrations/describe_schema_types")
DESCRIBE_SCHEMA_VIEWS = statement("migrations/describe_schema_views")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_PARTS = (  # in this order, since a statement may name an object of an earlier part
    DESCRIBE_SCHEMA_SEQUENCES,
    DESCRIBE_SCHEMA_DOMAINS,
    DESCRIBE_SCHEMA_TABLES,
    DESCRIBE_SCHEMA_COLUMNS,
    DESCRIBE_SCHEMA_CONSTRAINTS,
    DESCRIBE_SCHEMA_VIEWS,
    DESCRIBE_SCHEMA_INDEXES,
    DESCRIBE_SCHEMA_TYPES,
    DESCRIBE_SCHEMA_FUNCTIONS,
    DESCRIBE_SCHEMA_TRIGGERS,
)

_TABLE = re.compile(r"^\w+ TABLE (\w+) \((.*?)^\)", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r"^    (?!CONSTRAINT )(\w+) ", re.MULTILINE)
_OTHER = re.compile(r"^CREATE (?:OR REPLACE |MATERIALIZED )?(VIEW|FUNCTION) (\w+)", re.MULTILINE)


async def describe_schema(connection: Connection, schema: str) -> str:
    """Return the statements that make an empty schema equal to this one, as a text.

    The text does not depend on the version of the server (PostgreSQL 15 to 18), on the schema's
    name, or on the order in which the objects were created. It holds tables, sequences,
    constraints, views, indexes, domains, composite types, functions and triggers, except those
    of extensions. Owners, rights, comments and rows are left out. A missing schema has an empty
    description.
    """
    return "\n".join(
        f"{statement};\n" for statement in await describe_statements(connection, schema)
    )


async def describe_statements(connection: Connection, schema: str) -> list[str]:
    """Return the statements of `describe_schema` one by one, without their semicolons."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(DESCRIBE_SCHEMA_SEARCH_PATH, schema)
        rows = [row for part in _PARTS for row in await connection.fetch(part, schema)]
    finally:
        # A rollback, so that inside a caller's transaction the search path is restored.
        await transaction.rollback()
    return [row["statement"] for row in rows]


@cache
def library_tables() -> frozenset[str]:
    """Return the names of the tables that the migrations make."""
    text = SCHEMA_SNAPSHOT.read_text(encoding="utf-8")
    return frozenset(re.findall(r"TABLE (\w+) \(", text))


@cache
def library_parts() -> frozenset[str]:
    """Return the tables, columns, views and functions that the migrations make.

    Each is named as the statement `status/list_parts` names those of a schema.
    """
    text = SCHEMA_SNAPSHOT.read_text(encoding="utf-8")
    parts = {f"table {name}" for name in library_tables()}
    for name, lines in _TABLE.findall(text):
        parts |= {f"column {name}.{column}" for column in _COLUMN.findall(lines)}
    return frozenset(parts | {f"{kind.lower()} {name}" for kind, name in _OTHER.findall(text)})

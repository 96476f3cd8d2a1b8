"""The status of a database: its size, schema and tables, read without scanning large tables."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Literal

import asyncpg
import msgspec

from chem_persistence.errors import MigrationError
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import Row
from chem_persistence.postgres.schema.describe import library_parts, library_tables
from chem_persistence.postgres.schema.migrations import known_migrations, pending_migrations
from chem_persistence.postgres.schema.statements import statement

__all__ = ["DatabaseStatus", "SchemaState", "TableSize", "read_status"]

COUNT_ARTIFACTS = statement("verification/count_artifacts")
COUNT_EVENTS = statement("verification/count_events")
DESCRIBE_DATABASE = statement("status/describe_database")
FIND_NEWEST_FLOW = statement("status/find_newest_flow")
LIST_PARTS = statement("status/list_parts")
MEASURE_RELATIONS = statement("status/measure_relations")

COUNTED_BYTES = 256 * 2**20
"""Up to this size a table's rows are counted; above it, the server's estimate is returned."""

SchemaState = Literal["current", "missing", "behind", "unusable"]

_COUNTS = {"event_log": (COUNT_EVENTS, (None,)), "workflow_step_artifacts": (COUNT_ARTIFACTS, ())}


class TableSize(msgspec.Struct, frozen=True):
    """A table with its indexes; `rows` is an estimate unless `exact`, or None if unknown."""

    name: str
    bytes: int
    rows: int | None
    exact: bool


class DatabaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of a database; `trouble` is the reason why a schema is `unusable`."""

    server_version: str
    database: str
    bytes: int
    role: str
    schema: str
    schema_state: SchemaState
    schema_version: int
    library_version: int
    trouble: str | None
    newest_flow_at: datetime | None
    tables: Sequence[TableSize]


async def read_status(provider: ConnectionProvider, schema: str) -> DatabaseStatus:
    """Return the status of a database and of `schema`, its connections' search path.

    The schema may be missing, behind this library, or unusable.

    Raises:
        StoreUnavailable, StoreError: the database could not be read.
    """
    return await Session(provider).run(partial(_read, schema=schema))


async def _read(connection: Connection, schema: str) -> DatabaseStatus:
    known = known_migrations()
    (database,) = await connection.fetch(DESCRIBE_DATABASE)
    state: SchemaState = "current"
    version, trouble, is_whole = 0, None, False
    try:
        pending = await pending_migrations(connection, schema, known)
        version = len(known) - len(pending)
        state = "missing" if version == 0 else "behind" if pending else "current"
        is_whole = state == "current"
    except MigrationError as error:
        state, trouble = "unusable", str(error)
    tables: list[TableSize] = []
    newest: Sequence[Row] = []
    try:
        tables = [] if state == "unusable" else await _measure(connection, schema)
        if state in {"current", "behind"}:
            newest = await connection.fetch(FIND_NEWEST_FLOW)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        state, trouble = "unusable", f"it is damaged: {error}"
    if state == "missing":
        if library_tables() & {table.name for table in tables}:
            state, trouble = "unusable", "it has tables of this library, but no schema_migrations"
        tables = []
    elif is_whole and (missing := await _missing_parts(connection, schema)):
        state, trouble = "unusable", f"it is damaged: it has no {', '.join(missing)}"
    return DatabaseStatus(
        **database,
        schema=schema,
        schema_state=state,
        schema_version=version,
        library_version=len(known),
        trouble=trouble,
        newest_flow_at=newest[0]["newest_flow_at"] if newest else None,
        tables=tables,
    )


async def _missing_parts(connection: Connection, schema: str) -> list[str]:
    """Return what the library's migrations make and a schema has not; of a missing table, no more.

    Indexes, constraints and triggers are left to `doctor`: without them all can still be read.
    """
    there = {row["part"] for row in await connection.fetch(LIST_PARTS, schema)}
    lost = library_parts() - there
    return sorted(
        part
        for part in lost
        if not part.startswith("column ")
        or f"table {part.removeprefix('column ').partition('.')[0]}" not in lost
    )


async def _measure(connection: Connection, schema: str) -> list[TableSize]:
    tables = []
    for row in await connection.fetch(MEASURE_RELATIONS, schema):
        name, rows = row["name"], row["about_rows"]
        exact = name in _COUNTS and row["heap_bytes"] <= COUNTED_BYTES
        if exact:
            statement, arguments = _COUNTS[name]
            ((rows,),) = await connection.fetch(statement, *arguments)
        tables.append(TableSize(name, row["bytes"], rows, exact))
    return tables

"""Migrations: numbered SQL files, applied in order, recorded with their checksums, never edited."""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import msgspec

from chem_persistence.errors import MigrationError, UnsupportedServer
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.distribution import (
    install_distribution,
    prepare_changes,
    run_change,
)
from chem_persistence.postgres.schema.locks import planned_locks
from chem_persistence.postgres.schema.statements import SQL_DIRECTORY, statement

__all__ = [
    "OLDEST_SERVER",
    "Migration",
    "known_migrations",
    "migrate",
    "pending_migrations",
    "validate_constraints",
]

CREATE_MIGRATIONS_TABLE = statement("migrations/create_migrations_table")
FIND_MIGRATIONS_TABLE = statement("migrations/find_migrations_table")
LIST_NOT_VALIDATED = statement("migrations/list_not_validated")
LOCK_LOG = statement("migrations/lock_log")
LOCK_LOG_EXCLUSIVELY = statement("migrations/lock_log_exclusively")
LOCK_MIGRATIONS = statement("migrations/lock_migrations")
QUOTE_CREATE_SCHEMA = statement("migrations/quote_create_schema")
READ_APPLIED_MIGRATIONS = statement("migrations/read_applied_migrations")
RECORD_MIGRATION = statement("migrations/record_migration")

OLDEST_SERVER = 15
"""The oldest major version of PostgreSQL that the schema supports."""

_FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_STATEMENT_HEADING = re.compile(r"^-- statement:.*$", re.MULTILINE)


class Migration(msgspec.Struct, frozen=True):
    """A migration file: `statements` run in order, `checksum` is the SHA-256 of the file."""

    version: int
    name: str
    checksum: str
    statements: tuple[str, ...] = ()


def known_migrations() -> list[Migration]:
    """Read the library's own migrations, in order.

    Raises:
        MigrationError: the files are not numbered 1, 2, 3, ...
    """
    files = (SQL_DIRECTORY / "migrations").iterdir()
    named = [(name, file) for file in files if (name := _FILE_NAME.fullmatch(file.name))]
    found = [_read_migration(int(name[1]), name[2], file.read_bytes()) for name, file in named]
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("the migration files are not numbered 1, 2, 3, ...")
    return found


def _read_migration(version: int, name: str, data: bytes) -> Migration:
    _, *statements = _STATEMENT_HEADING.split(data.decode())
    return Migration(
        version=version,
        name=name,
        checksum=hashlib.sha256(data).hexdigest(),
        statements=tuple(statement.strip() for statement in statements),
    )


async def migrate(
    connection: "asyncpg.Connection[asyncpg.Record]",
    schema: str,
    migrations: Sequence[Migration] | None = None,
) -> None:
    """Apply all pending migrations to `schema`, the connection's search path, in one transaction.

    Any number of processes may do this at once. A schema that is up to date is only read. The rows
    from before are checked against new constraints after the commit: see `validate_constraints`.

    Raises:
        UnsupportedServer: the server is older than PostgreSQL 15.
        MigrationError: a recorded migration differs from its file, or is newer than this library;
            the table `schema_migrations` belongs to another program; or the database is not encoded
            in UTF-8.
    """
    if connection.get_server_version().major < OLDEST_SERVER:
        raise UnsupportedServer(connection.get_settings().server_version, OLDEST_SERVER)
    _check_encoding(connection.get_settings().server_encoding)
    known = known_migrations() if migrations is None else migrations
    if not await pending_migrations(connection, schema, known):
        return
    # Under a stricter default isolation, the reads after the lock would see the state before it.
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(LOCK_MIGRATIONS, schema)
        create_schema = await connection.fetchval(QUOTE_CREATE_SCHEMA, schema)
        if create_schema is not None:
            await connection.execute(create_schema)
        if not await connection.fetchval(FIND_MIGRATIONS_TABLE, schema):
            await connection.execute(CREATE_MIGRATIONS_TABLE)
        distributed = await prepare_changes(connection)
        pending = await pending_migrations(connection, schema, known)
        if len(pending) < len(known):
            await _lock_log(connection, pending, known)
        for migration in pending:
            for statement in migration.statements:
                await run_change(connection, statement)
            await connection.execute(
                RECORD_MIGRATION,
                migration.version,
                migration.name,
                migration.checksum,
                datetime.now(UTC),
            )
        if distributed:  # a migration may have replaced what it had installed
            await install_distribution(connection)
    await validate_constraints(connection, schema)


async def _lock_log(
    connection: Connection, pending: Sequence[Migration], known: Sequence[Migration]
) -> None:
    """Lock the log first, as strongly as pending migrations will, if they hold up appends."""
    locks = planned_locks(pending, known)
    if any((lock.table, lock.mode) == ("event_log", "ACCESS EXCLUSIVE") for lock in locks):
        await connection.execute(LOCK_LOG_EXCLUSIVELY)
    elif any(lock.holds_up != "nothing" for lock in locks):
        await connection.execute(LOCK_LOG)


async def validate_constraints(connection: Connection, schema: str) -> list[str]:
    """Check the rows from before a constraint against it; return the names of those checked.

    A migration adds a constraint of a large table as NOT VALID, which reads no row and holds for
    what is appended from then on. This reads all rows, under a lock that lets others read and
    append (PostgreSQL manual, ALTER TABLE, "Notes"), in a transaction for each constraint. If it is
    stopped, the next call begins it again.

    Raises:
        MigrationError: rows from before do not satisfy the constraint.
    """
    validated = []
    for row in await connection.fetch(LIST_NOT_VALIDATED, schema):
        try:
            await connection.execute(row["statement"])
        except asyncpg.CheckViolationError as error:
            raise MigrationError(
                f"rows of {row['table_name']} in schema {schema!r} do not satisfy {row['name']}: "
                "somebody has changed the table, and `chem-persistence verify` names the flows"
            ) from error
        validated.append(row["name"])
    return validated


def _check_encoding(encoding: str) -> None:
    """Check that the database can store every text: in another encoding an append fails later."""
    if encoding.upper() != "UTF8":
        raise MigrationError(
            f"the database is encoded in {encoding}, which cannot store every text; create one "
            "with ENCODING 'UTF8' TEMPLATE template0, and restore a dump into it"
        )


async def pending_migrations(
    connection: Connection, schema: str, known: Sequence[Migration]
) -> Sequence[Migration]:
    """Return the known migrations that have not been applied, after checking those that have.

    A schema without the table of migrations has none of them. That is one query, which fails then,
    and a transaction fails with it.

    Raises:
        MigrationError: a recorded migration differs from its file, or is newer than this library;
            or the table `schema_migrations` belongs to another program.
    """
    try:
        applied = await connection.fetch(READ_APPLIED_MIGRATIONS)
    except asyncpg.UndefinedTableError:
        return known
    except asyncpg.UndefinedColumnError as error:
        reason = f"the table schema_migrations of schema {schema!r} belongs to another program"
        raise MigrationError(reason) from error
    for index, row in enumerate(applied):
        label = f"migration {row['version']} ({row['name']}) of schema {schema!r}"
        if index >= len(known):
            raise MigrationError(
                f"{label} is newer than this library, whose last one is {len(known)}"
            )
        if row["version"] != known[index].version or row["checksum"] != known[index].checksum:
            raise MigrationError(
                f"{label} was applied from a file that differs from this library's"
            )
    return known[len(applied) :]

"""The locks that migrations take of tables which are there, and whether they read all rows.

They are read from the statements; `tests/postgres/schema/test_migration_locks.py` compares them
with the locks that a server holds after each migration.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

__all__ = ["Migration", "PlannedLock", "planned_locks"]


class Migration(Protocol):
    """What is read of a migration."""

    @property
    def version(self) -> int:
        """Its number."""

    @property
    def name(self) -> str:
        """The name of its file."""

    @property
    def statements(self) -> tuple[str, ...]:
        """What it runs."""


class PlannedLock(msgspec.Struct, frozen=True):
    """A lock of a table until the migrations are committed, and whether all of it is read under it.

    `mode` is as LOCK TABLE names it (PostgreSQL manual, section 13.3.1): SHARE and SHARE ROW
    EXCLUSIVE hold up appends, ACCESS EXCLUSIVE also reads. One that is taken `afterwards`, by
    itself after the commit, holds up neither.
    """

    version: int
    migration: str
    table: str
    mode: str
    reads_all: bool
    afterwards: bool = False

    @property
    def holds_up(self) -> str:
        """Return what waits for it: nothing, appends, or reads and appends."""
        if self.mode == "ACCESS EXCLUSIVE":
            return "reads and appends"
        return "nothing" if self.mode == "SHARE UPDATE EXCLUSIVE" else "appends"


_COMMENTS = re.compile(r"^\s*--.*$", re.MULTILINE)
_LOCK_TABLE = re.compile(r"LOCK TABLE ([\w, ]+) IN ([A-Z ]+) MODE")
_NEW_TABLE = re.compile(r"CREATE (?:UNLOGGED TABLE|TABLE|MATERIALIZED VIEW) (\w+)")
_NEW_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?(\w+)\s+ON (\w+)")
_OLD_INDEX = re.compile(r"DROP INDEX (\w+)")
_ALTER = re.compile(r"ALTER TABLE (\w+)\s+(.*)", re.DOTALL)
_NEW_TRIGGER = re.compile(r"CREATE TRIGGER \w+\s.*?\sON (\w+)", re.DOTALL)
_OLD_TRIGGER = re.compile(r"DROP TRIGGER \w+ ON (\w+)")
_REFERENCE = re.compile(r"REFERENCES (\w+)")


def planned_locks(pending: Sequence[Migration], known: Sequence[Migration]) -> list[PlannedLock]:
    """Return the locks that pending migrations will take, in order, each once a migration.

    Tables that these migrations create are left out, since nobody uses them yet. `known` are all
    migrations, which name the tables of the indexes.
    """
    new = {
        match[1]
        for migration in pending
        for statement in _texts(migration)
        if (match := _NEW_TABLE.match(statement)) is not None
    }
    indexed = {
        match[1]: match[2]
        for migration in known
        for statement in _texts(migration)
        if (match := _NEW_INDEX.match(statement)) is not None
    }
    locks = dict[PlannedLock, None]()
    for migration in pending:
        for statement in _texts(migration):
            for table, mode, reads_all, afterwards in _locks(statement, indexed):
                if table not in new:
                    lock = PlannedLock(
                        migration.version, migration.name, table, mode, reads_all, afterwards
                    )
                    locks[lock] = None
    return list(locks)


def _texts(migration: Migration) -> Iterator[str]:
    for statement in migration.statements:
        yield _COMMENTS.sub("", statement).strip()


def _locks(statement: str, indexed: dict[str, str]) -> Iterator[tuple[str, str, bool, bool]]:
    """Yield table, mode, whether all rows are read, and whether that is after the commit."""
    if match := _LOCK_TABLE.match(statement):
        for table in match[1].split(","):
            yield table.strip(), match[2], False, False
    elif match := _NEW_INDEX.match(statement):
        yield match[2], "SHARE", True, False
    elif match := _OLD_INDEX.match(statement):
        yield indexed[match[1]], "ACCESS EXCLUSIVE", False, False
    elif match := _NEW_TRIGGER.match(statement):
        yield match[1], "SHARE ROW EXCLUSIVE", False, False
    elif match := _OLD_TRIGGER.match(statement):
        yield match[1], "ACCESS EXCLUSIVE", False, False
    elif match := _ALTER.match(statement):
        yield from _locks_of_alter(match[1], match[2])
    if _NEW_TABLE.match(statement) or statement.startswith("DO "):
        for table in _REFERENCE.findall(statement):
            yield table, "SHARE ROW EXCLUSIVE", False, False


def _locks_of_alter(table: str, change: str) -> Iterator[tuple[str, str, bool, bool]]:
    later = change.endswith("NOT VALID")
    if change.startswith("SET ("):
        yield table, "SHARE UPDATE EXCLUSIVE", False, False
    else:
        yield table, "ACCESS EXCLUSIVE", "ADD CONSTRAINT" in change and not later, False
    if later:
        yield table, "SHARE UPDATE EXCLUSIVE", True, True

"""Check that the schema is the one that the migrations make, with nothing missing or changed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from msgspec.structs import replace

from chem_persistence.errors import MigrationError
from chem_persistence.postgres.admin.doctor.commands import Commands
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.describe import describe_statements, library_tables
from chem_persistence.postgres.schema.distribution import is_distributed
from chem_persistence.postgres.schema.migrations import known_migrations, pending_migrations
from chem_persistence.postgres.schema.statements import CITUS_SNAPSHOT, SCHEMA_SNAPSHOT, statement

__all__ = ["check_foreign_objects", "check_migrations", "check_objects"]

MEASURE_RELATIONS = statement("status/measure_relations")

FIND_FOREIGN_OBJECTS = statement("doctor/find_foreign_objects")
FIND_TEMPORARY_FIRST = statement("doctor/find_temporary_first")

_OBJECT = re.compile(
    r"(CREATE (?:OR REPLACE )?(?:UNIQUE |UNLOGGED )?(?P<kind>MATERIALIZED VIEW|[A-Z ]+?)"
    r"|ALTER TABLE) (?P<name>[\w\"]+)(?P<rest>.*)",
    re.DOTALL,
)
_CONSTRAINT = re.compile(r"CONSTRAINT (\w+) ")
_NOT_VALIDATED = re.compile(
    r"ALTER TABLE (?P<table>\w+) ADD (?P<line>CONSTRAINT (?P<name>\w+)\s+.*) NOT VALID", re.DOTALL
)
_SILENCED = re.compile(r"ALTER TABLE (\S+) (DISABLE|ENABLE REPLICA) TRIGGER (\S+)")
_BELONGS = re.compile(
    r"CREATE (?:UNIQUE )?INDEX \S+ ON (?P<index>\w+)|CREATE TRIGGER .*? ON (?P<trigger>\w+)"
    r"|ALTER TABLE (?:ONLY )?(?P<changed>\w+)",
    re.DOTALL,
)
_HISTORY = {
    "archived_flows",
    "event_log",
    "workflow_step_artifact_chunks",
    "workflow_step_artifact_uses",
    "workflow_step_artifacts",
}
"""Tables whose rows cannot be computed from others."""

_LONGEST_REMEDY = 400

_NOT_DISTRIBUTED = "CONSTRAINT workflow_step_artifact_uses_artifact_fkey"
"""What the distribution of the log removes: each flow has its own rows of artifacts."""


async def check_migrations(connection: Connection, commands: Commands) -> list[CheckResult]:
    """Compare the applied migrations with the library's."""
    schema = commands.schema
    known = known_migrations()
    try:
        pending = await pending_migrations(connection, schema, known)
    except MigrationError as error:
        remedy = "pip install --upgrade chem-persistence # or name the right schema: --schema"
        return [CheckResult("schema", Severity.ERROR, str(error), remedy)]
    if len(pending) == len(known):
        there = await _library_tables(connection, schema)
        if there:
            finding = f"schema {schema} has {_few(there)}, but no record of its migrations"
            remedy = "# restore the table schema_migrations from a backup"
            return [CheckResult("schema", Severity.ERROR, finding, remedy)]
        finding = f"schema {schema} has no tables of this library"
        return [CheckResult("schema", Severity.ERROR, finding, commands.migrate())]
    if pending:
        names = ", ".join(f"{migration.version:04} {migration.name}" for migration in pending)
        finding = f"schema {schema} is behind this library by {len(pending)}: {names}"
        return [CheckResult("schema", Severity.ERROR, finding, commands.migrate())]
    return [
        CheckResult("schema", Severity.OK, f"{schema} is at migration {len(known)}, the library's")
    ]


async def check_objects(connection: Connection, commands: Commands) -> list[CheckResult]:
    """Compare tables, constraints, indexes, triggers and functions with the library's schema.

    Those that the distribution of the log replaces or adds are compared with its own; the command
    `distribute` is the remedy for them. Other objects in the schema are ignored.
    """
    schema, expected = commands.schema, _statements_of(SCHEMA_SNAPSHOT)
    distributed = _statements_of(CITUS_SNAPSHOT) if await is_distributed(connection) else []
    if distributed:
        expected = [each for each in expected if _NOT_DISTRIBUTED not in each]
    expected = _replaced(expected, distributed)
    found = await describe_statements(
        cast("PoolConnectionProxy[asyncpg.Record]", connection), schema
    )
    results = [
        result for statement in found if (result := _silenced(statement, expected)) is not None
    ]
    results += _not_validated(found, expected, commands)
    lost = _relations(expected) - _relations(found)
    for wanted in expected:
        if wanted in found or _table_of(wanted) in lost:
            continue
        judged = _judge(wanted, found, schema)
        if wanted in distributed:
            judged = [replace(result, remedy=commands.distribute()) for result in judged]
        results += judged
    return results or [
        CheckResult("objects", Severity.OK, f"all {len(expected)} are as the migrations made them")
    ]


async def _library_tables(connection: Connection, schema: str) -> list[str]:
    """Return the tables of a schema that have the names of this library's."""
    rows = await connection.fetch(MEASURE_RELATIONS, schema)
    return [row["name"] for row in rows if row["name"] in library_tables()]


def _relations(statements: Sequence[str]) -> set[str]:
    """Return the names of the tables and materialized views that statements make."""
    made = map(_identity, statements)
    return {name for kind, name in made if kind in {"TABLE", "MATERIALIZED VIEW"}}


def _table_of(statement: str) -> str | None:
    """Return the table that an index, a trigger or a change belongs to; None for other objects."""
    match = _BELONGS.match(statement)
    return None if match is None else match["index"] or match["trigger"] or match["changed"]


def _few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many others there are."""
    others = f" and {len(names) - most} more tables" if len(names) > most else ""
    return ", ".join(names[:most]) + others


async def check_foreign_objects(connection: Connection, schema: str) -> list[CheckResult]:
    """Check for triggers, rules and row security that others added to the library's tables."""
    named = [_identity(statement) for statement in _statements_of(SCHEMA_SNAPSHOT)]
    tables = [name for kind, name in named if kind == "TABLE"]
    triggers = [name for kind, name in named if kind == "TRIGGER"]
    results = [
        CheckResult(
            "triggers",
            Severity.WARNING,
            f"table {row['table_name']} has {row['kind']} {row['name']}, which the migrations did "
            "not make: it may change or keep out what is appended"
            if row["kind"] != row["name"]
            else f"table {row['table_name']} has row security: rows may be hidden from programs",
            f"{row['remedy']};",
        )
        for row in await connection.fetch(FIND_FOREIGN_OBJECTS, schema, tables, triggers)
    ]
    return results + [
        CheckResult(
            "search path",
            Severity.NOTE,
            f"the search path of {row['name']} does not end with pg_temp: through a pooler, a "
            "temporary table may hide a table of the log",
            f"{row['remedy']};",
        )
        for row in await connection.fetch(FIND_TEMPORARY_FIRST)
    ]


def _statements_of(snapshot: Path) -> list[str]:
    text = snapshot.read_text(encoding="utf-8")
    _, _, statements = text.partition("\n\n")
    return [
        part.removesuffix(";")
        for part in re.split(r"(?<=;)\n\n(?=CREATE |ALTER )", statements.rstrip())
    ]


def _replaced(statements: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the statements with others in place of those that make the same objects, or added."""
    made = {_identity(other): other for other in others}
    kept = [made.pop(_identity(statement), statement) for statement in statements]
    return kept + list(made.values())


def _silenced(statement: str, expected: Sequence[str]) -> CheckResult | None:
    """Return an error if a statement disables one of the library's triggers."""
    match = _SILENCED.fullmatch(statement)
    if match is None:
        return None
    table, _, trigger = match.groups()
    if not any(statement.startswith(f"CREATE TRIGGER {trigger} ") for statement in expected):
        return None
    finding = f"trigger {trigger} is disabled: history in {table} can be changed"
    return CheckResult(
        "triggers", Severity.ERROR, finding, f"ALTER TABLE {table} ENABLE TRIGGER {trigger};"
    )


def _judge(statement: str, found: Sequence[str], schema: str) -> list[CheckResult]:
    """Return how the schema's object differs from the one that `statement` creates."""
    kind, name = _identity(statement)
    check = {"INDEX": "indexes", "TRIGGER": "triggers"}.get(kind, "objects")
    namesake = next((other for other in found if _identity(other) == (kind, name)), None)
    if namesake is None:
        finding = f"{kind.lower()} {name} is missing"
        if kind == "TABLE" and name in _HISTORY:
            remedy = "# restore the database from a backup: nothing else has these rows"
            return [CheckResult(check, Severity.ERROR, finding, remedy)]
        return [CheckResult(check, Severity.ERROR, finding, _remedy(statement, schema))]
    if kind == "TABLE":
        return _judge_table(name, statement, namesake, _held_lines(name, found), schema)
    if namesake.endswith("/* invalid */"):
        finding = f"index {name} is invalid: its build was not completed"
        return [
            CheckResult(check, Severity.ERROR, finding, f"REINDEX INDEX {_quoted(schema)}.{name};")
        ]
    finding = f"{kind.lower()} {name} differs from the library's"
    return [
        CheckResult(check, Severity.ERROR, finding, _replacement(kind, name, statement, schema))
    ]


def _replacement(kind: str, name: str, statement: str, schema: str) -> str:
    """Return the command that makes an existing object the one that `statement` creates."""
    again = _remedy(statement, schema)
    match kind:
        case "INDEX" | "MATERIALIZED VIEW":
            return f"DROP {kind} {_quoted(schema)}.{name}; {again}"
        case "SEQUENCE":
            rest = " ".join(statement.split()).removeprefix(f"CREATE SEQUENCE {name} ")
            return f"ALTER SEQUENCE {_quoted(schema)}.{name} {rest};"
        case "DOMAIN":
            domain, (rule,) = f"{_quoted(schema)}.{name}", _CONSTRAINT.findall(statement)
            wanted = " ".join(statement.partition("CONSTRAINT")[2].split())
            return (
                f"ALTER DOMAIN {domain} DROP CONSTRAINT IF EXISTS {rule}; "
                f"ALTER DOMAIN {domain} ADD CONSTRAINT {wanted};"
            )
        case "TRIGGER" | "VIEW":
            return again.replace(f"CREATE {kind} ", f"CREATE OR REPLACE {kind} ", 1)
        case _:
            return again


def _not_validated(
    found: Sequence[str], expected: Sequence[str], commands: Commands
) -> list[CheckResult]:
    """Return a warning for each of the library's constraints that holds for new rows only."""
    wanted = {(_identity(each)[1], line) for each in expected for line in _lines(each)}
    matches = [match for each in found if (match := _NOT_VALIDATED.fullmatch(each)) is not None]
    return [
        CheckResult(
            "objects",
            Severity.WARNING,
            f"table {match['table']}: rows from before constraint {match['name']} are not checked "
            "against it yet: a migration was stopped",
            commands.migrate(),
        )
        for match in matches
        if (match["table"], _in_one_line(match["line"])) in wanted
    ]


def _held_lines(table: str, found: Sequence[str]) -> list[str]:
    """Return the constraints of a table that hold for new rows only, as its statement has them."""
    matches = [match for each in found if (match := _NOT_VALIDATED.fullmatch(each)) is not None]
    return [_in_one_line(match["line"]) for match in matches if match["table"] == table]


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _judge_table(
    name: str, expected: str, found: str, held: Sequence[str], schema: str
) -> list[CheckResult]:
    """Return the columns and constraints of a table that are missing or differ.

    `held` are constraints that its statement lacks, since rows from before do not satisfy them yet.
    """
    wanted, there = _lines(expected), [*_lines(found), *held]
    results = []
    for line in wanted:
        if line in there:
            continue
        constraint = _CONSTRAINT.match(line)
        if constraint is None:
            column = line.partition(" ")[0]
            finding = f"table {name}: column {column} is not as the migrations made it ({line})"
            results.append(
                CheckResult("objects", Severity.ERROR, finding, f"less {SCHEMA_SNAPSHOT}")
            )
            continue
        is_there = any(other.startswith(constraint[0]) for other in there)
        finding = (
            f"table {name}: constraint {constraint[1]} is {'different' if is_there else 'missing'}"
        )
        drop = f"DROP CONSTRAINT {constraint[1]}, " if is_there else ""
        remedy = f"ALTER TABLE {_quoted(schema)}.{name} {drop}ADD {line};"
        results.append(CheckResult("objects", Severity.ERROR, finding, remedy))
    unexpected = [line for line in there if line not in wanted and not _CONSTRAINT.match(line)]
    if not results and unexpected:
        finding = (
            f"table {name} has columns that the migrations did not make: {', '.join(unexpected)}"
        )
        results.append(CheckResult("objects", Severity.NOTE, finding))
    return results


def _identity(statement: str) -> tuple[str, str]:
    """Return the kind and name of what a statement creates; an ALTER TABLE is its own name."""
    match = _OBJECT.match(statement)
    if match is None or match["kind"] is None:
        return "", statement
    return match["kind"], match["name"]


def _lines(table: str) -> list[str]:
    return [
        line.strip().removesuffix(",") for line in table.splitlines()[1:] if line.startswith("    ")
    ]


def _remedy(statement: str, schema: str) -> str:
    # The line breaks of a function's body must not be removed.
    if len(statement) > _LONGEST_REMEDY or statement.startswith("CREATE OR REPLACE"):
        return f"less {SCHEMA_SNAPSHOT} # run its statement"
    path = "" if schema == "public" else f"SET search_path = {_quoted(schema)}; "
    return f"{path}{' '.join(statement.split())};"


def _quoted(name: str) -> str:
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'

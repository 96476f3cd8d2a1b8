"""Whether roles may do what is their part, and no more."""

from collections.abc import Sequence
from itertools import groupby

from chem_persistence.ports import Connection
from chem_persistence.postgres.doctor.result import CheckResult, Severity
from chem_persistence.postgres.roles import APPLICATION, OWNER, READER
from chem_persistence.postgres.rows import Row
from chem_persistence.postgres.statements import (
    DESCRIBE_ROLE,
    FIND_EXCESS,
    FIND_MISSING_RIGHTS,
    LIST_RIGHTS,
)

__all__ = ["check_rights"]

_DIVIDE = "chem-persistence roles --database-url SUPERUSER_URL"


async def check_rights(connection: Connection, schema: str) -> list[CheckResult]:
    """Look at the role that is connected, and at those that `roles` makes, if they are there."""
    (role,) = await connection.fetch(DESCRIBE_ROLE, schema, [OWNER, APPLICATION, READER])
    rights = await connection.fetch(LIST_RIGHTS)
    results = await _check_own(connection, schema, role, rights)
    if {OWNER, APPLICATION, READER} <= set(role["existing"]):
        results += await _check_divided(connection, schema, rights)
    return results


async def _check_own(
    connection: Connection, schema: str, role: Row, rights: Sequence[Row]
) -> list[CheckResult]:
    name = role["name"]
    if role["is_superuser"] or role["is_owner"]:
        finding = f"role {name} is {'a superuser' if role['is_superuser'] else 'the owner'}: it could disable the triggers"
        remedy = f"{_DIVIDE} (then connect programs as a member of {APPLICATION})"
        return [CheckResult("rights", Severity.NOTE, finding, remedy)]
    if not role["may_use_schema"]:
        finding, remedy = (
            f"role {name} may not use schema {schema}",
            f"GRANT {APPLICATION} TO {role['quoted_name']};",
        )
        return [CheckResult("rights", Severity.ERROR, finding, remedy)]
    unread = await _missing(connection, schema, name, rights, "reader")
    if unread:
        remedy = f"GRANT {READER} TO {role['quoted_name']};"
        return [CheckResult("rights", Severity.ERROR, f"role {name} may not {_listed(unread)}", remedy)]
    excess = [row["excess"] for row in await _excess(connection, schema, name, rights) if row["name"] == name]
    if excess:
        return [
            CheckResult(
                "rights", Severity.WARNING, f"role {name} {_joined(excess)}: it could do more", _DIVIDE
            )
        ]
    unwritten = await _missing(connection, schema, name, rights, "application")
    if unwritten:
        remedy = f"GRANT {APPLICATION} TO {role['quoted_name']}; (if it is to append)"
        return [CheckResult("rights", Severity.NOTE, f"role {name} may read, and not append", remedy)]
    return [CheckResult("rights", Severity.OK, f"role {name} may read and append")]


async def _check_divided(connection: Connection, schema: str, rights: Sequence[Row]) -> list[CheckResult]:
    """Look at the roles of `roles`, which has to be run again after a migration that adds tables."""
    results = []
    for name, part in ((APPLICATION, "application"), (READER, "reader")):
        missing = await _missing(connection, schema, name, rights, part)
        if missing:
            finding = f"role {name} may not {_listed(missing)}"
            results.append(CheckResult("rights", Severity.ERROR, finding, _DIVIDE))
    excess = await _excess(connection, schema, APPLICATION, rights)
    for name, rows in groupby(sorted(excess, key=lambda row: row["name"]), key=lambda row: row["name"]):
        finding = f"role {name} {_joined([row['excess'] for row in rows])}: it could do more than its part"
        results.append(CheckResult("rights", Severity.WARNING, finding, _DIVIDE))
    return results


async def _missing(
    connection: Connection, schema: str, name: str, rights: Sequence[Row], part: str
) -> list[Row]:
    wanted = [row for row in rights if row["role"] == part]
    listed = ([row["relation"] for row in wanted], [", ".join(row["privileges"]) for row in wanted])
    return await connection.fetch(FIND_MISSING_RIGHTS, schema, name, *listed)


async def _excess(connection: Connection, schema: str, application: str, rights: Sequence[Row]) -> list[Row]:
    """Find what the owner, `application` and the reader may do beyond their parts."""
    relations = [row["relation"] for row in rights]
    listed = (relations, [row["role"] for row in rights], [", ".join(row["privileges"]) for row in rights])
    return await connection.fetch(FIND_EXCESS, schema, OWNER, application, READER, *listed)


def _listed(missing: Sequence[Row]) -> str:
    return _joined([f"{row['privilege']} {row['relation']}" for row in missing])


def _joined(parts: Sequence[str], most: int = 3) -> str:
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")

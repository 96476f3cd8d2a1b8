"""Check that roles have the rights of their part, and no others."""

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec
from msgspec.structs import replace

from chem_persistence.postgres.admin.doctor.commands import Commands
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.admin.roles import RoleNames, usual_names
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.read.rows import Row
from chem_persistence.postgres.schema.statements import statement

__all__ = ["RoleNames", "check_rights"]

DESCRIBE_ROLE = statement("doctor/describe_role")
FIND_EXCESS = statement("roles/find_excess")
FIND_MISSING_RIGHTS = statement("doctor/find_missing_rights")
LIST_RIGHTS = statement("roles/list_rights")


def _grant_command(names: RoleNames, commands: Commands) -> str:
    """Return the command that creates the roles and grants their rights."""
    usual = msgspec.structs.asdict(usual_names(commands.schema))
    given = msgspec.structs.asdict(names)
    options = [
        f"--{part} {shlex.quote(name)}" for part, name in given.items() if name != usual[part]
    ]
    return commands.roles(" ".join(options))


def _quoted(name: str) -> str:
    """Quote the name of a role, if it needs it (PostgreSQL manual, section 4.1.1)."""
    if re.fullmatch("[a-z_][a-z0-9_]*", name):
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


async def check_rights(
    connection: Connection, commands: Commands, names: RoleNames
) -> list[CheckResult]:
    """Check the current role, and the roles of `create_roles` if all of them exist."""
    schema = commands.schema
    (role,) = await connection.fetch(DESCRIBE_ROLE, schema, list(msgspec.structs.astuple(names)))
    rights = await connection.fetch(LIST_RIGHTS, schema)
    if names.archivist in role["groups"] and not (role["is_superuser"] or role["is_owner"]):
        results = await _check_archivist(connection, commands, role["name"], rights, names)
    else:
        results = await _check_own(connection, commands, role, rights, names)
    if {names.owner, names.application, names.reader} <= set(role["existing"]):
        parts = {names.application: "application", names.reader: "reader"}
        if names.archivist in role["existing"]:  # older versions created three roles
            parts[names.archivist] = "archivist"
        results += await _check_roles(connection, commands, rights, names, parts)
    return results


async def _check_own(
    connection: Connection, commands: Commands, role: Row, rights: Sequence[Row], names: RoleNames
) -> list[CheckResult]:
    name, schema, grant_rights = role["name"], commands.schema, _grant_command(names, commands)

    def membership(group: str) -> str:
        first = "" if group in role["existing"] else f"{grant_rights} # then, as a superuser: "
        return f"{first}GRANT {_quoted(group)} TO {role['quoted_name']};"

    if role["is_superuser"] or role["is_owner"]:
        what = "a superuser" if role["is_superuser"] else "the owner"
        remedy = f"{grant_rights} # then let programs be members of {names.application}"
        return [
            CheckResult(
                "rights",
                Severity.NOTE,
                f"role {name} is {what}: it could disable the triggers",
                remedy,
            )
        ]
    if not role["may_use_schema"]:
        finding = f"role {name} may not use schema {schema}"
        return [CheckResult("rights", Severity.ERROR, finding, membership(names.application))]
    unread = await _missing(connection, schema, name, rights, "reader")
    if unread:
        finding = f"role {name} may not {_listed(unread)}"
        return [CheckResult("rights", Severity.ERROR, finding, membership(names.reader))]
    excess = await _excess(connection, schema, rights, replace(names, application=name))
    own = [row["excess"] for row in excess if row["name"] == name and name != names.reader]
    if own:
        finding = f"role {name} {_joined(own)}: it could do more than append"
        return [CheckResult("rights", Severity.WARNING, finding, grant_rights)]
    unwritten = await _missing(connection, schema, name, rights, "application")
    if unwritten:
        finding = f"role {name} may read, and not append"
        is_meant = names.reader in role["groups"]
        grant = None if is_meant else membership(names.application)
        return [CheckResult("rights", Severity.NOTE, finding, grant)]
    return [CheckResult("rights", Severity.OK, f"role {name} may read and append")]


async def _check_archivist(
    connection: Connection, commands: Commands, name: str, rights: Sequence[Row], names: RoleNames
) -> list[CheckResult]:
    """Check a member of the archivist, which may read and archive."""
    grant_rights = _grant_command(names, commands)
    missing = await _missing(connection, commands.schema, name, rights, "archivist")
    if missing:
        finding = f"role {name} may not {_listed(missing)}"
        return [CheckResult("rights", Severity.ERROR, finding, grant_rights)]
    excess = await _excess(connection, commands.schema, rights, replace(names, archivist=name))
    own = [row["excess"] for row in excess if row["name"] == name]
    if own:
        finding = f"role {name} {_joined(own)}: it could do more than archive"
        return [CheckResult("rights", Severity.WARNING, finding, grant_rights)]
    return [CheckResult("rights", Severity.OK, f"role {name} may read and archive")]


async def _check_roles(
    connection: Connection,
    commands: Commands,
    rights: Sequence[Row],
    names: RoleNames,
    parts: Mapping[str, str],
) -> list[CheckResult]:
    """Check the roles; a migration that adds tables requires granting their rights again."""
    results, schema, grant_rights = [], commands.schema, _grant_command(names, commands)
    for name, part in parts.items():
        missing = await _missing(connection, schema, name, rights, part)
        if missing:
            finding = f"role {name} may not {_listed(missing)}"
            results.append(CheckResult("rights", Severity.ERROR, finding, grant_rights))
    excess = await _excess(connection, schema, rights, names)
    for name, rows in groupby(
        sorted(excess, key=lambda row: str(row["name"])), key=lambda row: row["name"]
    ):
        excess_of_role = _joined([row["excess"] for row in rows])
        finding = f"role {name} {excess_of_role}: it could do more than its part"
        results.append(CheckResult("rights", Severity.WARNING, finding, grant_rights))
    return results


async def _missing(
    connection: Connection, schema: str, name: str, rights: Sequence[Row], part: str
) -> list[Row]:
    wanted = [row for row in rights if row["role"] == part]
    listed = ([row["relation"] for row in wanted], [", ".join(row["privileges"]) for row in wanted])
    return await connection.fetch(FIND_MISSING_RIGHTS, schema, name, *listed)


async def _excess(
    connection: Connection, schema: str, rights: Sequence[Row], names: RoleNames
) -> list[Row]:
    relations = [row["relation"] for row in rights]
    listed = (
        relations,
        [row["role"] for row in rights],
        [", ".join(row["privileges"]) for row in rights],
    )
    return await connection.fetch(FIND_EXCESS, schema, *msgspec.structs.astuple(names), *listed)


def _listed(missing: Sequence[Row]) -> str:
    return _joined([f"{row['privilege']} {row['relation']}" for row in missing])


def _joined(parts: Sequence[str], most: int = 3) -> str:
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")

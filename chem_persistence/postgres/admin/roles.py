"""Roles with least privilege: the owner of the log, the application, the reader, the archivist."""

import re
from contextlib import suppress

import asyncpg
import msgspec
from msgspec.structs import asdict, astuple

from chem_persistence.errors import InvalidArgument, MigrationError
from chem_persistence.postgres.admin.distribute import permit_owner
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.session import with_retries
from chem_persistence.postgres.schema.statements import statement

__all__ = [
    "APPLICATION",
    "ARCHIVIST",
    "OWNER",
    "READER",
    "RoleNames",
    "create_roles",
    "usual_names",
]

FIND_EXCESS = statement("roles/find_excess")
FIND_MISSING_RELATIONS = statement("roles/find_missing_relations")
FIND_ROLES_OF_OTHER_DATABASES = statement("roles/find_roles_of_other_databases")
LIST_RIGHTS = statement("roles/list_rights")
QUOTE_CREATE_ROLES = statement("roles/quote_create_roles")
QUOTE_GRANTS = statement("roles/quote_grants")
QUOTE_OWNERSHIP = statement("roles/quote_ownership")
QUOTE_REVOKES = statement("roles/quote_revokes")

OWNER = "chem_owner"
APPLICATION = "chem_application"
READER = "chem_reader"
ARCHIVIST = "chem_archivist"
"""The usual names of the roles of the schema `public`."""

_USUAL_SCHEMA = "public"

_FUNCTIONS = [
    "add_flow_runs",
    "append_events",
    "append_one",
    "append_rows",
    "archive_flows",
    "call_flow_runs",
    "change_flow_run",
    "check_seq",
    "claim_flow_runs",
    "count_events",
    "count_leaving_flows",
    "count_reserved_slots",
    "feed_end",
    "find_last_seq",
    "find_results",
    "fold_statistics",
    "free_ended_slots",
    "give_back_flow_run",
    "give_back_resource_slots",
    "lock_resources",
    "lock_statistics",
    "refuse_change_of_history",
    "refuse_delete_of_live_artifacts",
    "refuse_delete_of_live_chunks",
    "refuse_delete_of_live_flows",
    "refuse_delete_of_live_uses",
    "refuse_delete_of_used_artifacts",
    "release_flow_runs",
    "renew_flow_runs",
    "set_resource_limit",
    "take_flow_run",
    "take_resource_slots",
    "use_artifacts",
]
_TYPES = [
    "append_artifact",
    "append_event",
    "append_flow",
    "append_retry",
    "append_step",
    "event_type_name",
]
_LONGEST_NAME = 63
"""The length at which PostgreSQL truncates a name, in bytes (manual, section 4.1.1)."""

_RESERVED = re.compile("pg_.*|public|none", re.DOTALL)
"""Names that a role cannot have, not even quoted (manual, CREATE ROLE)."""


class RoleNames(msgspec.Struct, frozen=True):
    """The names of the roles of `create_roles`."""

    owner: str
    application: str
    reader: str
    archivist: str


def usual_names(schema: str) -> RoleNames:
    """Return the names of a schema's roles that are used unless others are given.

    A role belongs to the whole server. So each schema has roles of its own, which are named after
    it (`chem_reader_lab`), except those of the schema `public`: a login for one schema can do
    nothing in another one.
    """
    ending = "" if schema == _USUAL_SCHEMA else f"_{schema}"
    return RoleNames(*(f"{name}{ending}" for name in (OWNER, APPLICATION, READER, ARCHIVIST)))


async def create_roles(
    connection: Connection,
    *,
    schema: str = "public",
    owner: str | None = None,
    application: str | None = None,
    reader: str | None = None,
    archivist: str | None = None,
) -> None:
    """Grant four roles their rights on a migrated schema; create those that are missing.

    The owner owns the schema and the library's tables in it, and is the only role that may migrate.
    The application may do what `PgEventStore` does: SELECT and INSERT on the log and the artifacts,
    UPDATE on the step rows and the snapshots, which are derived from the log, and every change of
    the rows by which workers share the flows. The reader may SELECT. The archivist may do the same,
    append seals, and call the function that archives flows. All other rights of these three and of
    PUBLIC on the tables are revoked.

    A role that is not named gets its usual name, which holds the schema's unless that is `public`
    (see `usual_names`). Roles belong to the server, and a login has their rights in each of its
    databases. So a usual name is refused if the role has rights in other databases and none in this
    one. Name roles of this database, or name the same ones in order to share them.

    The roles cannot log in and have no password: grant them to login roles (`GRANT chem_application
    TO lab`). Only the owner of a log that Citus distributes may log in, and only to the workers, as
    which role Citus runs there what the owner runs. The connection must be a superuser's. Call this
    again after each migration; what is already right is left alone.

    Raises:
        InvalidArgument: a name is invalid, or one is needed because the role with the usual name
            is another database's; or the role could do more than its part, as a superuser or a
            member of the owner. Nothing was changed.
        MigrationError: the schema lacks tables of the library.
        StoreError: the connection's role is not permitted to do this.
    """
    given = {
        "owner": owner,
        "application": application,
        "reader": reader,
        "archivist": archivist,
    }
    named = {part: name for part, name in given.items() if name is not None}
    names = asdict(usual_names(schema)) | named
    by_default = set(names.values()) - set(named.values())
    _check_size("schema", schema)
    for argument, name in names.items():
        _check_size(argument, name)
        if _RESERVED.fullmatch(name):
            raise InvalidArgument(
                argument, "public, none and names that begin with pg_ are reserved by the server"
            )
    if len(set(names.values())) < len(names):
        raise InvalidArgument(", ".join(names), "must be four different roles")

    async def grant() -> None:
        async with connection.transaction():
            await _check_not_of_others(connection, sorted(by_default))
            await _grant(connection, schema, RoleNames(**names))
        await permit_owner(connection)  # after the commit: a worker does not see the role before

    await with_retries(grant)


async def _check_not_of_others(connection: Connection, names: list[str]) -> None:
    """Raise InvalidArgument if one of the roles has rights in other databases and none here."""
    for row in await connection.fetch(FIND_ROLES_OF_OTHER_DATABASES, names):
        raise InvalidArgument(
            f"role {row['name']!r}",
            f"has rights in database {row['database']!r} already: a login that is its member would "
            "have the same rights in this one; give names to the owner, the application, the "
            "reader and the archivist of this database, or give these names in order to share the "
            "roles",
        )


async def _grant(connection: Connection, schema: str, names: RoleNames) -> None:
    rights = await connection.fetch(LIST_RIGHTS, schema)
    relations = [row["relation"] for row in rights]
    listed = (
        relations,
        [row["role"] for row in rights],
        [", ".join(row["privileges"]) for row in rights],
    )
    missing = await connection.fetch(FIND_MISSING_RELATIONS, schema, relations)
    if missing:
        lacking = ", ".join(row["relation"] for row in missing)
        raise MigrationError(f"schema {schema!r} lacks {lacking}: migrate it first")
    owner, *others = astuple(names)
    await _create(connection, [owner, *others])
    for quote, arguments in (
        (QUOTE_OWNERSHIP, (schema, owner, relations, _FUNCTIONS, _TYPES)),
        (QUOTE_REVOKES, (schema, relations, *others)),
        (QUOTE_GRANTS, (schema, *others, *listed)),
    ):
        for row in await connection.fetch(quote, *arguments):
            await connection.execute(row["statement"])
    excess = await connection.fetch(FIND_EXCESS, schema, owner, *others, *listed)
    if excess:
        raise InvalidArgument(
            f"role {excess[0]['name']!r}", "; ".join(row["excess"] for row in excess)
        )


async def _create(connection: Connection, names: list[str]) -> None:
    """Create missing roles; another process may do the same for another database of the server."""
    for row in await connection.fetch(QUOTE_CREATE_ROLES, names):
        with suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute(row["statement"])


def _check_size(argument: str, name: str) -> None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            argument, "has a lone surrogate, which UTF-8 cannot encode"
        ) from error
    if not 0 < size <= _LONGEST_NAME or "\0" in name:
        reason = f"must have 1 to {_LONGEST_NAME} bytes and no U+0000, not {size}: {name!r}"
        raise InvalidArgument(argument, reason)

"""The examination: all checks in turn on one connection, which change nothing."""

from collections.abc import Awaitable, Callable

import asyncpg

from chem_persistence.postgres.admin.doctor.archive import check_archive
from chem_persistence.postgres.admin.doctor.clock import check_clock, check_newest_flow
from chem_persistence.postgres.admin.doctor.cluster import check_cluster, is_worker
from chem_persistence.postgres.admin.doctor.commands import Commands
from chem_persistence.postgres.admin.doctor.connections import check_connections
from chem_persistence.postgres.admin.doctor.feed import check_consumers, check_feed
from chem_persistence.postgres.admin.doctor.flows import check_given_flows
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.admin.doctor.rights import RoleNames, check_rights
from chem_persistence.postgres.admin.doctor.schema import (
    check_foreign_objects,
    check_migrations,
    check_objects,
)
from chem_persistence.postgres.admin.doctor.server import check_server
from chem_persistence.postgres.admin.doctor.storage import (
    check_bloat,
    check_old_transactions,
    check_wraparound,
)
from chem_persistence.postgres.admin.roles import usual_names
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.store.clock import SystemClock
from chem_persistence.store.ports import Clock

__all__ = ["examine"]

_DAMAGE = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
)

Check = Callable[[Connection], Awaitable[list[CheckResult]]]


async def examine(
    provider: ConnectionProvider,
    schema: str,
    *,
    pool_size: int = 10,
    processes: int = 1,
    role_names: RoleNames | None = None,
    commands: Commands | None = None,
    clock: Clock | None = None,
) -> list[CheckResult]:
    """Check a database, its server and `schema`, which is its connections' search path.

    The limits on connections are checked for `processes` programs with a pool of `pool_size` each.
    A check that the role is not permitted to make is reported as a warning. `commands` are used in
    remedies; by default they assume that DATABASE_URL names the database.

    Raises:
        StoreUnavailable, StoreError: the database could not be reached.
    """
    timed, names = clock or SystemClock(), role_names or usual_names(schema)
    typed = commands or Commands(schema)
    of_the_server: dict[str, Check] = {
        "server": check_server,
        "clock": lambda connection: check_clock(connection, timed),
        "wraparound": check_wraparound,
        "transactions": check_old_transactions,
        "connections": lambda connection: check_connections(
            connection, pool_size=pool_size, processes=processes
        ),
    }
    rights: dict[str, Check] = {"rights": lambda connection: check_rights(connection, typed, names)}

    async def run(connection: Connection) -> list[CheckResult]:
        results = await _run(connection, of_the_server)
        results += await _run(connection, {"cluster": lambda _: check_cluster(connection, typed)})
        if await is_worker(connection):
            return results
        migrations = await _run(
            connection, {"schema": lambda _: check_migrations(connection, typed)}
        )
        is_current = all(result.severity is Severity.OK for result in migrations)
        checks = _of_a_schema(typed, names) if is_current else {}
        return results + migrations + await _run(connection, checks | rights)

    return await Session(provider).run(run)


def _of_a_schema(commands: Commands, names: RoleNames) -> dict[str, Check]:
    """Return the checks that need the tables of the library's last migration."""
    return {
        "objects": lambda connection: check_objects(connection, commands),
        "triggers": lambda connection: check_foreign_objects(connection, commands.schema),
        "clock": check_newest_flow,
        "bloat": lambda connection: check_bloat(connection, commands.schema),
        "flows": lambda connection: check_given_flows(connection, commands),
        "feed": check_feed,
        "consumers": lambda connection: check_consumers(connection, commands),
        "archive": lambda connection: check_archive(connection, names),
    }


async def _run(connection: Connection, checks: dict[str, Check]) -> list[CheckResult]:
    results = []
    for name, check in checks.items():
        try:
            results += await check(connection)
        except _DAMAGE as error:  # the check of the objects names it, with its remedy
            finding = f"cannot be checked: {error}"
            results.append(CheckResult(name, Severity.ERROR, finding))
        except asyncpg.InsufficientPrivilegeError as error:
            finding = f"this check is not permitted: {error}"
            results.append(
                CheckResult(name, Severity.WARNING, finding, "ask a superuser to run doctor")
            )
    return results

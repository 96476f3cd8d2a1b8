"""Check that the limits on connections suffice for the pools of all processes."""

from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import statement

__all__ = ["check_connections"]

MEASURE_CONNECTIONS = statement("doctor/measure_connections")


async def check_connections(
    connection: Connection, *, pool_size: int, processes: int
) -> list[CheckResult]:
    """Check the limits against `processes` with a pool of `pool_size` connections each."""
    (row,) = await connection.fetch(MEASURE_CONNECTIONS)
    needed = pool_size * processes
    limits = {
        "server": (
            row["server_limit"],
            f"ALTER SYSTEM SET max_connections = {needed + 20}; -- and restart the server",
        ),
        "database": (
            row["database_limit"],
            f"ALTER DATABASE {row['quoted_database']} CONNECTION LIMIT {needed + 5};",
        ),
        "role": (
            row["role_limit"],
            f"ALTER ROLE {row['quoted_role']} CONNECTION LIMIT {needed + 5};",
        ),
    }
    results = []
    for name, (limit, remedy) in limits.items():
        used = row[f"{name}_used"]
        if limit < 0:
            continue
        if needed > limit:
            finding = (
                f"the {name} allows {limit} connections, "
                f"{processes} pools of {pool_size} need {needed}"
            )
            results.append(CheckResult("connections", Severity.ERROR, finding, remedy))
        elif needed > limit - used:
            finding = (
                f"the {name} allows {limit} connections and {used} are in use: "
                f"{processes} more pools of {pool_size} would not get all of theirs"
            )
            results.append(CheckResult("connections", Severity.NOTE, finding))
    free = row["server_limit"] - row["server_used"]
    return results or [
        CheckResult(
            "connections", Severity.OK, f"{free} of {row['server_limit']} are free, {needed} wanted"
        )
    ]

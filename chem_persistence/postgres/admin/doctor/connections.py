"""Whether the pools that are to be opened will get their connections."""

from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import statement

__all__ = ["check_connections"]

MEASURE_CONNECTIONS = statement("doctor/measure_connections")


async def check_connections(
    connection: Connection, *, pool_size: int, processes: int
) -> list[CheckResult]:
    """Compare the connections that `processes` with a pool of `pool_size` each may open with every limit on them."""
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
            finding = f"the {name} allows {limit} connections, {processes} pools of {pool_size} want {needed}"
            results.append(CheckResult("connections", Severity.ERROR, finding, remedy))
        elif needed > limit - used:
            finding = (
                f"the {name} allows {limit} connections and {used} are in use: "
                f"{processes} pools of {pool_size} more would not get theirs"
            )
            results.append(CheckResult("connections", Severity.NOTE, finding))
    free = row["server_limit"] - row["server_used"]
    return results or [
        CheckResult(
            "connections", Severity.OK, f"{free} of {row['server_limit']} are free, {needed} wanted"
        )
    ]

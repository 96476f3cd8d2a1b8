"""Check the distribution of the log, if the database has Citus."""

from chem_persistence.errors import MigrationError
from chem_persistence.postgres.admin.doctor.commands import Commands
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.distribution import (
    DISTRIBUTED_TABLES,
    check_node,
    is_distributed,
)
from chem_persistence.postgres.schema.statements import statement

__all__ = ["check_cluster", "is_worker"]

COUNT_WORKERS = statement("distribution/count_workers")
LIST_DISTRIBUTED_TABLES = statement("distribution/list_distributed_tables")


async def is_worker(connection: Connection) -> bool:
    """Return whether the server is a worker node, on which nothing else of doctor applies."""
    try:
        await check_node(connection)
    except MigrationError:
        return True
    return False


async def check_cluster(connection: Connection, commands: Commands) -> list[CheckResult]:
    """Check that the node is not a worker, and that each table of the log is distributed, or none.

    A server without Citus has nothing to check, and no result.
    """
    try:
        if not await check_node(connection):
            return []
    except MigrationError as error:
        remedy = "give the coordinator's URL: --database-url URL"
        return [CheckResult("cluster", Severity.ERROR, str(error), remedy)]
    if not await is_distributed(connection):
        finding = "the database has Citus, and the log is not distributed"
        return [CheckResult("cluster", Severity.NOTE, finding, commands.distribute())]
    rows = await connection.fetch(LIST_DISTRIBUTED_TABLES, commands.schema)
    missing = sorted(DISTRIBUTED_TABLES - {row["relation"] for row in rows})
    if missing:
        finding = f"the log is distributed, and {', '.join(missing)} is not"
        return [CheckResult("cluster", Severity.ERROR, finding, commands.distribute())]
    ((workers,),) = await connection.fetch(COUNT_WORKERS)
    finding = f"the log is distributed over {workers} nodes"
    return [CheckResult("cluster", Severity.OK, finding)]

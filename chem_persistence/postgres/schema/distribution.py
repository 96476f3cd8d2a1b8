"""Distribution of the log over several servers by Citus, as the files of sql/citus set it up.

The library runs on such a cluster with these differences:

- A transaction appends to one flow only: events are distributed by flow id, so one over several
  flows could involve several servers. The store calls `is_distributed` to know.
- `append_rows`, `append_one` and `append_events`, and the functions that claim and release flows,
  are defined differently: Citus sends each of their statements to one shard.
- The first append after a crash of the coordinator compares the sequence of `seq` with the log:
  workers may have committed numbers that the recovered sequence does not know.
- An artifact that several flows share has one row per flow, since a key must contain the column
  that its table is distributed by. Readers accept any of these rows; `verify` checks all.
- Lineage is read generation by generation, since Citus runs no recursive query over distributed
  tables.
- Sessions have the settings `SESSION_SETTINGS`.
"""

from chem_persistence.errors import MigrationError
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import SQL_DIRECTORY, statement

__all__ = [
    "DISTRIBUTED_TABLES",
    "SESSION_SETTINGS",
    "check_node",
    "has_citus",
    "install_distribution",
    "is_distributed",
    "prepare_changes",
    "run_change",
]

FIND_CITUS = statement("distribution/find_citus")
FIND_DISTRIBUTION = statement("distribution/find_distribution")
PROPAGATE_CHANGES = statement("distribution/propagate_changes")
READ_LOCAL_GROUP = statement("distribution/read_local_group")
RUN_SEQUENTIALLY = statement("distribution/run_sequentially")

SESSION_SETTINGS = {
    "citus.enable_local_execution": "off",
    "citus.executor_slow_start_interval": "1s",
    "citus.override_table_visibility": "off",
}
"""Settings of every session on a server with Citus, by name.

Citus 13.2 plans a statement of an append for a shard on the session's own node anew at each
execution, and keeps every plan until the session ends: 0.3 MB for each append to a flow on the
coordinator (citusdata/citus, pull request 8824, mends it). Without local execution the coordinator
connects to itself as to a worker.

A statement that reads many shards opens one more connection to each worker every interval, and
closes it when it ends: with the default of 10 ms, claims and pages of the feed opened nine out of
ten connections for nothing.

Citus hides the tables of shards by a function call in each read of pg_class. Without this setting
the driver's query for the types of an append's parameters takes seconds, once per connection.
"""

DISTRIBUTED_TABLES = frozenset(
    {
        "archived_flows",
        "event_log",
        "flow_runs",
        "flow_snapshots",
        "imported_flows",
        "workflow_step_artifact_chunks",
        "workflow_step_artifacts",
        "workflow_step_executions",
    }
)
"""The tables that sql/citus/distribute.sql distributes."""

_COORDINATOR_GROUP = 0

_FILES = (
    "distribute",
    "sequence",
    "append_events",
    "append_rows",
    "append_one",
    "archive",
    "flow_runs",
    "results",
)


async def is_distributed(connection: Connection) -> bool:
    """Return whether the log is distributed; False on a server without Citus.

    Raises:
        asyncpg.PostgresError: the catalog could not be read.
    """
    (row,) = await connection.fetch(FIND_DISTRIBUTION)
    distributed: bool = row["distributed"]
    return distributed


async def has_citus(connection: Connection) -> bool:
    """Return whether the database has the extension Citus.

    Raises:
        asyncpg.PostgresError: the catalog could not be read.
    """
    (row,) = await connection.fetch(FIND_CITUS)
    found: bool = row["has_citus"]
    return found


async def check_node(connection: Connection) -> bool:
    """Return whether the database has Citus, after checking that the node is not a worker.

    Raises:
        MigrationError: the server is a worker node of a Citus cluster.
    """
    if not await has_citus(connection):
        return False
    for row in await connection.fetch(READ_LOCAL_GROUP):
        if row["group_id"] != _COORDINATOR_GROUP:
            raise MigrationError(
                f"the server is a worker node of a Citus cluster (group {row['group_id']}): "
                "connect to the coordinator, where the log is migrated, written and read"
            )
    return True


async def prepare_changes(connection: Connection) -> bool:
    """Prepare the transaction for changes of the schema; return whether the log is distributed.

    Raises:
        asyncpg.PostgresError: the database refused.
    """
    distributed = await is_distributed(connection)
    if distributed:
        await connection.execute(RUN_SEQUENTIALLY)
    return distributed


async def run_change(connection: Connection, change: str) -> None:
    """Run a statement of a migration, on the coordinator alone if it grants rights on a function.

    Citus repeats such a GRANT on the workers with the names of the argument types as the search
    path of this session has them. On a worker they are looked up by the path of the role, and name
    the types of the schema `public` if that has a log, too. The functions that have rights of their
    own are called on the coordinator.

    Raises:
        asyncpg.PostgresError: the database refused.
    """
    if "GRANT EXECUTE ON FUNCTION" not in change:
        await connection.execute(change)
        return
    (row,) = await connection.fetch(PROPAGATE_CHANGES, "off")
    await connection.execute(change)
    await connection.fetch(PROPAGATE_CHANGES, row["setting"] or "on")


async def install_distribution(connection: Connection) -> None:
    """Distribute the log of the connection's schema; skip tables that are already distributed.

    The connection must be in a transaction on the coordinator, as the owner of the tables.

    Raises:
        asyncpg.PostgresError: the database refused.
    """
    for name in _FILES:
        await connection.execute((SQL_DIRECTORY / "citus" / f"{name}.sql").read_text("utf-8"))

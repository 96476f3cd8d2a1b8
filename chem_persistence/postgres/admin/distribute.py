"""Distribution of a migrated log over the workers of a Citus cluster."""

from collections.abc import Sequence

import msgspec

from chem_persistence.errors import MigrationError, StoreError
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.session import with_retries
from chem_persistence.postgres.connection.transaction import transaction
from chem_persistence.postgres.schema.distribution import (
    check_node,
    install_distribution,
    is_distributed,
)
from chem_persistence.postgres.schema.statements import statement

__all__ = ["DistributedTable", "distribute_log", "permit_owner"]

LIST_DISTRIBUTED_TABLES = statement("distribution/list_distributed_tables")
PERMIT_OWNER_ON_WORKERS = statement("distribution/permit_owner_on_workers")
READ_LOG_OWNER = statement("distribution/read_log_owner")


class DistributedTable(msgspec.Struct, frozen=True):
    """A table, and the column by whose value its rows are distributed."""

    table: str
    distributed_by: str


async def distribute_log(
    connection: Connection, *, schema: str = "public"
) -> Sequence[DistributedTable]:
    """Distribute the tables of a migrated schema by flow, and return all that are distributed.

    Installs the append in texts that Citus runs, and lets the owner of the tables log in to the
    workers, where Citus runs what the owner runs. All in one transaction but the last; what is
    right already is left alone. The connection is a superuser's, on the
    coordinator, with `schema` as its search path. Source: Citus documentation, "Citus Utility
    Functions", `create_distributed_table`.

    Raises:
        MigrationError: the database does not have Citus, or the server is a worker node.
        StoreError: the database refused, for instance because no node takes shards.
        StoreUnavailable: the database, or a worker, could not be reached.
    """
    found: list[DistributedTable] = []

    async def distribute() -> None:
        if not await check_node(connection):
            raise MigrationError(
                "the database does not have Citus: run CREATE EXTENSION citus in this database on "
                "each node, and citus_add_node for each worker on the coordinator"
            )
        async with transaction(connection):
            await install_distribution(connection)
        await permit_owner(connection)
        rows = await connection.fetch(LIST_DISTRIBUTED_TABLES, schema)
        found[:] = [DistributedTable(row["relation"], row["distribution_column"]) for row in rows]

    await with_retries(distribute)
    return found


async def permit_owner(connection: Connection) -> None:
    """Permit the owner of a distributed log to log in to the workers; do nothing without Citus.

    Citus runs there what runs as the owner, such as a refresh of the statistics after `SET ROLE`.
    The owner that `create_roles` creates cannot log in, and still cannot to the coordinator.

    Raises:
        StoreError: a worker refused.
        asyncpg.PostgresError: the database refused.
    """
    if not await is_distributed(connection):
        return
    for owner in await connection.fetch(READ_LOG_OWNER):
        if owner["may_log_in"]:
            continue
        for refusal in await connection.fetch(PERMIT_OWNER_ON_WORKERS, owner["name"]):
            worker = f"{refusal['host']}:{refusal['port']}"
            raise StoreError(
                f"worker {worker} refused the login of role {owner['name']}: {refusal['result']}"
            )

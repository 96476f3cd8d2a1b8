"""Distribution of the log over several servers by Citus, as sql/citus/distribute.sql sets it up.

The library runs on such a cluster with three concessions, and only the first depends on the answer
of `is_distributed`:

- A transaction appends to one flow, since events are distributed by flow id, and a transaction over
  several flows would be one over several servers.
- An artifact that several flows share has one row in each of them, since a key must contain the
  column that its table is distributed by. Every statement accepts any of these rows.
- Lineage is read generation by generation, since Citus runs no recursive query over distributed
  tables.
"""

from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import statement

__all__ = ["is_distributed"]

FIND_DISTRIBUTION = statement("events/find_distribution")


async def is_distributed(connection: Connection) -> bool:
    """Return whether the log is distributed; a plain PostgreSQL server answers no as well.

    Raises:
        asyncpg.PostgresError: the catalog could not be read.
    """
    (row,) = await connection.fetch(FIND_DISTRIBUTION)
    distributed: bool = row["distributed"]
    return distributed

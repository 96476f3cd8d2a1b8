"""Write documentation/snapshots/*.sql from a live database.

python -m tests.support.servers.write_snapshot
"""

import asyncio
import sys
from pathlib import Path

import asyncpg

from chem_persistence import build_pool
from chem_persistence.postgres.schema.describe import describe_schema, describe_statements
from chem_persistence.postgres.schema.distribution import install_distribution
from chem_persistence.postgres.schema.statements import CITUS_SNAPSHOT
from tests.support.servers.citus import STAND_IN
from tests.support.servers.server import TestServer, running_server

SNAPSHOT = Path(__file__).parents[3] / "documentation" / "snapshots" / "schema_f5.sql"
HEADER = """\
-- The schema that the migrations in sql/migrations make together,
-- as a live PostgreSQL (15 to 18) describes it.
-- Written by `make snapshot`; a test compares it with a live database.
-- Do not edit it: write a migration.

"""

CITUS_HEADER = """\
-- The objects that `chem-persistence distribute` replaces or adds in the schema of schema_f5.sql,
-- as a live PostgreSQL describes them. Written by `make snapshot`; a test compares it with a live
-- database. Do not edit it: edit sql/citus.

"""


async def citus_snapshot_text(server: TestServer) -> str:
    """Distribute a new database by a stand-in for Citus, and describe what that changed."""
    async with server.database(template="template0") as url:
        await (await build_pool(url, max_size=1)).close()
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(STAND_IN)
            before = set(await describe_statements(connection, "public"))
            async with connection.transaction():
                await install_distribution(connection)
            after = await describe_statements(connection, "public")
        finally:
            await connection.close()
    changed = [
        statement
        for statement in after
        if statement not in before and "citus_truncate_trigger" not in statement
    ]
    return CITUS_HEADER + "\n".join(f"{statement};\n" for statement in changed)


async def snapshot_text(server: TestServer, schema: str = "public") -> str:
    """Migrate a new database of the server and return the text of the snapshot file."""
    async with server.database(template="template0") as url:
        async with await build_pool(url, max_size=1, schema=schema):
            pass
        connection = await asyncpg.connect(url)
        try:
            return HEADER + await describe_schema(connection, schema)
        finally:
            await connection.close()


def main() -> None:
    with running_server() as server:
        SNAPSHOT.write_text(asyncio.run(snapshot_text(server)), encoding="utf-8")
        CITUS_SNAPSHOT.write_text(asyncio.run(citus_snapshot_text(server)), encoding="utf-8")
        sys.stdout.write(f"{SNAPSHOT} written from {server.label}\n")


if __name__ == "__main__":
    main()

"""Write documentation/snapshots/schema_f5.sql from a live database.

python -m tests.support.servers.write_snapshot
"""

import asyncio
import sys
from pathlib import Path

import asyncpg

from chem_persistence import build_pool
from chem_persistence.postgres.schema.describe import describe_schema
from tests.support.servers.server import TestServer, running_server

SNAPSHOT = Path(__file__).parents[3] / "documentation" / "snapshots" / "schema_f5.sql"
HEADER = """\
-- The schema that the migrations in sql/migrations make together,
-- as a live PostgreSQL (15 to 18) describes it.
-- Written by `make snapshot`; a test compares it with a live database.
-- Do not edit it: write a migration.

"""


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
        sys.stdout.write(f"{SNAPSHOT} written from {server.label}\n")


if __name__ == "__main__":
    main()

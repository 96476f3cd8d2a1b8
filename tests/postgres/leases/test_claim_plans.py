"""The plan of a claim, which is made once a session and outlives the size that the table had."""

from datetime import timedelta
from typing import TypeAlias
from uuid import uuid4

import asyncpg

from chem_persistence import PgLeases
from tests.support.leases.desk import HASH, HOUR
from tests.support.leases.lender import Lender

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

WAITING = 2_000


async def test_a_plan_of_an_empty_table_reads_the_index_when_the_table_has_grown(
    pool: Pool,
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        leases = PgLeases(Lender(connection))
        assert await leases.claim([HASH], uuid4(), 8, HOUR) == []
        rows = [(uuid4(), HASH, timedelta(hours=number % 7 - 1)) for number in range(WAITING)]
        await connection.executemany(
            "INSERT INTO flow_runs (flow_id, definition_hash, due_at) VALUES ($1, $2, now() + $3)",
            rows,
        )
        assert len(await leases.claim([HASH, "another"], uuid4(), 8, HOUR)) == 8
        scans = await connection.fetchval(
            "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'flow_runs'::regclass"
        )
    assert scans == 0

"""A trigger that blocks the inserts of chosen rows, in the middle of their statement."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg

__all__ = ["gate"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NUMBER = 4_711


@asynccontextmanager
async def gate(owner: Connection, table: str, condition: str) -> AsyncIterator[None]:
    """Block inserts into `table` of rows that meet `condition` (on NEW) until the block ends.

    By then the statement has taken its snapshot and inserted the rows before these.
    """
    await owner.execute(f"""
        CREATE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared({NUMBER});
            RETURN NEW;
        END $$
    """)
    await owner.execute(
        f"CREATE TRIGGER gate BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition})"
        " EXECUTE FUNCTION wait_at_the_gate()"
    )
    await owner.execute("SELECT pg_advisory_lock($1)", NUMBER)
    try:
        yield
    finally:
        await owner.execute("SELECT pg_advisory_unlock($1)", NUMBER)

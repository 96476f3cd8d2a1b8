"""A gate in the database: rows of chosen flows wait at it, in the midst of the statement that brings them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg

__all__ = ["gate"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NUMBER = 4_711


@asynccontextmanager
async def gate(owner: Connection, table: str, condition: str) -> AsyncIterator[None]:
    """Let inserts into `table` of rows that meet `condition` (on NEW) wait until the block ends.

    The statement has taken its snapshot by then, and has done what comes before these rows.
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

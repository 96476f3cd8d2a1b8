"""Faults in which the server refuses: conflicts, timeouts, limits, full disks, being a standby."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any

import asyncpg

from tests.torture.arena import Arena, Fault, NotStruck
from tests.torture.faults.process import ENDED
from tests.torture.servers.server import WRITER
from tests.torture.servers.small_disk import may_mount

__all__ = ["REFUSAL_FAULTS"]

PATIENCE_SECONDS = 10.0
SERIALIZABLE = {"default_transaction_isolation": "serializable"}
TOUCH = """
    BEGIN;
    UPDATE workflow_step_executions SET status = status WHERE flow_id IN
        (SELECT flow_id FROM event_log WHERE version = 0 AND ts > now() - interval '6 seconds')
"""
WAITERS = (
    f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{WRITER}' AND wait_event_type = 'Lock'"
)
NEXT_WAL_FILE = "SELECT pg_logical_emit_message(false, 'torture', 'full'); SELECT pg_switch_wal()"
MOST_WAL_FILES = 20


def _with_settings(
    settings: Mapping[str, str], *, locked: bool = False
) -> Callable[[Arena, Random], AsyncIterator[None]]:
    """Change settings for all sessions; with `locked`, also lock the table so that appends wait."""

    async def set_(arena: Arena, _dice: Random) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await arena.server.configure(settings)
            stack.push_async_callback(arena.server.configure, dict.fromkeys(settings))
            if locked:
                session = await stack.enter_async_context(arena.server.session())
                await session.execute("BEGIN; LOCK TABLE event_log IN SHARE MODE")
            yield

    return set_


async def _deadlock(arena: Arena, _dice: Random) -> AsyncIterator[None]:
    """Lock a table that appends need last; once one waits, request the table that it holds."""
    async with arena.server.session() as session:
        await session.execute("BEGIN; LOCK TABLE workflow_step_executions IN SHARE MODE")
        # from now on the writer checks for a deadlock after 0.2 s, and this session after 1 s, so
        # that the writer is the one that detects it
        await _until_waiting(session)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await session.execute("LOCK TABLE event_log IN SHARE MODE")
        await session.execute("ROLLBACK")
    yield


async def _serialization(arena: Arena, _dice: Random) -> AsyncIterator[None]:
    """Make all transactions serializable, and update the rows of the current flows repeatedly."""
    async with arena.server.session() as session:
        await arena.server.configure(SERIALIZABLE)
        touching = asyncio.create_task(_touch_rows(session))
        try:
            yield
        finally:
            touching.cancel()
            await asyncio.wait([touching])
            await arena.server.configure(dict.fromkeys(SERIALIZABLE))
    if not touching.cancelled():
        raise NotStruck


async def _touch_rows(session: Any) -> None:
    """Rewrite rows unchanged; an append that waits for one of them fails to serialize."""
    while True:
        with suppress(asyncpg.DeadlockDetectedError):
            await session.execute(TOUCH)
            with suppress(NotStruck):
                await _until_waiting(session, 0.1)
        await session.execute("COMMIT")  # rolls back if the transaction has failed
        await asyncio.sleep(0.01)


async def _until_waiting(session: Any, seconds: float = PATIENCE_SECONDS) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await session.fetchval(WAITERS):
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise NotStruck from None


async def _too_many_connections(arena: Arena, _dice: Random) -> AsyncIterator[None]:
    async with arena.server.session() as session:
        await session.execute(f"ALTER ROLE {WRITER} CONNECTION LIMIT 2")
        try:
            for pid in (await arena.server.backends())[2:]:
                await session.execute("SELECT pg_terminate_backend($1::integer)", pid)
            yield
        finally:
            await session.execute(f"ALTER ROLE {WRITER} CONNECTION LIMIT -1")


async def _disk_full(arena: Arena, _dice: Random) -> AsyncIterator[None]:
    if not arena.server.disk.mounted:
        raise NotStruck
    arena.server.disk.fill()
    try:
        yield
    finally:
        arena.server.disk.empty()


async def _wal_disk_full(arena: Arena, _dice: Random) -> AsyncIterator[None]:
    """Fill the disk of the WAL until the server stops; it may or may not start again as it is."""
    if not arena.server.wal_disk.mounted:
        raise NotStruck
    arena.server.wal_disk.fill()
    try:
        await _use_up_wal(arena)
        yield
    finally:
        arena.server.wal_disk.empty()
        await arena.server.revive()


async def _use_up_wal(arena: Arena) -> None:
    try:
        async with arena.server.session() as session:
            for _ in range(MOST_WAL_FILES):
                await session.execute(NEXT_WAL_FILE)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return  # the server has terminated all sessions
    raise NotStruck


async def _standby(arena: Arena, _dice: Random) -> AsyncIterator[None]:
    """Connect the writers of the proxy to the standby, which may lag, and back to the server."""
    arena.proxy.lead_to(arena.standby.url)
    try:
        yield
    finally:
        arena.proxy.lead_to(arena.server.url)


REFUSAL_FAULTS = [
    Fault(
        "serialization failures",
        _serialization,
        lasts=True,
        felt="40001",
        causes=frozenset({"40P01"}),
    ),
    Fault("deadlock", _deadlock, felt="40P01"),
    Fault(
        "lock_timeout",
        _with_settings({"lock_timeout": "20ms"}, locked=True),
        lasts=True,
        felt="55P03",
    ),
    Fault(
        "statement_timeout",
        _with_settings({"statement_timeout": "20ms"}, locked=True),
        lasts=True,
        felt="57014",
    ),
    Fault(
        "read-only server",
        _with_settings({"default_transaction_read_only": "on"}),
        lasts=True,
        felt="25006",
    ),
    Fault("standby instead of the server", _standby, lasts=True, felt="25006", causes=ENDED),
    Fault("too many connections", _too_many_connections, lasts=True, felt="53300", causes=ENDED),
    Fault("disk full", _disk_full, lasts=True, felt="53100", possible=may_mount),
    Fault("WAL disk full", _wal_disk_full, felt="53100", causes=ENDED, possible=may_mount),
]

"""Faults of processes: killed, stopped, terminated by an administrator."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from random import Random

from tests.torture.arena import Arena, Fault, NotStruck
from tests.torture.faults.connection import CUT

__all__ = ["ENDED", "PROCESS_FAULTS"]

BACKGROUND = "('walwriter', 'checkpointer', 'background writer')"


async def _terminate_backends(arena: Arena, dice: Random) -> AsyncIterator[None]:
    pids = await arena.server.backends()
    if not pids:
        raise NotStruck
    async with arena.server.session() as session:
        for pid in dice.sample(pids, min(len(pids), dice.randint(1, 4))):
            await session.execute("SELECT pg_terminate_backend($1::integer)", pid)
    yield


async def _kill_writer(arena: Arena, dice: Random) -> AsyncIterator[None]:
    slot = dice.choice(arena.writers.slots)
    await arena.writers.kill(slot)
    yield
    await arena.writers.start(slot)


def _end_server(number: signal.Signals) -> Callable[[Arena, Random], AsyncIterator[None]]:
    async def end(arena: Arena, _dice: Random) -> AsyncIterator[None]:
        arena.server.signal(number)
        yield
        await arena.server.revive()

    return end


async def _kill_backend(arena: Arena, dice: Random) -> AsyncIterator[None]:
    """Kill the process of one session; the server ends all others and recovers."""
    pids = await arena.server.backends()
    if not pids:
        raise NotStruck
    try:
        os.kill(dice.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        raise NotStruck from None
    yield
    await arena.server.revive()


def _stopping(which: str) -> Callable[[Arena, Random], AsyncIterator[None]]:
    async def stop(arena: Arena, dice: Random) -> AsyncIterator[None]:
        if which == "session":
            pids = await arena.server.backends("state <> 'idle'") or await arena.server.backends()
        else:
            async with arena.server.session() as session:
                query = (
                    "SELECT pid FROM pg_stat_activity "
                    f"WHERE backend_type IN {BACKGROUND} ORDER BY backend_type"
                )
                pids = [row["pid"] for row in await session.fetch(query)]
        if not pids:
            raise NotStruck
        victim = dice.choice(pids)
        try:
            os.kill(victim, signal.SIGSTOP)
        except ProcessLookupError:
            raise NotStruck from None
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGCONT)

    return stop


async def _stop_writer(arena: Arena, dice: Random) -> AsyncIterator[None]:
    slot = dice.choice(arena.writers.slots)
    arena.writers.freeze(slot)
    try:
        yield
    finally:
        arena.writers.thaw(slot)


ENDED = CUT | {"57P01", "57P02", "57P03"}
"""The SQLSTATEs of sessions ended by an administrator or a crash, or rejected during a start."""

PROCESS_FAULTS = [
    Fault("pg_terminate_backend", _terminate_backends, causes=ENDED),
    Fault("SIGKILL of a writer", _kill_writer),
    Fault("SIGKILL of a session's process", _kill_backend, causes=ENDED),
    Fault("SIGKILL of the server", _end_server(signal.SIGKILL), causes=ENDED),
    Fault("immediate shutdown", _end_server(signal.SIGQUIT), causes=ENDED),
    Fault("fast restart", _end_server(signal.SIGINT), causes=ENDED),
    Fault("SIGSTOP of a session's process", _stopping("session"), lasts=True),
    Fault("SIGSTOP of a background process", _stopping("background"), lasts=True),
    Fault("SIGSTOP of a writer", _stop_writer, lasts=True),
]

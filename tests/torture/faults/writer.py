"""Faults inside a writer: its pool is empty, its clock is set back, its appends are cancelled."""

from collections.abc import AsyncIterator
from random import Random

from tests.torture.arena import Arena, Fault

__all__ = ["WRITER_FAULTS"]

LONGEST_STEP = 86_400.0
LONGEST = 5.0
"""Seconds after which a writer ends the fault by itself."""


async def _exhaust(arena: Arena, dice: Random) -> AsyncIterator[None]:
    """Hold all connections of a writer."""
    slot = dice.choice(arena.writers.slots)
    arena.writers.command(slot, "exhaust", LONGEST)
    yield
    arena.writers.command(slot, "exhaust", 0)


async def _step_back(arena: Arena, dice: Random) -> AsyncIterator[None]:
    slot, seconds = dice.choice(arena.writers.slots), dice.uniform(0.001, LONGEST_STEP)
    arena.writers.command(slot, "step", -seconds)
    yield
    arena.writers.command(slot, "step", seconds)


async def _cancel(arena: Arena, _dice: Random) -> AsyncIterator[None]:
    for slot in arena.writers.slots:
        arena.writers.command(slot, "cancel", LONGEST)
    yield
    for slot in arena.writers.slots:
        arena.writers.command(slot, "cancel", 0)


WRITER_FAULTS = [
    Fault("pool exhausted", _exhaust, lasts=True),
    Fault("clock set back", _step_back, lasts=True),
    Fault("appends cancelled", _cancel, lasts=True),
]

"""Faults of the connection between a writer and the server, at a message of the protocol."""

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random

from tests.support.faults.proxy import Fault as Break
from tests.support.faults.proxy import Message, Strike
from tests.support.flows.messages import gives_a_stored_event, sends_an_append
from tests.torture.arena import Arena, Fault, NotStruck

__all__ = ["CONNECTION_FAULTS", "CUT"]

STRIKE_SECONDS = 10.0
LAST_MESSAGE = 60
SHORT = (0.02, 0.3)


async def _struck(arena: Arena, fault: Break) -> Break:
    """Arm a fault and wait until it has struck."""
    arena.proxy.arm(fault)
    try:
        await asyncio.wait_for(fault.struck.wait(), STRIKE_SECONDS)
    except TimeoutError:
        fault.release()
        _disarm(arena)
        raise NotStruck from None
    return fault


def _disarm(arena: Arena) -> None:
    arena.proxy.arm(Break(Strike.CUT_BEFORE, lambda _message: False))


def _cut(
    strike: Strike, matches: Callable[[Message], bool] | None
) -> Callable[[Arena, Random], AsyncIterator[None]]:
    async def cut(arena: Arena, dice: Random) -> AsyncIterator[None]:
        nth = dice.randint(1, LAST_MESSAGE) if matches is None else dice.randint(1, 3)
        await _struck(arena, Break(strike, matches, nth=nth))
        yield

    return cut


def _hold(
    strike: Strike, matches: Callable[[Message], bool] | None
) -> Callable[[Arena, Random], AsyncIterator[None]]:
    async def hold(arena: Arena, dice: Random) -> AsyncIterator[None]:
        nth = dice.randint(1, LAST_MESSAGE) if matches is None else dice.randint(1, 3)
        fault = await _struck(arena, Break(strike, matches, nth=nth))
        try:
            await asyncio.sleep(dice.uniform(*SHORT))
            yield
        finally:
            fault.release()

    return hold


class _Slow(Break):
    """Delays each message by its own time, until it is released."""

    def __init__(self, dice: Random, longest: float) -> None:
        super().__init__(Strike.STALL, always=True)
        self._dice, self._longest = dice, longest

    def strikes(self, message: Message) -> bool:
        return not self.released and super().strikes(message)

    async def until_released(self) -> None:
        await asyncio.sleep(self._dice.uniform(0, self._longest))


async def _delay(arena: Arena, dice: Random) -> AsyncIterator[None]:
    fault = await _struck(arena, _Slow(dice, dice.choice([0.002, 0.01, 0.03])))
    try:
        yield
    finally:
        fault.release()
        _disarm(arena)


CUT = frozenset({"08000", "08001", "08003", "08006"})
"""The SQLSTATEs of a connection that is cut or cannot be opened."""

CONNECTION_FAULTS = [
    Fault(
        "cut before the reply to a commit",
        _cut(Strike.CUT_BEFORE, gives_a_stored_event),
        causes=CUT,
    ),
    Fault("cut after an append is sent", _cut(Strike.CUT_AFTER, sends_an_append), causes=CUT),
    Fault("cut before any message", _cut(Strike.CUT_BEFORE, None), causes=CUT),
    Fault("cut after any message", _cut(Strike.CUT_AFTER, None), causes=CUT),
    Fault("append arrives after its retry", _hold(Strike.SEVER, sends_an_append), causes=CUT),
    Fault("connection stalls", _hold(Strike.STALL, None)),
    Fault("all messages delayed", _delay, lasts=True),
]

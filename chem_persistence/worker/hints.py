"""What a worker hears of due flows, and how long it waits before it follows a hint."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Container
from contextlib import AbstractAsyncContextManager, nullcontext

from chem_persistence.store.leasing.hints import ANY_DEFINITION
from chem_persistence.store.leasing.leases import HintingLeases, Leases

__all__ = ["Hints"]

FIRST_DELAY, LONGEST_DELAY, MOST_MISSES = 0.005, 0.25, 10
"""The longest seconds from a hint to a claim: after one hint without a flow, and after many."""


class Hints:
    """Calls `wake` when flows of these definitions are due, if the leases tell.

    Every worker hears each hint, and one of them gets the flow: those that found nothing at the
    last hints wait longer before they claim again, at random.
    """

    def __init__(
        self, leases: Leases, definitions: Container[str], wake: Callable[[], None]
    ) -> None:
        self._leases = leases
        self._definitions = definitions
        self._wake = wake
        self._is_hinted = False
        self._misses = 0  # hints, one after the other, at which there was no flow to claim

    def heard(self) -> AbstractAsyncContextManager[None]:
        """Hear hints for the length of a block."""
        leases = self._leases
        return leases.hear(self._hear) if isinstance(leases, HintingLeases) else nullcontext()

    async def follow(self, claim: Callable[[], Awaitable[bool]]) -> bool:
        """Claim flows, soon if there was a hint; return what `claim` does: whether there are any.

        Raises what `claim` raises.
        """
        is_hinted, self._is_hinted = self._is_hinted, False
        if is_hinted and self._misses:
            longest = min(FIRST_DELAY * 2**self._misses, LONGEST_DELAY)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  # no secret
        is_found = await claim()
        self._misses = 0 if is_found else min(self._misses + is_hinted, MOST_MISSES)
        return is_found

    def _hear(self, definition: str) -> None:
        if definition == ANY_DEFINITION or definition in self._definitions:
            self._is_hinted = True
            self._wake()

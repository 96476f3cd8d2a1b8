"""When a worker asks for due flows: after a hint, when one will be due, and now and then.

While hints are heard, nearly all flows come with one, so that the worker looks seldom by itself: it
asks when the next flow is due, and claims it then. A hint that is lost delays a flow until the next
look.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Container
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from datetime import timedelta

from chem_persistence.errors import ChemPersistenceError
from chem_persistence.store.leasing.hints import ANY_DEFINITION
from chem_persistence.store.leasing.leases import HintingLeases, Leases, ListeningLeases

__all__ = ["Hints"]

FIRST_DELAY, LONGEST_DELAY, MOST_MISSES = 0.005, 0.25, 10
"""The longest seconds from a hint to a claim: after one hint without a flow, and after many."""

SELDOM = 5.0
"""While hints are heard, a worker looks by itself after so many times its poll interval."""

SPREAD = (0.8, 0.95)
"""The part of `poll_interval` that a pause takes, at random, so that workers do not look together.

The rest is for what follows a look: so nearly every flow goes on within `poll_interval`.
"""

LONGEST_REST = 15.0
"""After so many seconds a worker claims even if nothing seems to be due."""

LATE_SECONDS = 0.002
"""How long after a flow is due the worker asks for it: two clocks count the time until then."""


class Hints:
    """Sets `woken` when flows of these definitions are due, if the leases tell.

    Every worker hears each hint, and one of them gets the flow: those that found nothing at the
    last hints wait longer before they claim again, at random. `poll_interval` is the pause in
    seconds between two looks if no hints are heard, `lease` how long a dead worker holds flows.
    `heard` has the definitions whose hints are followed, by default the same.
    """

    def __init__(
        self,
        leases: Leases,
        definitions: Collection[str],
        woken: asyncio.Event,
        poll_interval: float,
        lease: timedelta,
        *,
        heard: Container[str] | None = None,
    ) -> None:
        self._leases = leases
        self._heard = definitions if heard is None else heard
        self._definitions = definitions
        self._woken = woken
        self._poll_interval = poll_interval
        self._lease_seconds = lease.total_seconds()
        self._is_hinted = False
        self._has_left = False  # a flow, since the last look
        self._resting: asyncio.Timeout | None = None
        self._claim_began = 0.0  # by the monotonic clock
        self._misses = 0  # hints, one after the other, at which there was no flow to claim

    def heard(self) -> AbstractAsyncContextManager[None]:
        """Hear hints for the length of a block."""
        leases = self._leases
        return leases.hear(self._hear) if isinstance(leases, HintingLeases) else nullcontext()

    async def follow(self, claim: Callable[[], Awaitable[bool]]) -> bool:
        """Claim flows, soon if there was a hint; return what `claim` does: whether there are any.

        Raises what `claim` raises.
        """
        is_hinted, self._is_hinted, self._has_left = self._is_hinted, False, False
        if is_hinted and self._misses:
            longest = min(FIRST_DELAY * 2**self._misses, LONGEST_DELAY)
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311  # no secret
        self._claim_began = time.monotonic()
        is_found = await claim()
        self._misses = 0 if is_found else min(self._misses + is_hinted, MOST_MISSES)
        return is_found

    async def rest(self) -> None:
        """Wait until a flow may be due, after a claim that has found none.

        While hints are heard, hardly a claim is made in vain: the worker asks when the next flow is
        due. It claims now and then all the same, and looks before that for what it may serve.
        """
        claim_at = time.monotonic() + LONGEST_REST
        seconds, is_to_claim = await self.next_look(has_claimed=True)
        while not await self._is_woken_within(seconds) and not (is_to_claim or self._has_left):
            if time.monotonic() > claim_at:
                break
            seconds, is_to_claim = await self.next_look(has_claimed=False)

    async def next_look(self, *, has_claimed: bool) -> tuple[float, bool]:
        """Return in how many seconds to look for due flows without a hint, and whether by a claim.

        A flow that is due although the last claim `has_claimed` none is locked by another
        transaction, or has become due since.
        """
        often = self._often()
        leases = self._listening()
        if leases is None:
            # it counts from the beginning of the last claim, unless claims take most of it
            return often - min(time.monotonic() - self._claim_began, often / 2), True
        # no rest is longer than a lease, so that it is known before it ends
        seldom = min(SELDOM * often, max(often, self._lease_seconds))
        try:
            due_in = await leases.next_due(self._definitions, timedelta(seconds=seldom))
        except ChemPersistenceError:  # the claim reports it
            return often, True
        if self._listening() is None:  # by now
            return often, True
        if due_in is None:
            return seldom, False
        if due_in <= timedelta(0):
            return often if has_claimed else 0.0, True
        self._is_hinted = True  # other workers will ask at the same time
        return due_in.total_seconds() + LATE_SECONDS, True

    def _listening(self) -> ListeningLeases | None:
        """Return the leases if it is enough to ask them when the next flow is due."""
        leases = self._leases
        if isinstance(leases, ListeningLeases) and leases.hears and not self._has_left:
            return leases
        return None

    async def _is_woken_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as self._resting:
                await self._woken.wait()
        self._resting = None
        return self._woken.is_set()

    def leave(self) -> None:
        """Note that a flow of this worker was released, and may be due in a while."""
        self._has_left = True
        if self._resting is not None:
            soon = asyncio.get_running_loop().time() + self._often()
            if soon < (self._resting.when() or 0.0):
                self._resting.reschedule(soon)

    def _often(self) -> float:
        return self._poll_interval * random.uniform(*SPREAD)  # noqa: S311  # no secret

    def _hear(self, definition: str) -> None:
        if definition == ANY_DEFINITION or definition in self._heard:
            self._is_hinted = True
            self._woken.set()

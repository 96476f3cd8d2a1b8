"""The calls of a worker to the parents of children that have ended.

A parent with thousands of children is not woken by each of them: the first that ends calls it at
once, those that follow soon after share a call. The more children of a parent have ended here, the
longer the next call waits, since each one makes a worker look at all of the children.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from uuid import UUID

import msgspec

from chem_persistence.errors import ChemPersistenceError
from chem_persistence.store.leasing.hints import ANY_DEFINITION
from chem_persistence.store.leasing.leases import HintingLeases, Leases

__all__ = ["ParentCalls"]

SECONDS_PER_CHILD, LONGEST_SECONDS = 0.002, 0.5
"""The pause after a call, for each child of the parent that has ended here, and at most."""

_logger = logging.getLogger("chem_persistence.worker")


class _Parent(msgspec.Struct):
    ended: int = 0
    not_before: float = 0.0
    is_to_be_called: bool = False
    is_served: bool = True


class ParentCalls:
    """Calls flows whose children have ended, and then `wake`, since they are due.

    Other workers get a hint as well, unless this one `has_room` for the parents and serves them.
    """

    def __init__(
        self, leases: Leases, wake: Callable[[], None], has_room: Callable[[], bool]
    ) -> None:
        self._leases = leases
        self._wake = wake
        self._has_room = has_room
        self._parents: dict[UUID, _Parent] = {}
        self._calling: asyncio.Task[None] | None = None

    def child_ended(self, parent: UUID, *, is_served: bool) -> None:
        """Have a parent called, soon; `is_served` is whether this worker runs such parents."""
        known = self._parents.setdefault(parent, _Parent())
        known.ended += 1
        known.is_served = is_served
        known.is_to_be_called = True
        if self._calling is None or self._calling.done():
            self._calling = asyncio.create_task(self._call_in_turn())

    async def end(self) -> None:
        """Call all parents that are to be called, without a pause."""
        calling, self._calling = self._calling, None
        if calling is not None:
            calling.cancel()
            await asyncio.wait([calling])
        self._has_room = lambda: False  # it claims no more
        await self._call([key for key, each in self._parents.items() if each.is_to_be_called])

    async def _call_in_turn(self) -> None:
        """Call parents until none is to be called any more."""
        now = asyncio.get_running_loop().time
        while True:
            wanted = {key: each for key, each in self._parents.items() if each.is_to_be_called}
            if not wanted:
                self._parents = {k: p for k, p in self._parents.items() if p.not_before > now()}
                return
            ready = [key for key, each in wanted.items() if each.not_before <= now()]
            if ready:
                await self._call(ready)
            else:
                first = min(each.not_before for each in wanted.values())
                await asyncio.sleep(first - now())

    async def _call(self, parents: list[UUID]) -> None:
        """Call some parents at once; one that cannot be called now looks by itself, later."""
        if not parents:
            return
        for parent in parents:
            known = self._parents[parent]
            pause = min(SECONDS_PER_CHILD * known.ended, LONGEST_SECONDS)
            known.is_to_be_called = False
            known.not_before = asyncio.get_running_loop().time() + pause
        try:
            called = await self._leases.call(parents)
        except ChemPersistenceError as error:
            _logger.info("%d parents were not called: %s", len(parents), type(error).__name__)
            return
        if called:
            self._wake()
            await self._hint(called)

    async def _hint(self, called: Iterable[UUID]) -> None:
        """Send other workers a hint, unless this one will run the parents."""
        is_served = all(self._parents[parent].is_served for parent in called)
        if isinstance(self._leases, HintingLeases) and not (is_served and self._has_room()):
            await self._leases.hint([ANY_DEFINITION])

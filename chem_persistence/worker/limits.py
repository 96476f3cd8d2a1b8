"""The resources of a process that steps share, such as cores or the memory of a graphics card."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from chem_persistence.engine.steps.step import Step
from chem_persistence.errors import InvalidArgument

__all__ = ["Limits"]


class Limits:
    """How much of each resource the steps of this process may use at once.

    A step waits until all that it uses is free, and takes it at once. Steps are served in the order
    in which they came, so that one that needs much is not overtaken for ever.

    Raises:
        InvalidArgument: a limit is less than 1.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        for name, limit in limits.items():
            if limit < 1:
                raise InvalidArgument("limits", f"{name!r} must be at least 1, not {limit}")
        self._limits = dict(limits)
        self._free = dict(limits)
        self._waiting: deque[tuple[Mapping[str, int], asyncio.Future[None]]] = deque()

    def check(self, steps: Iterable[Step[Any, Any]]) -> None:
        """Check that each step can ever have what it uses.

        Raises:
            InvalidArgument: a step uses more of a resource than there is, or less than 1.
        """
        for step in steps:
            for name, used in step.uses.items():
                limit = self._limits.get(name)
                if used < 1 or (limit is not None and used > limit):
                    raise InvalidArgument(
                        "limits", f"step {step.id!r} uses {used} of {name!r}, the limit is {limit}"
                    )

    def around(self, step: Step[Any, Any]) -> AbstractAsyncContextManager[None]:
        """Take what a step uses for the length of a block; wait until it is free."""
        wanted = {name: used for name, used in step.uses.items() if name in self._limits}
        return self._taken(wanted) if wanted else nullcontext()

    @asynccontextmanager
    async def _taken(self, wanted: Mapping[str, int]) -> AsyncIterator[None]:
        await self._take(wanted)
        try:
            yield
        finally:
            self._give_back(wanted)

    async def _take(self, wanted: Mapping[str, int]) -> None:
        granted = asyncio.get_running_loop().create_future()
        waiting = (wanted, granted)
        self._waiting.append(waiting)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():  # in the moment of the cancellation
                self._give_back(wanted)
            else:
                self._waiting.remove(waiting)
                self._grant()
            raise

    def _give_back(self, taken: Mapping[str, int]) -> None:
        for name, used in taken.items():
            self._free[name] += used
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            wanted, granted = self._waiting[0]
            if any(used > self._free[name] for name, used in wanted.items()):
                return
            self._waiting.popleft()
            for name, used in wanted.items():
                self._free[name] -= used
            granted.set_result(None)

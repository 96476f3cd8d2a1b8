"""Backpressure: how much may wait at once."""

import asyncio
from collections import deque

from chem_persistence.errors import StoreUnavailable
from chem_persistence.telemetry.gauges import watch_queue

__all__ = ["Room"]


class Room:
    """Has room for so many appends and so many bytes; who comes later waits, first come, first served.

    One that is larger than the whole room goes in when the room is empty.
    """

    def __init__(self, appends: int, size: int) -> None:
        self._appends = appends
        self._size = size
        self._appends_inside = 0
        self._size_inside = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        watch_queue(self)

    @property
    def inside(self) -> int:
        """How many appends have room."""
        return self._appends_inside

    @property
    def outside(self) -> int:
        """How many wait for it."""
        return len(self._waiting)

    async def enter(self, size: int, seconds: float) -> None:
        """Take room for an append of `size` bytes; give it back with `leave`.

        Raises:
            StoreUnavailable: there was none for `seconds`.
        """
        if not self._waiting and self._fits(size):
            self._take(size)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (turn, size)
        self._waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave(size)
            elif place in self._waiting:
                self._waiting.remove(place)
                self._let_in()
            if isinstance(error, TimeoutError):
                reason = f"overloaded: {self._appends_inside} appends wait, and none was done for {seconds} s"
                raise StoreUnavailable(reason) from None
            raise

    def leave(self, size: int) -> None:
        """Give the room of an append back."""
        self._appends_inside -= 1
        self._size_inside -= size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            turn, size = self._waiting.popleft()
            if not turn.done():
                self._take(size)
                turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._appends_inside == 0 or (
            self._appends_inside < self._appends and self._size_inside + size <= self._size
        )

    def _take(self, size: int) -> None:
        self._appends_inside += 1
        self._size_inside += size

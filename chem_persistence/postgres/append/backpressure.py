"""Backpressure: how much may wait at once."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, TypeVar

import anyio

from chem_persistence.errors import StoreClosed, StoreUnavailable
from chem_persistence.telemetry.gauges import watch_queue

__all__ = ["InFlight", "Room"]


class _Sized(Protocol):
    """What takes room."""

    def size(self) -> int:
        """Give its bytes."""


Guest = TypeVar("Guest", bound=_Sized)


class Room:
    """Has room for so many appends and so many bytes; who comes later waits, first come, first served.

    One that is larger than the whole room goes in when the room is empty. Of those outside only the first is made
    yet: so however many wait, and however large they are, they take no more than the room and one.
    """

    def __init__(self, appends: int, size: int) -> None:
        self._appends = appends
        self._size = size
        self._appends_inside = 0
        self._size_inside = 0
        self._outside = 0
        self._door = asyncio.Lock()
        self._left: asyncio.Future[None] | None = None  # for which the first one outside waits
        watch_queue(self)

    @property
    def inside(self) -> int:
        """How many appends have room."""
        return self._appends_inside

    @property
    def outside(self) -> int:
        """How many wait for it."""
        return self._outside

    async def enter(self, make: Callable[[], Guest], seconds: float) -> tuple[Guest, int]:
        """Take room for an append that is made when its turn comes; give its size back with `leave`.

        Raises:
            StoreUnavailable: there was none for `seconds`.
        """
        if self._outside == 0:
            guest = make()
            size = guest.size()
            if self._fits(size):
                self._take(size)
                return guest, size
            del guest
        self._outside += 1
        try:
            async with asyncio.timeout(seconds), self._door:
                return await self._first_in(make)
        except TimeoutError:
            reason = f"overloaded: {self._appends_inside} appends wait, and none was done for {seconds} s"
            raise StoreUnavailable(reason) from None
        finally:
            self._outside -= 1

    async def _first_in(self, make: Callable[[], Guest]) -> tuple[Guest, int]:
        guest = make()
        size = guest.size()
        while not self._fits(size):
            self._left = asyncio.get_running_loop().create_future()
            await self._left
        self._take(size)
        return guest, size

    def leave(self, size: int) -> None:
        """Give the room of an append back."""
        self._appends_inside -= 1
        self._size_inside -= size
        if self._left is not None and not self._left.done():
            self._left.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._appends_inside == 0 or (
            self._appends_inside < self._appends and self._size_inside + size <= self._size
        )

    def _take(self, size: int) -> None:
        self._appends_inside += 1
        self._size_inside += size


class InFlight:
    """Counts the blocks it is entered for; once closed it lets nobody in."""

    def __init__(self) -> None:
        self.count = 0
        self._closed = False
        self._idle = anyio.Event()

    def __enter__(self) -> None:
        if self._closed:
            raise StoreClosed("the store is closed")
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.count -= 1
        if self._closed and self.count == 0:
            self._idle.set()

    async def close(self) -> None:
        """Let nobody in any more, and wait for those inside."""
        self._closed = True
        if self.count > 0:
            await self._idle.wait()

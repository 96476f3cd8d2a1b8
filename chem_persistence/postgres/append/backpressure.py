"""Backpressure: a bound on the appends, and on their bytes, that a store holds at once."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import anyio

from chem_persistence.errors import StoreClosed, StoreUnavailable
from chem_persistence.telemetry.gauges import watch_queue

__all__ = ["Backpressure", "OpenCalls", "Turn"]


class Backpressure:
    """Admits at most `max_appends` appends with `max_bytes` bytes together; others wait, in order.

    An append larger than `max_bytes` is admitted when no other is. Of those that wait only the
    first is encoded, so memory holds what is admitted and one append more, however many wait.
    """

    def __init__(self, max_appends: int, max_bytes: int, timeout: float) -> None:
        self._max_appends = max_appends
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._admitted = 0
        self._admitted_bytes = 0
        self._waiting = 0
        self._turn = asyncio.Lock()  # of the append that is being encoded, until it is admitted
        self._left: asyncio.Future[None] | None = None  # awaited by the append whose turn it is
        watch_queue(self)

    @property
    def inside(self) -> int:
        """The number of appends that are admitted."""
        return self._admitted

    @property
    def outside(self) -> int:
        """The number of appends that wait to be admitted."""
        return self._waiting

    @property
    def is_busy(self) -> bool:
        """Whether an append waits or is being encoded, so that the next one has to wait."""
        return self._waiting > 0 or self._turn.locked()

    def admit_at_once(self, size: int) -> bool:
        """Admit an append of `size` bytes if it fits; ask only if not `is_busy`."""
        admitted, with_it = self._admitted, self._admitted_bytes + size
        if admitted and (admitted >= self._max_appends or with_it > self._max_bytes):
            return False
        self._admitted = admitted + 1
        self._admitted_bytes = with_it
        return True

    def turn(self) -> "Turn":
        """Return a block that waits at its beginning until the caller may encode its append."""
        return Turn(self)

    def leave(self, size: int) -> None:
        """End the admission of an append of `size` bytes."""
        self._admitted -= 1
        self._admitted_bytes -= size
        if self._left is not None and not self._left.done():
            self._left.set_result(None)

    async def _begin(self, turn: "Turn") -> None:
        if self.is_busy:
            await self._wait(turn, self._turn.acquire())
        else:
            await self._turn.acquire()

    async def _admit(self, turn: "Turn", size: int) -> None:
        if not self.admit_at_once(size):
            await self._wait(turn, self._until_admitted(size))

    def _end(self) -> None:
        self._turn.release()

    async def _wait(self, turn: "Turn", event: Coroutine[Any, Any, object]) -> None:
        """Wait for an event until the append's deadline, which is set at its first wait."""
        if turn.deadline is None:
            turn.deadline = asyncio.get_running_loop().time() + self._timeout
        self._waiting += 1
        try:
            async with asyncio.timeout_at(turn.deadline):
                await event
        except TimeoutError:
            raise StoreUnavailable(
                f"overloaded: {self._admitted} appends wait, and none was done within "
                f"{self._timeout} s; nothing of this append is stored: repeat it later"
            ) from None
        finally:
            self._waiting -= 1

    async def _until_admitted(self, size: int) -> None:
        while not self.admit_at_once(size):
            self._left = asyncio.get_running_loop().create_future()
            await self._left


class Turn:
    """The turn of one append, as a block: once it is entered, the caller may encode."""

    __slots__ = ("_backpressure", "deadline")

    def __init__(self, backpressure: Backpressure) -> None:
        self._backpressure = backpressure
        self.deadline: float | None = None

    async def __aenter__(self) -> Self:
        await self._backpressure._begin(self)  # noqa: SLF001  # they are one
        return self

    async def admit(self, size: int) -> None:
        """Wait until an append of `size` bytes is admitted; end that with `Backpressure.leave`.

        Raises:
            StoreUnavailable: if it was not within the timeout of the store.
        """
        await self._backpressure._admit(self, size)  # noqa: SLF001

    async def __aexit__(self, *_: object) -> None:
        self._backpressure._end()  # noqa: SLF001


class OpenCalls:
    """Counts the calls under way, and refuses new ones once it is closed."""

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
        """Close for new calls, and wait for those under way."""
        self._closed = True
        if self.count > 0:
            await self._idle.wait()

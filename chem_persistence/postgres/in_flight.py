"""What is under way, so that a store can be closed without losing it."""

from types import TracebackType

import anyio

from chem_persistence.errors import StoreClosed

__all__ = ["InFlight"]


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
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.count -= 1
        if self._closed and self.count == 0:
            self._idle.set()

    async def close(self) -> None:
        """Let nobody in any more, and wait for those inside."""
        self._closed = True
        if self.count > 0:
            await self._idle.wait()

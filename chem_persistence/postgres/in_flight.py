"""What is under way, so that a store can be closed without losing it."""

from types import TracebackType

import anyio

from chem_persistence.errors import StoreClosed, StoreUnavailable

__all__ = ["InFlight"]


class InFlight:
    """Counts the blocks it is entered for; once closed it lets nobody in."""

    def __init__(self) -> None:
        self._count = 0
        self._closed = False
        self._idle = anyio.Event()

    def __enter__(self) -> None:
        if self._closed:
            raise StoreClosed("the store is closed")
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count -= 1
        if self._closed and self._count == 0:
            self._idle.set()

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109  # a deadline, not a cancellation
        """Let nobody in any more, and wait for those inside.

        Raises:
            StoreUnavailable: some are still inside after `timeout` seconds.
        """
        self._closed = True
        if self._count == 0:
            return
        with anyio.move_on_after(timeout):
            await self._idle.wait()
        if self._count > 0:
            raise StoreUnavailable(f"{self._count} appends were not done within {timeout} s")

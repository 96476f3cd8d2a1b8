"""The growth of the log, as the pages that are open learn of it."""

import asyncio
from collections.abc import AsyncIterator

from chem_persistence.errors import StoreError
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read.feed import find_feed_end

__all__ = ["Changes"]

SECONDS_BETWEEN_LOOKS = 1.0
LOOKS_WITHOUT_A_LINE = 15
"""After so many looks without a change a line is sent, by which a dead connection is noticed."""


class Changes:
    """Reads the end of the feed once a second while a page is open, once for all pages."""

    def __init__(self, provider: ConnectionProvider) -> None:
        self._provider = provider
        self._end = 0
        self._is_over = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._open = 0

    def end(self) -> None:
        """End all streams, so that the server can stop."""
        self._is_over = True
        self._wake()

    async def lines(self) -> AsyncIterator[str]:
        """Yield server-sent events (WHATWG HTML, 9.2): one when the log has grown, else comments.

        The server of a log that cannot be read, or is a standby, is asked again and again.
        """
        self._open += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield "retry: 2000\n\n"
            seen, quiet = self._end, 0
            while not self._is_over:
                await self._next_look()
                quiet, end = quiet + 1, self._end
                if end != seen:
                    yield f"event: grown\ndata: {end}\n\n"
                    seen, quiet = end, 0
                elif quiet >= LOOKS_WITHOUT_A_LINE:
                    yield ":\n\n"
                    quiet = 0
        finally:
            self._open -= 1
            if not self._open:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        while True:
            try:
                end = await find_feed_end(self._provider)
            except StoreError:
                end = self._end
            self._end = end
            self._wake()
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def _next_look(self) -> None:
        look: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(look)
        try:
            await look
        finally:
            self._waiting.discard(look)

    def _wake(self) -> None:
        for look in self._waiting:
            if not look.done():
                look.set_result(None)

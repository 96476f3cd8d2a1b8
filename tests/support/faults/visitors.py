"""A server on this machine that counts its visitors: where planted requests would arrive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Visitors", "counting_visitors"]


class Visitors:
    """`paths` are what was asked for, `url` is where."""

    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self._visits: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._over = False

    def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let a visit begin, unless all are over."""
        if self._over:
            writer.transport.abort()
        else:
            self._visits[writer] = asyncio.create_task(self._answer(reader, writer))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note the first line of a request and answer that there is nothing."""
        line = (await reader.readline()).decode(errors="replace").split()
        self.paths.append(line[1] if len(line) > 1 else "")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def end(self) -> None:
        """End all visits: a browser also opens connections ahead, and then has nothing to ask."""
        self._over = True
        for writer, visit in self._visits.items():
            visit.cancel()
            writer.transport.abort()
        await asyncio.gather(*self._visits.values(), return_exceptions=True)
        await asyncio.gather(
            *(writer.wait_closed() for writer in self._visits), return_exceptions=True
        )


@asynccontextmanager
async def counting_visitors() -> AsyncIterator[Visitors]:
    visitors = Visitors()
    async with await asyncio.start_server(visitors.welcome, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        visitors.url = f"http://{host}:{port}"
        try:
            yield visitors
        finally:
            server.close()
            await visitors.end()

"""A local server that counts requests: the target of requests that were planted in texts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Visitors", "counting_visitors"]


class Visitors:
    """Counts requests to `url`; `paths` are the paths that were requested."""

    def __init__(self) -> None:
        self.url = ""
        self.paths: list[str] = []
        self._visits: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._over = False

    def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection, unless the server has ended."""
        if self._over:
            writer.transport.abort()
        else:
            self._visits[writer] = asyncio.create_task(self._answer(reader, writer))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Record the first line of a request and answer with an empty response."""
        line = (await reader.readline()).decode(errors="replace").split()
        self.paths.append(line[1] if len(line) > 1 else "")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def end(self) -> None:
        """End all connections: a browser also opens some in advance and sends nothing on them."""
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

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

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note the first line of a request and answer that there is nothing."""
        line = (await reader.readline()).decode(errors="replace").split()
        self.paths.append(line[1] if len(line) > 1 else "")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def counting_visitors() -> AsyncIterator[Visitors]:
    visitors = Visitors()
    async with await asyncio.start_server(visitors.answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        visitors.url = f"http://{host}:{port}"
        yield visitors

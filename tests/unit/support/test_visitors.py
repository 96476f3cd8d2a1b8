"""The server that counts requests keeps no connection open."""

import asyncio
from urllib.parse import urlsplit

from tests.support.faults.visitors import counting_visitors


async def test_a_connection_without_a_request_is_closed_at_the_end() -> None:
    async with asyncio.timeout(30):
        async with counting_visitors() as visitors:
            address = urlsplit(visitors.url)
            silent, to_silent = await asyncio.open_connection(address.hostname, address.port)
            asking, to_asking = await asyncio.open_connection(address.hostname, address.port)
            to_asking.write(b"GET /path HTTP/1.1\r\n\r\n")
            assert (await asking.read()).startswith(b"HTTP/1.1 204 ")
        assert await silent.read() == b""
    assert visitors.paths == ["/path"]
    for writer in (to_silent, to_asking):
        writer.close()
        await writer.wait_closed()

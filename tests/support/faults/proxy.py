"""A proxy that parses PostgreSQL's message framing, to break a connection at a chosen message.

Format: PostgreSQL manual, "Message Formats". An armed fault strikes once, unless it is `always`. If
the server is verified over TLS, the proxy shows its clients that server's certificate and verifies
the server itself, so both sides are encrypted.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from tests.support.faults.tls_ends import tls_ends

__all__ = ["Fault", "Message", "Proxy", "Strike", "proxied"]

STARTUP = "startup"
CODES = {80877102: "cancel", 80877103: "ssl", 80877104: "gss"}
UNIX_SOCKET = ".s.PGSQL."


class Message(msgspec.Struct, frozen=True):
    """One protocol message: `data` is all of it, `type` its letter.

    The first message of a connection has no letter; there `type` is the kind of request.
    """

    from_client: bool
    type: str
    data: bytes


class Strike(Enum):
    """The effect of a fault at its message."""

    CUT_BEFORE = auto()  # both sides lose the connection; the message is lost
    CUT_AFTER = auto()  # the message is passed on, then both sides lose the connection
    SILENCE = (
        auto()
    )  # the message is passed on, and after it nothing, not even the end of the connection
    STALL = auto()  # the message, and all that follow it, wait for `release`
    SEVER = (
        auto()
    )  # the client loses the connection; what it had sent reaches the server after `release`


class Fault:
    """Strikes at the `nth` message that `matches`, counted over all connections since the arming.

    With `always` it also strikes at each one after it.
    """

    def __init__(
        self,
        strike: Strike,
        matches: Callable[[Message], bool] | None = None,
        *,
        nth: int = 1,
        always: bool = False,
    ) -> None:
        self.strike = strike
        self.struck = asyncio.Event()
        self.settled = asyncio.Event()
        """Set when the server has answered or closed a severed connection after its `release`."""
        self._matches = matches
        self._left = nth
        self._always = always
        self._released = asyncio.Event()

    def strikes(self, message: Message) -> bool:
        """Count the message and return whether the fault strikes at it."""
        if self._matches is not None and not self._matches(message):
            return False
        self._left -= 1
        if self._left == 0 or (self._left < 0 and self._always):
            self.struck.set()
            return True
        return False

    def release(self) -> None:
        """Pass on what is held back."""
        self._released.set()

    @property
    def released(self) -> bool:
        return self._released.is_set()

    async def until_released(self) -> None:
        await self._released.wait()


class Proxy:
    """Passes connections on to the server; clients connect to `url`."""

    def __init__(self, url: str) -> None:
        self._target = _address(url)
        self._given = url
        self.tls = tls_ends(url)
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: set[_Link] = set()
        self._fault: Fault | None = None
        self.url = ""
        self.connections = 0
        """How many connections clients have opened, without those that only cancel a query."""

    def arm(self, fault: Fault) -> Fault:
        """Make this the next fault; it replaces one that has not struck."""
        self._fault = fault
        return fault

    def lead_to(self, url: str) -> None:
        """Pass connections on to another server from now on, and end the present ones."""
        self._target = _address(url)
        for link in self._links:
            link.abort()

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = _readdressed(self._given, port)
        return server

    async def stop(self) -> None:
        for link in self._links:
            link.abort()
        await asyncio.gather(*self._tasks)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, EOFError):  # one side has closed, so close the other
            pass
        finally:
            if not writer.is_closing():
                _abort(writer)
            self._tasks.discard(task)

    async def _pass_on(self, reader: StreamReader, writer: StreamWriter) -> None:
        target = self._target
        link = _Link(self, reader, writer, *await _opened(target))
        if target != self._target:
            link.abort()
            return
        self._links.add(link)
        try:
            await link.run()
        finally:
            link.abort()
            self._links.discard(link)

    def meet(self, message: Message) -> Fault | None:
        """Return the fault that strikes at this message."""
        return self._fault if self._fault is not None and self._fault.strikes(message) else None


class _Link:
    """A client's connection and the connection to the server that belongs to it."""

    def __init__(
        self,
        proxy: Proxy,
        client_reader: StreamReader,
        client_writer: StreamWriter,
        server_reader: StreamReader,
        server_writer: StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client_reader, self._client_writer = client_reader, client_writer
        self._server_reader, self._server_writer = server_reader, server_writer
        self._severed_by: Fault | None = None

    async def run(self) -> None:
        first = await _read_first(self._client_reader)
        if first.type == "ssl":
            await self._encrypt(first)
            first = await _read_first(self._client_reader)
        if first.type != STARTUP:  # a cancel request: no session, and no fault strikes it
            self._server_writer.write(first.data)
            await self._server_reader.read()
            return
        self._proxy.connections += 1
        pumps = {
            asyncio.ensure_future(self._pump_client(first)),
            asyncio.ensure_future(self._pump_server()),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._severed_by is not None:
                self._severed_by.settled.set()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _encrypt(self, request: Message) -> None:
        """Answer the client's request for TLS, after requesting TLS from the server."""
        tls = self._proxy.tls
        assert tls is not None, "this proxy does not know how to verify the server"
        self._server_writer.write(request.data)
        assert await self._server_reader.readexactly(1) == b"S"
        await self._server_writer.start_tls(tls.towards_the_server(), server_hostname=tls.host)
        self._client_writer.write(b"S")
        await self._client_writer.start_tls(tls.towards_clients())

    async def _pump_client(self, message: Message) -> None:
        while not await self._struck(message, self._server_writer):
            message = await _read_message(self._client_reader, from_client=True)

    async def _pump_server(self) -> None:
        while True:
            message = await _read_message(self._server_reader, from_client=False)
            if self._severed_by is None:
                if await self._struck(message, self._client_writer):
                    return
            elif self._severed_by.released and message.type == "Z":
                return

    async def _struck(self, message: Message, onward: StreamWriter) -> bool:
        """Pass the message on, or apply a fault; return True when the connection is over."""
        fault = self._proxy.meet(message)
        if fault is not None:
            match fault.strike:
                case Strike.CUT_BEFORE:
                    return True
                case Strike.CUT_AFTER:
                    onward.write(message.data)
                    onward.close()
                    return True
                case Strike.SILENCE:
                    onward.write(message.data)
                    await fault.until_released()
                    return True
                case Strike.SEVER:
                    await self._sever(fault, message)
                    return True
                case Strike.STALL:
                    await fault.until_released()
        onward.write(message.data)
        await onward.drain()
        return False

    async def _sever(self, fault: Fault, message: Message) -> None:
        held = [message]
        while held[-1].type not in {"Q", "S", "H"}:  # the rest of what the client sent at once
            held.append(await _read_message(self._client_reader, from_client=True))
        self._severed_by = fault
        _abort(self._client_writer)
        await fault.until_released()
        self._server_writer.writelines(held_message.data for held_message in held)
        await fault.settled.wait()

    def abort(self) -> None:
        for writer in (self._client_writer, self._server_writer):
            if not writer.is_closing():
                _abort(writer)


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """Run a proxy in front of the server of `url`."""
    proxy = Proxy(url)
    server = await proxy.serve()
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()


async def _read_first(reader: StreamReader) -> Message:
    head = await reader.readexactly(8)
    rest = await reader.readexactly(int.from_bytes(head[:4]) - 8)
    return Message(True, CODES.get(int.from_bytes(head[4:]), STARTUP), head + rest)


async def _read_message(reader: StreamReader, *, from_client: bool) -> Message:
    head = await reader.readexactly(5)
    rest = await reader.readexactly(int.from_bytes(head[1:]) - 4)
    return Message(from_client, head[:1].decode("ascii"), head + rest)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    host = query.get("host") or parts.hostname or "localhost"
    return host, int(query.get("port") or parts.port or 5432)


async def _opened(target: tuple[str, int]) -> tuple[StreamReader, StreamWriter]:
    host, port = target
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/{UNIX_SOCKET}{port}")
    return await asyncio.open_connection(host, port)


def _readdressed(url: str, port: int) -> str:
    parts = urlsplit(url)
    userinfo, at, _ = parts.netloc.rpartition("@")
    query = [
        (name, value) for name, value in parse_qsl(parts.query) if name not in {"host", "port"}
    ]
    if tls_ends(url) is None:
        query = [
            *((name, value) for name, value in query if name != "sslmode"),
            ("sslmode", "disable"),
        ]
    return urlunsplit(
        parts._replace(netloc=f"{userinfo}{at}127.0.0.1:{port}", query=urlencode(query))
    )


def _abort(writer: StreamWriter) -> None:
    with suppress(RuntimeError):  # the loop may be closing
        writer.transport.abort()

"""The server of the explorer, in the event loop of the command that runs it."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from chem_persistence.errors import InvalidArgument

__all__ = ["bound_socket", "serve"]

SECONDS_TO_END = 1
"""How long requests may take when the server ends."""


class _Server(uvicorn.Server):
    """A server that leaves the signals to `serve`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signal."""
        yield


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; with the port 0 at any free one.

    Raises:
        InvalidArgument: the address is taken, or is none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InvalidArgument(
            "--host, --port", f"cannot listen at {host}:{port}: {error}"
        ) from error


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    *,
    on_ready: Callable[[], None],
    on_end: Callable[[], None],
) -> None:
    """Answer requests until SIGINT or SIGTERM.

    `on_ready` is called when the signals are handled, `on_end` when one has come: it ends the
    answers that would never end by themselves.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        http="h11",
        log_config=None,
        log_level="error",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_END,
        ws="none",
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.should_exit = True
        on_end()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    on_ready()
    try:
        await server.serve(sockets=[listening])
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

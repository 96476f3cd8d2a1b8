"""Options of a connection's TCP socket, and the bytes that have passed through it.

Sources: PostgreSQL 18 manual, section 34.1.2, `keepalives` to `tcp_user_timeout`; RFC 9293, section
3.8.4 (keepalive); RFC 5482 (user timeout); Linux manual page tcp(7).
"""

import socket
import struct
from typing import Any

import msgspec

__all__ = ["KeepAlive", "bytes_passed"]

_BYTES_ACKED, _BYTES_RECEIVED = 120, 128
"""The offsets of `tcpi_bytes_acked` and `tcpi_bytes_received` in Linux's struct tcp_info."""


class KeepAlive(msgspec.Struct, frozen=True):
    """When the kernel closes a connection whose peer no longer acknowledges, as libpq sets it.

    `idle`, `interval` (seconds), `count` and `user_timeout` (milliseconds) are the system's own
    values if they are 0. A Unix socket has none of these.
    """

    on: bool = True
    idle: int = 0
    interval: int = 0
    count: int = 0
    user_timeout: int = 0

    def apply(self, connected: Any) -> None:
        """Set the options on a connected socket; one that the platform lacks is left out."""
        if connected is None or connected.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        if self.on:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            _set(connected, ("TCP_KEEPIDLE", "TCP_KEEPALIVE"), self.idle)  # the second is macOS's
            _set(connected, ("TCP_KEEPINTVL",), self.interval)
            _set(connected, ("TCP_KEEPCNT",), self.count)
        _set(connected, ("TCP_USER_TIMEOUT",), self.user_timeout)


def bytes_passed(connected: Any) -> tuple[int, int] | None:
    """Return how many bytes the peer has acknowledged and sent; None where Linux cannot tell."""
    tcp_info = getattr(socket, "TCP_INFO", None)
    if tcp_info is None or connected is None:
        return None
    try:
        info = connected.getsockopt(socket.IPPROTO_TCP, tcp_info, 256)
        return (
            struct.unpack_from("=Q", info, _BYTES_ACKED)[0],
            struct.unpack_from("=Q", info, _BYTES_RECEIVED)[0],
        )
    except (OSError, ValueError, struct.error):  # a Unix socket, a closed one, an old kernel
        return None


def _set(connected: Any, names: tuple[str, ...], value: int) -> None:
    option = next((getattr(socket, name) for name in names if hasattr(socket, name)), None)
    if value > 0 and option is not None:
        connected.setsockopt(socket.IPPROTO_TCP, option, value)

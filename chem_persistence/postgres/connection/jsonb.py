"""JSONB values as the JSON bytes that the codec reads and writes, unparsed by the driver.

Format: one version byte, 1, then the JSON text (jsonb_send and jsonb_recv in the PostgreSQL
sources).
"""

import asyncpg

__all__ = ["pass_jsonb_as_bytes"]

_VERSION = b"\x01"


async def pass_jsonb_as_bytes(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Make the connection accept and return `jsonb` as UTF-8 JSON bytes."""
    await connection.set_type_codec(
        "jsonb", encoder=_encode, decoder=_decode, schema="pg_catalog", format="binary"
    )


def _encode(value: bytes) -> bytes:
    return _VERSION + value


def _decode(value: bytes) -> bytes:
    return bytes(value[1:])

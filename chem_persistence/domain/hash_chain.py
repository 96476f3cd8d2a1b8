"""The hash chain of a flow: each event carries a link that depends on every event before it.

A link is SHA-256 (FIPS 180-4) over the link before it, 32 bytes, followed by the canonical JSON (RFC 8785) of
{event_id, flow_id, metadata, payload, ts, version}; `ts` is UTC with six digits of a second. The first event
follows 32 zero bytes. Whoever changes an event has to change every later link, and cannot change those that an
auditor has written down.
"""

import hashlib
from datetime import UTC, datetime
from uuid import UUID

import msgspec

__all__ = ["GENESIS", "ChainLink", "chain_link"]

GENESIS = bytes(32)
"""What the first event of a flow follows."""

_json = msgspec.json.Encoder().encode


class ChainLink(msgspec.Struct, frozen=True, gc=False):
    """What is hashed of an event, canonical JSON, and its link, 32 bytes."""

    content: bytes
    hash: bytes


def chain_link(
    previous: bytes,
    *,
    flow_id: UUID,
    version: int,
    event_id: UUID,
    ts: datetime,
    payload: bytes,
    metadata: bytes,
) -> ChainLink:
    """Chain an event to the link before it; `payload` and `metadata` are canonical JSON already."""
    content = b'{"event_id":%b,"flow_id":%b,"metadata":%b,"payload":%b,"ts":%b,"version":%d}' % (
        _json(event_id),
        _json(flow_id),
        metadata,
        payload,
        _time(ts if ts.tzinfo is UTC else ts.astimezone(UTC)),
        version,
    )
    return ChainLink(content, hashlib.sha256(previous + content).digest())


def _time(ts: datetime) -> bytes:
    """Write a time in UTC with all six digits, of which msgspec leaves out those of a whole second."""
    return (
        _json(ts)
        if ts.microsecond
        else _json(ts.isoformat(timespec="microseconds").replace("+00:00", "Z"))
    )

"""The hash chain of a flow: each event carries a link that depends on every event before it.

A link is SHA-256 (FIPS 180-4) over the link before it, 32 bytes, followed by the canonical JSON
(RFC 8785) of {event_id, flow_id, metadata, payload, ts, version}; `ts` is UTC with
six decimals of the second. The link before the first event is 32 zero bytes. To change an event
unnoticed, every later link has to be changed too, and every copy of one that is kept elsewhere
(an anchor).
"""

import hashlib
from datetime import UTC, datetime
from uuid import UUID

import msgspec

__all__ = ["GENESIS", "ChainLink", "chain_link"]

GENESIS = bytes(32)
"""The 32 zero bytes that stand for the link before the first event of a flow."""

_json = msgspec.json.Encoder().encode


class ChainLink(msgspec.Struct, frozen=True, gc=False):
    """`content` is the canonical JSON of an event; `hash` is the event's link, 32 bytes."""

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
    """Return the link of the event that follows the link `previous`.

    `payload` and `metadata` are canonical JSON, as stored.
    """
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
    """Encode a UTC time with six decimals of the second, which msgspec omits if all are zero."""
    return (
        _json(ts)
        if ts.microsecond
        else _json(ts.isoformat(timespec="microseconds").replace("+00:00", "Z"))
    )

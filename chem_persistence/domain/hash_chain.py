"""The hash chain of a flow: each event carries a link that depends on every event before it.

A link is SHA-256 (FIPS 180-4) over the link before it, 32 bytes, followed by the canonical JSON
(RFC 8785) of {event_id, flow_id, metadata, payload, ts, version}; `ts` is UTC with six digits of a
second. The first event follows 32 zero bytes. To change an event without a trace, every later link
has to be changed too, also those that an auditor has written down elsewhere.
"""

import hashlib
from datetime import UTC, datetime
from uuid import UUID

import msgspec

__all__ = ["GENESIS", "ChainLink", "chain_link"]

GENESIS = bytes(32)
"""The link before the first event of a flow."""

_json = msgspec.json.Encoder().encode


class ChainLink(msgspec.Struct, frozen=True, gc=False):
    """The canonical JSON that is hashed of an event, and the event's link, 32 bytes."""

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
    """Return the link of an event after `previous`; `payload` and `metadata` are canonical JSON."""
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
    """Encode a UTC time with six digits of a second; msgspec omits them if all are zero."""
    return (
        _json(ts)
        if ts.microsecond
        else _json(ts.isoformat(timespec="microseconds").replace("+00:00", "Z"))
    )

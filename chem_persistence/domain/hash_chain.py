"""The hash chain of a flow: each event carries a link that depends on every event before it.

A link is SHA-256 (FIPS 180-4) over the link before it, 32 bytes, followed by the canonical JSON
(RFC 8785) of {event_id, flow_id, metadata, payload, ts, version}; `ts` is UTC with
six decimals of the second. The link before the first event is 32 zero bytes. To change an event
unnoticed, every later link has to be changed too, and every copy of one that is kept elsewhere
(an anchor).
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import msgspec

__all__ = ["GENESIS", "ChainLink", "chain_link", "chain_links"]

GENESIS = bytes(32)
"""The 32 zero bytes that stand for the link before the first event of a flow."""

_CONTENT = b'{"event_id":%b,"flow_id":%b,"metadata":%b,"payload":%b,"ts":%b,"version":%d}'

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
    (link,) = chain_links(
        previous,
        flow_id=flow_id,
        version=version,
        event_ids=(event_id,),
        ts=ts,
        payloads=(payload,),
        first_metadata=metadata,
        metadata=metadata,
    )
    return link


def chain_links(
    previous: bytes,
    *,
    flow_id: UUID,
    version: int,
    event_ids: Iterable[UUID],
    ts: datetime,
    payloads: Iterable[bytes],
    first_metadata: bytes,
    metadata: bytes,
) -> list[ChainLink]:
    """Return the links of events of one time that follow the link `previous`, from `version` on.

    All but the first have the same `metadata`. These and `payloads` are canonical JSON, as stored.
    """
    flow, time = _json(flow_id), _time(ts if ts.tzinfo is UTC else ts.astimezone(UTC))
    own = first_metadata
    links: list[ChainLink] = []
    for event_id, payload in zip(event_ids, payloads, strict=True):
        content = _CONTENT % (_json(event_id), flow, own, payload, time, version)
        previous = sha256(previous + content).digest()
        links.append(ChainLink(content, previous))
        version += 1
        own = metadata
    return links


def _time(ts: datetime) -> bytes:
    """Encode a UTC time with six decimals of the second, which msgspec omits if all are zero."""
    return (
        _json(ts)
        if ts.microsecond
        else _json(ts.isoformat(timespec="microseconds").replace("+00:00", "Z"))
    )

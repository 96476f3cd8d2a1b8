"""The limits of every store, and the checks of arguments that need no store."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chem_persistence.errors import InvalidArgument, InvalidPayload
from chem_persistence.store.feed_position import FeedPosition

__all__ = [
    "LARGE_BYTES",
    "MAX_APPEND_BYTES",
    "MAX_ARTIFACT_BYTES",
    "MAX_EVENT_BYTES",
    "MAX_JSON_ITEMS",
    "MAX_JSON_MEMBERS",
    "MAX_VERSION",
    "MAX_WAITING",
    "MAX_WAITING_BYTES",
    "MOST_JSONB_GROWTH",
    "check_containers",
    "check_countable",
    "check_flow_id",
    "check_json_size",
    "check_not_negative",
    "check_poll_interval",
    "check_position",
    "in_utc",
    "jsonb_size",
]

MAX_EVENT_BYTES = 16 * 2**20
"""An event's payload, and its metadata, may have this many bytes of canonical JSON (16 MiB)."""

MAX_JSONB_BYTES = 2 * MAX_EVENT_BYTES
"""An event's payload, and its metadata, may have this many bytes as JSONB writes them (32 MiB).

JSONB has no exponents: it writes 1e-300 with 302 characters. Spaces alone never double a size.
"""

MOST_JSONB_GROWTH = 64
"""JSONB writes a canonical form with fewer than this many times its bytes (`5e-324,`: 47 times)."""

LARGE_BYTES = 2**20
"""A payload is large above this many bytes, as canonical JSON or as JSONB writes it (1 MiB).

A large payload is stored as its canonical bytes, and encoded and decoded in worker threads.
"""

MAX_VERSION = 2**31 - 1
"""The last version that a flow can have: the database keeps versions in 32 bits."""

MAX_ARTIFACT_BYTES = 64 * 2**20
"""An artifact may have this many bytes, unless the store is given another limit (64 MiB).

PostgreSQL itself stops at 1 GiB a field, and JSONB at 256 MiB a string.
"""

MAX_APPEND_BYTES = 256 * 2**20
"""The events and artifacts of one append may have this many bytes together (256 MiB).

The largest artifact and its event always fit, also if together they have more. PostgreSQL's limit
for one message, and for one row, is 1 GiB.
"""

MAX_JSON_ITEMS, MAX_JSON_MEMBERS = 2**24, 2**23
"""The number of items of a JSON array, and of members of an object, that are accepted.

JSONB builds them in memory, where PostgreSQL allocates at most 1 GiB at once.
"""

MAX_WAITING = 10_000
"""The number of appends that may wait in a store at once, unless it is given another limit."""

MAX_WAITING_BYTES = 64 * 2**20
"""The bytes of JSON and content that waiting appends may have together (64 MiB)."""


_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_EXPONENT = re.compile(rb"[0-9]e[+-]([0-9]+)")


def jsonb_size(encoded: bytes) -> int:
    """Return the bytes that JSONB writes for canonical JSON: at most 20 too many a number."""
    size = len(encoded) + encoded.count(b",") + encoded.count(b":")
    if encoded.count(b"e-") == encoded.count(b"e+") == 0:
        return size
    return size + sum(map(int, _EXPONENT.findall(_TEXT.sub(b"", encoded))))


def check_json_size(what: str, encoded: bytes) -> None:
    """Check that an event's JSON, or metadata, is small enough to be stored and read as JSONB.

    `what` names it in the message, such as "the event".

    Raises:
        InvalidPayload: its canonical form, or what JSONB makes of it, is too large.
    """
    if len(encoded) > MAX_EVENT_BYTES:
        raise InvalidPayload(
            "$", f"{what} has {len(encoded)} bytes, the limit is {MAX_EVENT_BYTES}"
        )
    if (
        len(encoded) * MOST_JSONB_GROWTH > MAX_JSONB_BYTES
        and (size := jsonb_size(encoded)) > MAX_JSONB_BYTES
    ):
        raise InvalidPayload(
            "$",
            f"{what} has {size} bytes as JSONB, which writes numbers without exponents (1e-300 "
            f"has 302 characters), the limit is {MAX_JSONB_BYTES}: store the numbers as an "
            "artifact, which has no such limit",
        )


def check_flow_id(flow_id: UUID) -> None:
    """Check that a value can name a flow.

    Raises:
        InvalidArgument: it is not a UUID, or it is the nil UUID (RFC 9562, section 5.9).
    """
    if not isinstance(flow_id, UUID):
        raise InvalidArgument("flow_id", f"must be a UUID, not {type(flow_id).__qualname__}")
    if flow_id.int == 0:
        raise InvalidArgument("flow_id", "must not be the nil UUID")


def check_countable(**arguments: int) -> None:
    """Check that the given numbers can count rows: 0 to 2^63 - 1.

    Raises:
        InvalidArgument: one is out of that range.
    """
    for name, number in arguments.items():
        if not 0 <= number < 2**63:
            raise InvalidArgument(name, "must not be negative, nor more than 64 bits can count")


def check_not_negative(**arguments: float | None) -> None:
    """Check that the given numbers are not negative; None is allowed.

    Raises:
        InvalidArgument: one is negative.
    """
    for name, number in arguments.items():
        if number is not None and number < 0:
            raise InvalidArgument(name, "must not be negative")


def check_position(after_seq: object) -> None:
    """Check that a value can say where a subscriber of the feed is.

    Raises:
        InvalidArgument: it is neither a `FeedPosition` nor a number in the range of a `seq`.
    """
    if isinstance(after_seq, FeedPosition):
        return
    if not isinstance(after_seq, int):
        what = type(after_seq).__qualname__
        raise InvalidArgument("after_seq", f"must be a number or a FeedPosition, not {what}")
    check_countable(after_seq=after_seq)


def check_poll_interval(seconds: float) -> None:
    """Check that an interval of polling is above 0.

    Raises:
        InvalidArgument: it is not above 0, or it is NaN.
    """
    if not seconds > 0:
        raise InvalidArgument("poll_interval", "must be above 0")


def check_containers(payload: Any) -> None:
    """Check that JSONB can hold every array and object of a payload.

    Raises:
        InvalidPayload: if one has too many values.
    """
    waiting = [payload]
    while waiting:
        value = waiting.pop()
        if len(value) > (MAX_JSON_MEMBERS if isinstance(value, dict) else MAX_JSON_ITEMS):
            raise InvalidPayload(
                "$", f"has {len(value)} values in one {type(value).__name__}, more than JSONB holds"
            )
        items = value.values() if isinstance(value, dict) else value
        waiting += [item for item in items if isinstance(item, dict | list)]


def in_utc(ts: object) -> datetime:
    """Return a clock's time in UTC.

    Raises:
        InvalidArgument: if it is no datetime with a time zone, or beyond datetime's range in UTC.
    """
    if not isinstance(ts, datetime):
        raise InvalidArgument("clock", f"returned a {type(ts).__name__}, not a datetime")
    if ts.utcoffset() is None:
        raise InvalidArgument("clock", "returned a datetime without a time zone")
    try:
        return ts.astimezone(UTC)
    except OverflowError as error:
        raise InvalidArgument(
            "clock", "returned a time that is beyond datetime's range in UTC"
        ) from error

"""What every store refuses before it looks at anything."""

from uuid import UUID

from chem_persistence.errors import InvalidArgument

__all__ = [
    "MAX_APPEND_BYTES",
    "MAX_ARTIFACT_BYTES",
    "MAX_EVENT_BYTES",
    "MAX_JSON_ITEMS",
    "MAX_JSON_MEMBERS",
    "MAX_VERSION",
    "MAX_WAITING",
    "MAX_WAITING_BYTES",
    "check_countable",
    "check_flow_id",
    "check_not_negative",
    "check_poll_interval",
]


def check_flow_id(flow_id: UUID) -> None:
    """Refuse what cannot name a flow.

    Raises:
        InvalidArgument: it is no UUID, or the nil UUID (RFC 9562, section 5.9).
    """
    if not isinstance(flow_id, UUID):
        raise InvalidArgument("flow_id", f"must be a UUID, not {type(flow_id).__qualname__}")
    if flow_id.int == 0:
        raise InvalidArgument("flow_id", "must not be the nil UUID")


def check_countable(**arguments: int) -> None:
    """Refuse what is no number of rows.

    Raises:
        InvalidArgument: one is below 0, or more than 64 bits can count.
    """
    for name, number in arguments.items():
        if not 0 <= number < 2**63:
            raise InvalidArgument(name, "must not be negative, nor more than 64 bits can count")


def check_not_negative(**arguments: float | None) -> None:
    """Refuse numbers below 0; None is none.

    Raises:
        InvalidArgument: one is.
    """
    for name, number in arguments.items():
        if number is not None and number < 0:
            raise InvalidArgument(name, "must not be negative")


def check_poll_interval(seconds: float) -> None:
    """Refuse to look for news without a pause.

    Raises:
        InvalidArgument: it is not above 0, or NaN.
    """
    if not seconds > 0:
        raise InvalidArgument("poll_interval", "must be above 0")


MAX_EVENT_BYTES = 16 * 2**20
"""An event's payload, and its metadata, may have this many bytes of canonical JSON (16 MiB)."""

MAX_VERSION = 2**31 - 1
"""A flow's last possible version: the database keeps versions in 32 bits."""

MAX_ARTIFACT_BYTES = 64 * 2**20
"""An artifact may have this many bytes, unless the store is given another limit (64 MiB).

PostgreSQL itself ends at 1 GiB a field, and JSONB at 256 MiB a string.
"""

MAX_APPEND_BYTES = 256 * 2**20
"""The events and artifacts of one append may have this many bytes together, or as many as the largest artifact and its event (256 MiB).

They travel in one message, which PostgreSQL ends at 1 GiB.
"""

MAX_JSON_ITEMS, MAX_JSON_MEMBERS = 2**24, 2**23
"""So many items an array, and so many members an object of JSON may have: JSONB builds them in memory, in 1 GiB at most."""

MAX_WAITING = 10_000
"""So many appends may wait in a store at once, unless it is given another limit."""

MAX_WAITING_BYTES = 64 * 2**20
"""They may have this many bytes of JSON and content together (64 MiB)."""

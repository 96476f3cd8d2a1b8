"""How large what a store accepts may be."""

__all__ = [
    "MAX_APPEND_BYTES",
    "MAX_ARTIFACT_BYTES",
    "MAX_EVENT_BYTES",
    "MAX_JSON_ITEMS",
    "MAX_JSON_MEMBERS",
    "MAX_VERSION",
    "MAX_WAITING",
    "MAX_WAITING_BYTES",
]

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

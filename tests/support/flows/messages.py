"""The protocol messages of an append. Format: PostgreSQL manual, "Message Formats"."""

import struct
from collections.abc import Callable

from tests.support.faults.proxy import Message

__all__ = [
    "answers_an_append",
    "ends_a_statement",
    "executes",
    "gives_a_stored_event",
    "sends_an_append",
]

EVENTS = b'[{"event_id":'
"""The beginning of the JSON that is the first parameter of `append_events`."""

STORED_EVENT = (16, 4, 8)
"""The sizes of a flow id, a version and a seq; only `append_events` returns such rows."""


def executes(message: Message) -> bool:
    """Match the parameters of a statement (Bind), the first message of its execution."""
    return message.from_client and message.type == "B"


def ends_a_statement(message: Message) -> bool:
    """Match the end of a statement (Sync), at which the server commits it."""
    return message.from_client and message.type == "S"


def sends_an_append(message: Message) -> bool:
    """Match the parameters of an append."""
    if not executes(message):
        return False
    after_names = message.data.index(b"\0", message.data.index(b"\0", 5) + 1) + 1
    (formats,) = struct.unpack_from("!h", message.data, after_names)
    first = after_names + 2 + 2 * formats + 2 + 4
    return message.data[first : first + len(EVENTS)] == EVENTS


def gives_a_stored_event(message: Message) -> bool:
    """Match a row with a stored event; the server sends it when the append is committed."""
    if message.from_client or message.type != "D":
        return False
    (fields,) = struct.unpack_from("!h", message.data, 5)
    place, sizes = 7, []
    for _ in range(fields):
        (size,) = struct.unpack_from("!i", message.data, place)
        sizes.append(size)
        place += 4 + max(size, 0)
    return tuple(sizes) == STORED_EVENT


def answers_an_append() -> Callable[[Message], bool]:
    """Match the first answer to an append, on a server that has a single connection."""
    sent = False

    def answers(message: Message) -> bool:
        nonlocal sent
        if message.from_client:
            sent = sent or sends_an_append(message)
            return False
        answered, sent = sent, False
        return answered

    return answers

"""The protocol messages of an append. Format: PostgreSQL manual, "Message Formats"."""

import re
import struct
from collections.abc import Callable

from tests.support.faults.proxy import Message

__all__ = [
    "answers_an_append",
    "ends_a_statement",
    "ends_an_append",
    "executes",
    "gives_a_stored_event",
    "sends_an_append",
]

ROWS = struct.pack("!3i", 1, 0, 0)
"""The beginning of the first parameter of `append_rows`, an array whose type is not named."""

PARAMETERS_OF_ONE = 15
"""The number of the parameters of `append_one`; no other statement has so many."""

SEQS = re.compile(rb"\x00\x01....\x00\x00\x00\x01\x00\x00\x00[\0\1]\x00\x00\x00\x14", re.DOTALL)
"""A row of one column, an array of bigint; only `append_rows` returns such a row."""

SEQ = re.compile(rb"\x00\x01\x00\x00\x00\x08.{8}\Z", re.DOTALL)
"""A row of one column, a bigint, as `append_one` returns it; null has no bytes."""

_BEFORE_ELEMENTS = 2 + 4 + 20
_NULL = struct.pack("!i", -1)


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
    after_formats = after_names + 2 + 2 * formats
    (parameters,) = struct.unpack_from("!h", message.data, after_formats)
    first = after_formats + 2 + 4
    return parameters == PARAMETERS_OF_ONE or message.data[first : first + len(ROWS)] == ROWS


def ends_an_append() -> Callable[[Message], bool]:
    """Match the end of the first append, at which the server commits it."""
    sent = False

    def ends(message: Message) -> bool:
        nonlocal sent
        sent = sent or sends_an_append(message)
        return sent and ends_a_statement(message)

    return ends


def gives_a_stored_event(message: Message) -> bool:
    """Match a row with a stored event; the server sends it when the append is committed."""
    if message.from_client or message.type != "D":
        return False
    if SEQ.match(message.data, 5):
        return True
    if not SEQS.match(message.data, 5):
        return False
    elements = message.data[5 + _BEFORE_ELEMENTS :]
    return elements.count(_NULL) * len(_NULL) < len(elements)


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

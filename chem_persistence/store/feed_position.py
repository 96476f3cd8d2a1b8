"""Positions in the feed that can be checked: what a subscriber has seen, and not only how far.

A `seq` alone does not tell whether the log is still the one that was read. After the promotion of
an asynchronous standby or the restore of a backup, later events get the numbers of lost ones, while
the server's identifiers may be the same as before. Only the content shows it. So a position has the
hash-chain link of its last event, which depends on all that its flow held before, and a digest of
the links of the events just before it: since events are not committed in the order of their
numbers, an event may be lost although one with a larger number is kept.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from enum import StrEnum
from uuid import UUID

import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.hash_chain import GENESIS
from chem_persistence.errors import InvalidArgument

__all__ = ["WINDOW_EVENTS", "FeedPage", "FeedPosition", "FeedWindow", "PositionState"]

WINDOW_EVENTS = 256
"""The number of events before a position whose links its digest covers."""

_NO_FLOW = UUID(int=0)
_LINK_BYTES = 32


class FeedPosition(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber has seen of the feed: opaque, to be stored with what it made of the events.

    The position of an event says that this event and all before it in the feed were seen. Store
    `to_json()` in the transaction that holds what you derive from the events, and pass the position
    that `from_json` returns to `read_feed` or `follow`: they raise `HistoryLost` if the log no
    longer holds what was seen, and `EventsArchived` if flows were archived that were not read to
    their end. The fields are not part of the interface.
    """

    seq: int
    flow_id: UUID
    link: bytes
    since: int
    digest: bytes  # SHA-256 of the links of the events in (since, seq], in the order of seq
    archived: int = 0  # the greatest number in the register of archived flows that is known

    @classmethod
    def start(cls) -> "FeedPosition":
        """Return the position before the first event, which holds in every log.

        Who begins there is told of all flows that were ever archived: `position(0)` of a store is
        the position before the first event that the log has now.
        """
        return cls(seq=0, flow_id=_NO_FLOW, link=GENESIS, since=0, digest=hashlib.sha256().digest())

    def with_archived(self, archived: int) -> "FeedPosition":
        """Return this position, as of one who knows of all archives up to a number."""
        return msgspec.structs.replace(self, archived=archived)

    def to_json(self) -> str:
        """Return the position as a JSON object of about 300 characters."""
        written = _Written(
            seq=self.seq,
            flow_id=self.flow_id,
            link=self.link.hex(),
            since=self.since,
            digest=self.digest.hex(),
            archived=self.archived,
        )
        return msgspec.json.encode(written).decode()

    @staticmethod
    def from_json(text: str | bytes) -> "FeedPosition":
        """Return the position that `to_json` wrote; the order of its members does not matter.

        Raises:
            InvalidArgument: the text is not a position.
        """
        try:
            written = msgspec.json.decode(text, type=_Written)
            position = FeedPosition(
                seq=written.seq,
                flow_id=written.flow_id,
                link=bytes.fromhex(written.link),
                since=written.since,
                digest=bytes.fromhex(written.digest),
                archived=written.archived,
            )
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidArgument("position", f"is not the JSON of one: {error}") from error
        _check(position)
        return position


class FeedPage(msgspec.Struct, frozen=True):
    """One page of the feed, and the position after its last event.

    Without events it is the position that the page was to follow, past what was archived since.
    """

    events: Sequence[FlowEvent]
    position: FeedPosition


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON form: link and digest are in hexadecimal."""

    seq: int
    flow_id: UUID
    link: str
    since: int
    digest: str
    archived: int = 0


def _check(position: FeedPosition) -> None:
    """Check that a position that was read can be one.

    Raises:
        InvalidArgument: a number is out of range, or a hash has another length than SHA-256 has.
    """
    numbers = (position.seq, position.since, position.archived)
    if not all(0 <= number < 2**63 for number in numbers):
        raise InvalidArgument("position", "its numbers must be in the range 0 to 2^63 - 1")
    if any(len(hash_) != _LINK_BYTES for hash_ in (position.link, position.digest)):
        raise InvalidArgument("position", f"its link and its digest must have {_LINK_BYTES} bytes")
    start = FeedPosition.start().with_archived(position.archived)
    if position.seq == 0 and position != start:
        raise InvalidArgument("position", "with seq 0 it must be the start of the feed")
    if position.seq and (position.since >= position.seq or position.flow_id == _NO_FLOW):
        raise InvalidArgument("position", "it must name an event, and a window that ends with it")


class PositionState(StrEnum):
    """What the log holds at a position; the values are what the command `lost` prints."""

    HOLDS = "holds"
    GONE = "event gone"
    REPLACED = "event replaced by another"
    WINDOW_DIFFERS = "an event before it is gone or replaced"


class FeedWindow:
    """The links of the last events that a subscriber was given, from which positions are made.

    `since` is the `seq` after which the events begin; `links` are those given already.
    """

    def __init__(self, since: int, links: Iterable[tuple[int, bytes]] = ()) -> None:
        self._since = since
        self._links = deque(links)

    def add(self, seq: int, link: bytes) -> None:
        """Add the next event, and drop the oldest one beyond the length of a window."""
        self._links.append((seq, link))
        if len(self._links) > WINDOW_EVENTS:
            self._since, _ = self._links.popleft()

    def position(self, flow_id: UUID, archived: int = 0) -> FeedPosition:
        """Return the position after the last event, which is one of this flow."""
        seq, link = self._links[-1]
        return FeedPosition(
            seq=seq,
            flow_id=flow_id,
            link=link,
            since=self._since,
            digest=self.digest(),
            archived=archived,
        )

    def digest(self) -> bytes:
        """Return the SHA-256 of the links."""
        return hashlib.sha256(b"".join([link for _, link in self._links])).digest()

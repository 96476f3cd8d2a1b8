"""Appends that wait to be stored: the order in which they go, and how many go together."""

from asyncio import Future
from collections import deque
from collections.abc import Iterable, Sequence

from chem_persistence.domain.events import FlowEvent
from chem_persistence.postgres.append.place_events import Append
from chem_persistence.store.append_request import AppendRequest
from chem_persistence.telemetry.hooks import current_span

__all__ = ["AppendQueue", "QueuedAppend"]

MAX_EVENTS = 1_000
MAX_BYTES = 4 * 2**20

MIN_SHARE = 16
"""Batches of fewer flows are not divided: what each costs by itself would outweigh what is won."""


class QueuedAppend(Append):
    """An append for whose `answered` its caller waits; `size` is what it sends, in bytes, `origin` its caller's span."""

    __slots__ = ("answered", "key", "origin", "size")

    def __init__(
        self,
        request: AppendRequest,
        expected_version: int | None,
        size: int,
        answered: "Future[list[FlowEvent]]",
    ) -> None:
        super().__init__(request, expected_version)
        self.answered = answered
        self.key = request.flow_id.int  # hashes faster than the UUID
        self.size = size
        self.origin = current_span()

    @property
    def event_count(self) -> int:
        """How many events it has."""
        return len(self.request.kinds)


class AppendQueue:
    """First come, first served, but for flows whose turn has to wait for a batch under way: one flow, one history.

    A batch has at most `max_events` events and `max_bytes` bytes, unless its only append has more: a huge one goes
    alone, and those that came after it go with another batch. With `one_flow_each` a batch keeps to one flow, because a
    transaction over several would be one over several servers.

    Nor has it more than its share of the flows that are busy, for `shares` batches at a time. If one took all that wait, all
    would be answered together and wait together again, and client and server would work in turns instead of side by side.
    """

    def __init__(
        self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES, shares: int = 1
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._shares = shares
        self.one_flow_each = False
        self._waiting: dict[int, deque[QueuedAppend]] = {}
        self._ready: dict[int, None] = {}  # who waits and is not under way, in the order of turns
        self._under_way: set[int] = set()

    def put(self, append: QueuedAppend) -> None:
        """Let an append wait at the end of its flow's line."""
        line = self._waiting.get(append.key)
        if line is None:
            line = self._waiting[append.key] = deque()
        line.append(append)
        if append.key not in self._under_way:
            self._ready.setdefault(append.key)

    def take(self) -> list[QueuedAppend]:
        """Take the next batch, the appends of one flow side by side and in order; its flows are then under way."""
        batch: list[QueuedAppend] = []
        events = size = 0
        for _ in range(self._share()):
            if not self._ready:
                break
            key = next(iter(self._ready))
            line = self._waiting[key]
            while line:
                events += len(line[0].request.kinds)
                size += line[0].size
                if batch and (events > self._max_events or size > self._max_bytes):
                    break
                batch.append(line.popleft())
            if not batch or batch[-1].key != key:
                break
            del self._ready[key]
            self._under_way.add(key)
            if line:
                break
            del self._waiting[key]
            if self.one_flow_each:
                break
        return batch

    def _share(self) -> int:
        """Say how many flows a batch may have: those that wait and those under way, divided and rounded up."""
        return max(MIN_SHARE, -(-(len(self._ready) + len(self._under_way)) // self._shares))

    def give_back(self, batch: Iterable[QueuedAppend], again: Sequence[QueuedAppend] = ()) -> None:
        """End the turn of a batch's flows; `again`, in order, are to be tried again before what came later."""
        for append in reversed(again):
            self._waiting.setdefault(append.key, deque()).appendleft(append)
        for append in batch:
            self._under_way.discard(append.key)
            if append.key in self._waiting:
                self._ready.setdefault(append.key)

    def remove(self, append: QueuedAppend) -> None:
        """Forget an append for whose answer nobody waits any more, if it is not under way."""
        line = self._waiting.get(append.key, deque())
        if append in line:
            line.remove(append)
            if not line:
                del self._waiting[append.key]
                self._ready.pop(append.key, None)

    def __bool__(self) -> bool:
        return bool(self._ready)

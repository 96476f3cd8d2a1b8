"""The queue of appends: their order, how many are stored together, and their answers."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from chem_persistence.domain.events import FlowEvent, FlowInitialized
from chem_persistence.postgres.append.answers import Answer
from chem_persistence.postgres.append.place_events import Append
from chem_persistence.postgres.append.settle import Outcome, Reason, Refused, Stored, TryAgain
from chem_persistence.store.append_request import AppendRequest
from chem_persistence.telemetry.hooks import current_span
from chem_persistence.telemetry.listening import found

__all__ = ["Answered", "AppendQueue", "Outcomes", "QueuedAppend"]

MAX_EVENTS = 1_000
MAX_BYTES = 4 * 2**20

MIN_SHARE = 32
"""Batches of fewer flows are not divided: the cost of a statement would outweigh the gain.

Measured on two cores for 32 flows: one batch takes 0.82 to 0.89 of the CPU of two.
"""

MIN_SHARE_OF_MANY = 128
"""The same for flows whose appends one caller awaits together: it is not answered in between."""

_NOT_TRIED = TryAgain(Reason.BEHIND)


class Answered(Protocol):
    """What takes the answer to an append: a future, or an `Answer` of many."""

    def done(self) -> bool:
        """Return whether the answer was given, or its caller was cancelled."""

    def set_result(self, result: list[FlowEvent], /) -> None:
        """Answer with the events of the append."""

    def set_exception(self, exception: Exception, /) -> None:
        """Answer with the error that the caller gets."""


class QueuedAppend(Append):
    """An append whose caller awaits `answered`; `size` is in bytes, `origin` the caller's span.

    `submits` is whether workers may have to be told of it, see `hinted_definitions`.
    """

    __slots__ = ("answered", "key", "origin", "size", "submits")

    def __init__(self, request: AppendRequest, size: int, answered: Answered) -> None:
        super().__init__(request)
        self.answered = answered
        self.key = request.flow_id.int  # hashes faster than the UUID
        self.size = size
        self.submits = type(request.kinds[-1]) is FlowInitialized
        self.origin = None if found.observer is None else current_span()

    @property
    def event_count(self) -> int:
        """The number of its events."""
        return len(self.request.kinds)


Outcomes: TypeAlias = Mapping[Append, Outcome]


class AppendQueue:
    """A FIFO of appends by flow.

    A flow in a running batch is skipped until that batch ends, so its events keep their order. The
    appends of a flow in one batch carry the same lease, or none: those behind them wait.

    A batch has at most `max_events` events and `max_bytes` bytes, unless its only append has more.
    It takes at most one of `shares` equal parts of the flows that have appends: if one batch took
    all, all callers would be answered and call again together, and client and server would work
    in turns instead of side by side. With `one_flow_each` it keeps to one flow, since a
    transaction over flows on several servers needs a two-phase commit (Citus).
    """

    def __init__(
        self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES, shares: int = 1
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._shares = shares
        self.one_flow_each = False
        self._waiting: dict[int, deque[QueuedAppend]] = {}
        self._ready: dict[int, None] = {}  # the flows that a batch may take, in order
        self._under_way: set[int] = set()

    def put(self, append: QueuedAppend) -> None:
        """Add an append behind those of its flow."""
        line = self._waiting.get(append.key)
        if line is None:
            line = self._waiting[append.key] = deque()
        line.append(append)
        if append.key not in self._under_way:
            self._ready.setdefault(append.key)

    def take_at_once(self, append: QueuedAppend) -> bool:
        """Mark the flow of an append that is not queued, if nothing waits; return whether it is."""
        if self._ready or append.key in self._under_way:
            return False
        self._under_way.add(append.key)
        return True

    def take(self) -> list[QueuedAppend]:
        """Return the next batch, the appends of a flow side by side, and mark its flows."""
        batch: list[QueuedAppend] = []
        events = size = 0
        for _ in range(self._share()):
            if not self._ready:
                break
            key = next(iter(self._ready))
            line = self._waiting[key]
            lease = line[0].request.lease
            is_full = False
            while line and line[0].request.lease == lease:
                events += len(line[0].request.kinds)
                size += line[0].size
                if batch and (events > self._max_events or size > self._max_bytes):
                    is_full = True
                    break
                batch.append(line.popleft())
            if not batch or batch[-1].key != key:
                break
            del self._ready[key]
            self._under_way.add(key)
            if not line:
                del self._waiting[key]
            if is_full or self.one_flow_each:
                break
        return batch

    def finish(self, batch: Sequence[QueuedAppend], outcomes: Outcomes) -> list[list[QueuedAppend]]:
        """Answer the callers of a batch, and queue again, in front, what has to be tried again.

        Returns the appends that a lock holds up, by flow: these flows stay under way.
        """
        again: list[QueuedAppend] = []
        locked: dict[int, list[QueuedAppend]] = {}
        for append in batch:
            if append.answered.done():  # the caller was cancelled
                continue
            match outcomes.get(append, _NOT_TRIED):
                case Stored(events):
                    append.answered.set_result(events)
                case Refused(error):
                    append.answered.set_exception(error)
                case TryAgain(reason):
                    if reason is Reason.LOCKED or append.key in locked:
                        locked.setdefault(append.key, []).append(append)
                    else:
                        again.append(append)
        for append in reversed(again):
            self._waiting.setdefault(append.key, deque()).appendleft(append)
        self._end_turn(append.key for append in batch if append.key not in locked)
        return list(locked.values())

    def _end_turn(self, keys: Iterable[int]) -> None:
        for key in keys:
            self._under_way.discard(key)
            if key in self._waiting:
                self._ready.setdefault(key)

    def remove(self, append: QueuedAppend) -> None:
        """Remove an append whose caller was cancelled, unless it is under way."""
        line = self._waiting.get(append.key, deque())
        if append in line:
            line.remove(append)
            if not line:
                del self._waiting[append.key]
                self._ready.pop(append.key, None)

    def _share(self) -> int:
        """Return the number of flows that a batch may take."""
        flows = len(self._ready) + len(self._under_way)
        first = self._waiting[next(iter(self._ready))][0] if self._ready else None
        is_of_many = first is not None and type(first.answered) is Answer
        least = MIN_SHARE_OF_MANY if is_of_many else MIN_SHARE
        return max(least, -(-flows // self._shares))

    def __bool__(self) -> bool:
        return bool(self._ready)

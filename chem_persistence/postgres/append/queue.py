"""The queue of appends: their order, how many are stored together, and their answers."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeAlias

from chem_persistence.domain.events import FlowEvent, FlowInitialized
from chem_persistence.postgres.append.answers import Answer
from chem_persistence.postgres.append.place_events import Append
from chem_persistence.postgres.append.settle import Outcome, Reason, Refused, Stored, TryAgain
from chem_persistence.telemetry.hooks import Origin, current_span
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

HEAVY_BATCH, HEAVY_APPEND = 2**14, 2**10
"""A batch of so many bytes, whose appends have so many on average, is divided nevertheless.

Its work is the server's, which two sessions share. Measured on two cores with artifacts of 4 KB:
1.3 to 1.5 times as many appends a second from 8 to 32 flows, for 1.04 to 1.13 of the CPU.
"""

_NOT_TRIED = TryAgain(Reason.BEHIND)


class Answered(Protocol):
    """What takes the answer to an append: a future, or an `Answer` of many."""

    def done(self) -> bool:
        """Return whether the answer was given, or its caller was cancelled."""

    def set_result(self, result: list[FlowEvent], /) -> None:
        """Answer with the events of the append."""

    def set_exception(self, exception: Exception, /) -> None:
        """Answer with the error that the caller gets."""


class QueuedAppend(Append, eq=False, kw_only=True):
    """An append whose caller awaits `answered`; `origin` is the caller's span, if one listens."""

    answered: Answered
    origin: Origin = None

    @property
    def submits(self) -> bool:
        """Whether workers may have to be told of it, see `hinted_definitions`."""
        return type(self.request.kinds[-1]) is FlowInitialized

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
        self._ready: dict[int, list[QueuedAppend]] = {}
        self._under_way: dict[int, list[QueuedAppend]] = {}  # what waits for the end of a batch

    def put(self, append: QueuedAppend) -> None:
        """Add an append behind those of its flow, in the context of its caller."""
        if found.observer is not None:
            append.origin = current_span()
        key = append.request.flow_id.int
        line = self._under_way.get(key)
        if line is None:
            line = self._ready.setdefault(key, [])
        line.append(append)

    def take_at_once(self, append: QueuedAppend) -> bool:
        """Mark the flow of an append that is not queued, if nothing waits; return whether it is."""
        if self._ready or append.key in self._under_way:
            return False
        self._under_way[append.key] = []
        return True

    def take(self) -> list[QueuedAppend]:
        """Return the next batch, the appends of a flow side by side, and mark its flows."""
        batch: list[QueuedAppend] = []
        events = size = 0
        is_full = False
        even = -(-(len(self._ready) + len(self._under_way)) // self._shares)
        share = max(even, self._least_share())
        for count, (key, line) in enumerate([*islice(self._ready.items(), share)]):
            if count >= even and size >= max(HEAVY_BATCH, len(batch) * HEAVY_APPEND):
                break
            taken, lease = 0, line[0].request.lease
            for append in line:
                request = append.request
                if taken and request.lease != lease:
                    break
                events += len(request.kinds)
                size += request.size
                if batch and (events > self._max_events or size > self._max_bytes):
                    is_full = True
                    break
                batch.append(append)
                taken += 1
            if not taken:
                break
            del self._ready[key], line[:taken]
            self._under_way[key] = line
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
            answered, outcome = append.answered, outcomes.get(append, _NOT_TRIED)
            if answered.done():  # the caller was cancelled
                continue
            match outcome:
                case Stored():
                    answered.set_result(outcome.events)
                case Refused():
                    answered.set_exception(outcome.error)
                case TryAgain():
                    if outcome.reason is Reason.LOCKED or append.key in locked:
                        locked.setdefault(append.key, []).append(append)
                    else:
                        again.append(append)
        for append in reversed(again):
            self._under_way[append.key].insert(0, append)
        for append in batch:
            key = append.request.flow_id.int
            if key not in locked and (line := self._under_way.pop(key, None)):
                self._ready[key] = line
        return list(locked.values())

    def remove(self, append: QueuedAppend) -> None:
        """Remove an append whose caller was cancelled, unless it is under way."""
        for lines in (self._under_way, self._ready):
            line = lines.get(append.key, [])
            if append in line:
                line.remove(append)
                if not line and lines is self._ready:
                    del self._ready[append.key]

    def _least_share(self) -> int:
        """Return the number of flows below which a batch is not divided, unless it is large."""
        first = next(iter(self._ready.values()))[0] if self._ready else None
        is_of_many = first is not None and type(first.answered) is Answer
        return MIN_SHARE_OF_MANY if is_of_many else MIN_SHARE

    def __bool__(self) -> bool:
        return bool(self._ready)

"""Appends that wait to be stored: the order in which they go, and how many go together."""

from asyncio import Future
from collections import deque
from collections.abc import Iterable
from uuid import UUID

from chem_persistence.append_request import AppendRequest
from chem_persistence.domain.events import FlowEvent
from chem_persistence.postgres.append import Append

__all__ = ["AppendQueue", "QueuedAppend"]

MAX_EVENTS = 1_000
MAX_BYTES = 4 * 2**20


class QueuedAppend(Append):
    """An append for whose `answered` its caller waits; `size` is what it sends, in bytes."""

    __slots__ = ("answered", "size")

    def __init__(
        self, request: AppendRequest, expected_version: int | None, answered: "Future[list[FlowEvent]]"
    ) -> None:
        super().__init__(request, expected_version)
        self.answered = answered
        self.size = request.size()


class AppendQueue:
    """First come, first served, but for flows whose turn has to wait for a batch under way: one flow, one history.

    A batch has at most `max_events` events and `max_bytes` bytes, unless its only append has more: a huge one goes
    alone, and those that came after it go with another batch. With `one_flow_each` a batch keeps to one flow, because a
    transaction over several would be one over several servers.
    """

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.one_flow_each = False
        self._waiting: dict[UUID, deque[QueuedAppend]] = {}
        self._ready: dict[
            UUID, None
        ] = {}  # flows that wait and are not under way, in the order of their turns
        self._under_way: set[UUID] = set()

    def put(self, append: QueuedAppend) -> None:
        """Let an append wait at the end of its flow's line."""
        flow_id = append.request.flow_id
        self._waiting.setdefault(flow_id, deque()).append(append)
        if flow_id not in self._under_way:
            self._ready.setdefault(flow_id)

    def take(self) -> list[QueuedAppend]:
        """Take the next batch, the appends of one flow side by side and in order; its flows are then under way."""
        batch: list[QueuedAppend] = []
        events = size = 0
        while self._ready:
            flow_id = next(iter(self._ready))
            line = self._waiting[flow_id]
            while line:
                events += len(line[0].request.kinds)
                size += line[0].size
                if batch and (events > self._max_events or size > self._max_bytes):
                    break
                batch.append(line.popleft())
            if not batch or batch[-1].request.flow_id != flow_id:
                break
            del self._ready[flow_id]
            self._under_way.add(flow_id)
            if line:
                break
            del self._waiting[flow_id]
            if self.one_flow_each:
                break
        return batch

    def give_back(self, appends: Iterable[QueuedAppend], flow_ids: Iterable[UUID]) -> None:
        """End the turn of flows, of which `appends`, in order, have to be tried again before those that came later."""
        for append in reversed([*appends]):
            self._waiting.setdefault(append.request.flow_id, deque()).appendleft(append)
        for flow_id in flow_ids:
            self._under_way.discard(flow_id)
            if flow_id in self._waiting:
                self._ready.setdefault(flow_id)

    def remove(self, append: QueuedAppend) -> None:
        """Forget an append for whose answer nobody waits any more, if it is not under way."""
        flow_id = append.request.flow_id
        line = self._waiting.get(flow_id, deque())
        if append in line:
            line.remove(append)
            if not line:
                del self._waiting[flow_id]
                self._ready.pop(flow_id, None)

    def __bool__(self) -> bool:
        return bool(self._ready)

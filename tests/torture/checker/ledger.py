"""What all writers sent and were answered, append by append."""

from collections.abc import Iterable
from typing import TypeAlias
from uuid import UUID

import msgspec

from chem_persistence import content_hash
from tests.torture.writers.records import (
    Acknowledged,
    Conflict,
    EngineFlow,
    Record,
    Refused,
    Sent,
    Told,
    Unexpected,
    Unknown,
)

__all__ = ["Append", "Call", "Ledger"]

Answer: TypeAlias = Acknowledged | Unknown | Refused | Conflict


class Call(msgspec.Struct):
    """A call that made or repeated an append, and the record of its end.

    `answer` is None if the process died first.
    """

    slot: int
    began: float
    answer: Answer | None = None

    @property
    def ended(self) -> float | None:
        return None if self.answer is None else self.answer.at


class Append(msgspec.Struct):
    """One append with all of its calls; `told` holds what each acknowledged call returned."""

    token: str
    flow_id: UUID
    hashes: tuple[str, ...]
    artifacts: tuple[str, ...]
    event_ids: tuple[UUID, ...] | None
    expected_version: int | None
    by_engine: bool
    calls: list[Call]
    told: list[tuple[Told, ...]] = []

    @property
    def conflicts(self) -> list[tuple[Call, Conflict]]:
        """Return the calls that raised `ConcurrencyConflict`."""
        return [(call, call.answer) for call in self.calls if isinstance(call.answer, Conflict)]

    @property
    def refused(self) -> bool:
        """Return whether the store promised that the append is not in the log.

        A conflict also promises it for all calls before it: a repeated append returns the events of
        the first one. Any other error is a promise about its own call only.
        """
        refusals = (Conflict, Refused)
        return bool(self.conflicts) or all(isinstance(call.answer, refusals) for call in self.calls)


class Ledger:
    """Collects the records as they arrive."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.appends: dict[str, Append] = {}
        self.engine_flows: dict[UUID, str | None] = {}
        self.unexpected: list[str] = []
        self.acknowledged_at: dict[int, list[tuple[float, float]]] = {}
        """By slot: when each acknowledged call began and ended."""
        self.enter(records, 0)

    def enter(self, records: Iterable[Record], slot: int) -> None:
        for record in records:
            match record:
                case Sent():
                    self._send(record, slot)
                case Acknowledged():
                    append = self._end(record)
                    append.told.append(tuple(record.events))
                    began = append.calls[-1].began
                    self.acknowledged_at.setdefault(slot, []).append((began, record.at))
                case Unknown() | Refused() | Conflict():
                    self._end(record)
                case EngineFlow():
                    self.engine_flows[record.flow_id] = record.fingerprint
                case Unexpected():
                    self.unexpected.append(record.error)

    def _send(self, sent: Sent, slot: int) -> None:
        append = self.appends.get(sent.token)
        if append is None:
            append = self.appends[sent.token] = Append(
                token=sent.token,
                flow_id=sent.flow_id,
                hashes=tuple(content_hash(kind) for kind in sent.kinds),
                artifacts=tuple(artifact.hash for artifact in sent.artifacts),
                event_ids=None if sent.event_ids is None else tuple(sent.event_ids),
                expected_version=sent.expected_version,
                by_engine=sent.by_engine,
                calls=[],
            )
        append.calls.append(Call(slot, sent.at))

    def _end(self, answer: Answer) -> Append:
        append = self.appends[answer.token]
        append.calls[-1].answer = answer
        return append

    def recovered(self, since: float, slots: Iterable[int]) -> float | None:
        """Return the seconds from `since` until each slot had a later append acknowledged."""
        ends: list[float] = []
        for slot in slots:
            later: list[float] = []
            for began, ended in reversed(self.acknowledged_at.get(slot, [])):
                if ended < since:
                    break
                later += [ended] if began >= since else []
            if not later:
                return None
            ends.append(min(later))
        return max(ends) - since

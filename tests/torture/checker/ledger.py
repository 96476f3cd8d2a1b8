"""What all writers sent and were told, append by append."""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from chem_persistence import content_hash
from tests.torture.writers.records import (
    Acknowledged,
    EngineFlow,
    Record,
    Refused,
    Sent,
    Told,
    Unexpected,
    Unknown,
)

__all__ = ["Append", "Call", "Ledger"]


class Call(msgspec.Struct):
    """One call that made an append or repeated it; `ended` is None when its process died first."""

    slot: int
    began: float
    ended: float | None = None
    acknowledged: bool = False


class Append(msgspec.Struct):
    """One append, by all of its calls: `told` is what each acknowledged call returned."""

    token: str
    flow_id: UUID
    hashes: tuple[str, ...]
    artifacts: tuple[str, ...]
    event_ids: tuple[UUID, ...] | None
    by_engine: bool
    calls: list[Call]
    told: list[tuple[Told, ...]] = []
    refused: bool = False


class Ledger:
    """Enters records as they come."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.appends: dict[str, Append] = {}
        self.engine_flows: dict[UUID, str | None] = {}
        self.unexpected: list[str] = []
        self.acknowledged_at: dict[int, list[tuple[float, float]]] = {}
        """By slot, when each acknowledged call began and ended."""
        self.enter(records, 0)

    def enter(self, records: Iterable[Record], slot: int) -> None:
        for record in records:
            match record:
                case Sent():
                    self._send(record, slot)
                case Acknowledged():
                    append = self._end(record.token, record.at, acknowledged=True)
                    append.told.append(tuple(record.events))
                    began = append.calls[-1].began
                    self.acknowledged_at.setdefault(slot, []).append((began, record.at))
                case Unknown():
                    self._end(record.token, record.at)
                case Refused():
                    self._end(record.token, record.at).refused = True
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
                by_engine=sent.by_engine,
                calls=[],
            )
        append.calls.append(Call(slot, sent.at))

    def _end(self, token: str, at: float, *, acknowledged: bool = False) -> Append:
        append = self.appends[token]
        append.calls[-1].ended = at
        append.calls[-1].acknowledged = acknowledged
        return append

    def recovered(self, since: float, slots: Iterable[int]) -> float | None:
        """Give how long after `since` every slot had had an append acknowledged that it began after it."""
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

"""The results of steps in the log of a store in memory, by fingerprint."""

from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from uuid import UUID

from msgspec import UNSET

from chem_persistence.domain.events import (
    INVALIDATED,
    FlowEvent,
    ResultOrigin,
    StepFinished,
    StepSignal,
)
from chem_persistence.store.reuse.results import Result, TakenOver

__all__ = ["MemoryResults"]

_seq = attrgetter("seq")


class MemoryResults:
    """The indexes that the statements of results read in PostgreSQL; `add` follows the log."""

    def __init__(self) -> None:
        self._finished: dict[str, list[FlowEvent]] = {}
        self._invalidated: dict[tuple[UUID, int], int] = {}
        self._taken_over: dict[UUID, list[FlowEvent]] = {}

    def add(self, events: Iterable[FlowEvent]) -> None:
        """Add events that were appended."""
        for event in events:
            match event.kind:
                case StepFinished(reused_from=origin) as fact if origin is not UNSET:
                    insort(self._taken_over.setdefault(origin.flow_id, []), event, key=_seq)
                case StepFinished() as fact:
                    insort(self._finished.setdefault(fact.fingerprint, []), event, key=_seq)
                case StepSignal(step_index=index, signal=name) if name == INVALIDATED:
                    self._invalidated[event.flow_id, index] = event.version
                case _:
                    pass

    def remove(self, flow_ids: Collection[UUID]) -> None:
        """Forget the events of flows that are archived."""
        for index in (self._finished, self._taken_over):
            for events in index.values():
                events[:] = [event for event in events if event.flow_id not in flow_ids]

    def find(self, fingerprint: str, most: int) -> Sequence[Result]:
        """Return the results of a fingerprint; see `ResultReader.find_results`."""
        return [result for result, _ in zip(self._valid(fingerprint), range(most), strict=False)]

    def _valid(self, fingerprint: str) -> Iterator[Result]:
        for event in self._finished.get(fingerprint, ()):
            fact = event.kind
            assert isinstance(fact, StepFinished)  # noqa: S101  # others are not in the index
            invalidated = self._invalidated.get((event.flow_id, fact.step_index), -1)
            if invalidated < event.version:
                yield Result(ResultOrigin(event.flow_id, event.version), fact.outputs)

    def taken_over(self, flow_id: UUID, limit: int) -> list[TakenOver]:
        """Return what was taken over of a flow; see `ResultReader.taken_over`."""
        return [
            TakenOver(
                flow_id=event.flow_id,
                version=event.version,
                step_id=event.kind.step_id,
                origin=event.kind.reused_from,
            )
            for event in self._taken_over.get(flow_id, ())[:limit]
            if isinstance(event.kind, StepFinished) and event.kind.reused_from is not UNSET
        ]

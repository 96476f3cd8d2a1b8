"""eventsourcing's aggregate recorder: rows of encoded events, without the domain model."""

from collections.abc import Iterator
from uuid import UUID, uuid4

from eventsourcing.persistence import InfrastructureFactory, StoredEvent

from benchmarks.contestants.load import Load, Slice, ThreadAppend, drive_threads
from benchmarks.data.history import ROWS_OF_TEN
from benchmarks.peers.eventsourcing_env import environment

__all__ = ["Batched", "Single"]


def _stored_events() -> Iterator[StoredEvent]:
    """Yield the events of one flow of ten after another."""
    while True:
        flow_id: UUID = uuid4()
        for version, (event_type, payload) in enumerate(ROWS_OF_TEN, start=1):
            yield StoredEvent(flow_id, version, event_type, payload.encode())


class Single:
    """One stored event per call and one thread per flow, on the factory's pool."""

    async def open(self, url: str) -> None:
        """Create the table, as the factory does."""
        self._factory = InfrastructureFactory.construct(dict(environment(url)))
        self._recorder = self._factory.aggregate_recorder()

    async def run(self, load: Load) -> Slice:
        """Run a slice in threads, which is how the library is used."""
        return await drive_threads([self._flow() for _ in range(load.flows)], load)

    async def close(self) -> None:
        """Close its pool."""
        self._factory.close()

    def _flow(self) -> ThreadAppend:
        events = _stored_events()

        def append() -> int:
            self._recorder.insert_events([next(events)])
            return 1

        return append


class Batched(Single):
    """One call for all flows: a list with one stored event of each."""

    async def run(self, load: Load) -> Slice:
        """Run a slice with one caller that acts for all flows."""
        flows = [_stored_events() for _ in range(load.flows)]

        def append() -> int:
            self._recorder.insert_events([next(events) for events in flows])
            return len(flows)

        return await drive_threads([append], load)

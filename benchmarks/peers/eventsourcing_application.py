"""eventsourcing's application: `save` numbers an aggregate's pending events and stores them."""

from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from benchmarks.contestants.load import Load, Slice, ThreadAppend, drive, drive_threads
from benchmarks.data.history import LONG_FLOW_EVENTS
from benchmarks.peers.eventsourcing_env import environment

__all__ = ["Batched", "Functions", "Replay", "Single"]

_FINGERPRINT = "f" * 64


class Flow(Aggregate):
    """A flow as eventsourcing's documentation models an aggregate."""

    @event("Initialized")
    def __init__(self, definition_hash: str) -> None:
        self.definition_hash = definition_hash
        self.status: dict[str, str] = {}

    @event("StepStarted")
    def step_started(self, step_index: int, step_id: str) -> None:
        """Record that a step runs."""
        self.status[step_id] = f"running {step_index}"

    @event("StepFinished")
    def step_finished(
        self, step_index: int, step_id: str, outputs: list[str], fingerprint: str
    ) -> None:
        """Record the output of a step."""
        self.status[step_id] = f"finished {step_index} {outputs} {fingerprint}"

    @event("StepSignal")
    def step_signal(self, step_index: int, step_id: str, signal: str, data: dict[str, Any]) -> None:
        """Record nothing: a signal does not change a flow."""


class _Ten:
    """Flow after flow of ten: each call returns an aggregate with one more pending event."""

    def __init__(self) -> None:
        self._events = 0
        self._flow: Flow | None = None

    def grown(self) -> Flow:
        number, self._events = self._events, (self._events + 1) % 10
        if number == 0 or self._flow is None:
            self._flow = Flow(_FINGERPRINT)
        elif number % 2:
            self._flow.step_started(number // 2, "embed_conformers")
        else:
            self._flow.step_finished(number // 2, "embed_conformers", [_FINGERPRINT], _FINGERPRINT)
        return self._flow


class Single:
    """One event per `save` and one thread per flow; the aggregates stay in the caller's memory."""

    functions = False

    async def open(self, url: str) -> None:
        """Create the tables, as the application does."""
        self._application: Application[UUID] = Application(
            env=environment(url, functions=self.functions)
        )

    async def run(self, load: Load) -> Slice:
        """Run a slice in threads, which is how the library is used."""
        return await drive_threads([self._flow() for _ in range(load.flows)], load)

    async def close(self) -> None:
        """Close its pool."""
        self._application.close()

    def _flow(self) -> ThreadAppend:
        flow = _Ten()

        def append() -> int:
            self._application.save(flow.grown())
            return 1

        return append


class Functions(Single):
    """The same, with the option to insert by a function in the database."""

    functions = True


class Batched(Functions):
    """One `save` for all flows, each with one pending event."""

    async def run(self, load: Load) -> Slice:
        """Run a slice with one caller that acts for all flows."""
        flows = [_Ten() for _ in range(load.flows)]

        def append() -> int:
            self._application.save(*(flow.grown() for flow in flows))
            return len(flows)

        return await drive_threads([append], load)


class Replay(Single):
    """One `repository.get` per call, of an aggregate of 100,000 events."""

    async def open(self, url: str) -> None:
        """Write the events, a thousand per `save`."""
        await super().open(url)
        flow = Flow(_FINGERPRINT)
        for number in range(1, LONG_FLOW_EVENTS):
            data = {"iteration": number, "energy": -76.4 - number / 7}
            flow.step_signal(number // 100, f"step_{number // 100}", "progress", data)
            if number % 1_000 == 0:
                self._application.save(flow)
        self._application.save(flow)
        self._id = flow.id

    async def run(self, load: Load) -> Slice:
        """Read the aggregate."""

        async def read() -> int:
            version: int = self._application.repository.get(self._id).version
            return version

        return await drive([read], load)

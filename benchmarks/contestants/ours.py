"""chem_persistence itself, through its public names."""

import itertools
from uuid import UUID, uuid4

import asyncpg

from benchmarks.contestants.load import Append, Load, Slice, drive
from benchmarks.data.history import FLOW_OF_TEN, conformer
from chem_persistence import (
    Artifact,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    build_pool,
)

__all__ = ["Artifacts", "Batches", "Events", "Signals", "UnknownVersion"]


class _Appending:
    """Appends with a pool and a store at their default options."""

    _pool: "asyncpg.Pool[asyncpg.Record]"
    _store: PgEventStore

    async def open(self, url: str) -> None:
        self._pool = await build_pool(url)
        self._store = PgEventStore(PoolProvider(self._pool))

    async def run(self, load: Load) -> Slice:
        return await drive([self._flow() for _ in range(load.flows)], load)

    async def close(self) -> None:
        await self._store.aclose()
        await self._pool.close()

    def _flow(self) -> Append:
        raise NotImplementedError


class Events(_Appending):
    """One event per call, as an engine appends: flows of ten, `expected_version` known."""

    expects_version = True

    def _flow(self) -> Append:
        events = self._events()

        async def append() -> int:
            flow_id, version, kind = next(events)
            expected = version if self.expects_version else None
            await self._store.append_kind(flow_id, kind, expected_version=expected)
            return 1

        return append

    def _events(self) -> "itertools.chain[tuple[UUID, int, FlowEventKind]]":
        return itertools.chain.from_iterable(
            ((flow_id, version, kind) for version, kind in enumerate(FLOW_OF_TEN))
            for flow_id in iter(uuid4, None)
        )


class UnknownVersion(Events):
    """The same with `expected_version=None`: each event is appended at the end of its flow."""

    expects_version = False


class Signals(_Appending):
    """One StepSignal per call, which changes no row of `workflow_step_executions`."""

    def _flow(self) -> Append:
        flow_id, versions = uuid4(), itertools.count()

        async def append() -> int:
            version = next(versions)
            kind = StepSignal(0, "embed_conformers", "progress", {"iteration": version})
            await self._store.append_kind(flow_id, kind, expected_version=version)
            return 1

        return append


class Batches(_Appending):
    """500 StepSignals per call, by `append_kinds`, as when a history is imported."""

    size = 500

    def _flow(self) -> Append:
        flow_id, versions = uuid4(), itertools.count(step=self.size)
        kinds = [
            StepSignal(0, "embed_conformers", "progress", {"iteration": i})
            for i in range(self.size)
        ]

        async def append() -> int:
            await self._store.append_kinds(flow_id, kinds, expected_version=next(versions))
            return self.size

        return append


class Artifacts(_Appending):
    """A StepFinished with a new 4 KB JSON artifact per call; building the artifact counts."""

    _numbers = itertools.count()

    def _flow(self) -> Append:
        flow_id, versions = uuid4(), itertools.count()

        async def append() -> int:
            version = next(versions)
            artifact = Artifact.from_payload(
                kind="Conformer", payload=conformer(next(self._numbers))
            )
            kind = StepFinished(0, "embed_conformers", (artifact.hash,), artifact.hash)
            await self._store.append_kind(
                flow_id, kind, artifacts=[artifact], expected_version=version
            )
            return 1

        return append

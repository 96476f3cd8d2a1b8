"""What the fence costs: appends by the holder of a lease, by nobody's, and without the fence."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from benchmarks.contestants.load import Append, Load, Slice, drive
from benchmarks.data.statements import read_sql
from chem_persistence import (
    EventStore,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepStarted,
    build_pool,
)

__all__ = ["Leased", "Plain", "Unfenced"]

_HASH = "0" * 64
_LEASE = timedelta(hours=1)
_FENCE = """
            OR (f.lease IS NOT NULL AND (f.holder IS NULL OR f.first_version > 0)
                AND (SELECT run.lease FROM flow_runs AS run
                    WHERE run.flow_id = f.flow_id) IS DISTINCT FROM f.lease)"""


class Plain:
    """One start or success of a step per call, of a flow that was not given to workers."""

    async def open(self, url: str) -> None:
        """Connect."""
        self._pool = await build_pool(url)
        self._store = PgEventStore(PoolProvider(self._pool))

    async def run(self, load: Load) -> Slice:
        """Run a slice with one task per flow."""
        return await drive([await self._flow() for _ in range(load.flows)], load)

    async def close(self) -> None:
        """Disconnect."""
        await self._store.aclose()
        await self._pool.close()

    async def _flow(self) -> Append:
        flow_id = uuid4()
        await self._store.append_kind(flow_id, FlowInitialized(_HASH, 1), expected_version=0)
        return self._append(self._store, flow_id)

    def _append(self, store: EventStore, flow_id: UUID) -> Append:
        facts = enumerate(_facts(), 1)

        async def append() -> int:
            version, fact = next(facts)
            await store.append_kind(flow_id, fact, expected_version=version)
            return 1

        return append


class Leased(Plain):
    """The same by the holder of the flow's lease, which is compared at each append."""

    async def _flow(self) -> Append:
        flow_id = uuid4()
        fact = FlowInitialized(_HASH, 1, due=datetime.now(UTC))
        await self._store.append_kind(flow_id, fact, expected_version=0)
        claim = await self._store.leases.take(flow_id, uuid4(), _LEASE)
        assert claim is not None  # noqa: S101  # nobody else knows of it
        return self._append(self._store.leased(flow_id, claim.token), flow_id)


class Unfenced(Plain):
    """The same as `Plain`, by the function of the database without the condition of the fence."""

    async def open(self, url: str) -> None:
        """Connect, and replace the function."""
        await super().open(url)
        definition = await self._pool.fetchval(read_sql("read_append_function"))
        without = definition.replace(_FENCE, "")
        if without == definition:
            raise LookupError("append_rows has no fence where it is expected")
        await self._pool.execute(without)


def _facts() -> Iterator[FlowEventKind]:
    for index in itertools.count():
        yield StepStarted(index, f"step_{index}")
        yield StepFinished(index, f"step_{index}", (_HASH,), _HASH)

"""Stores with the leases of their flows, and a look at the rows that the leases keep."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from chem_persistence import (
    FlowEventKind,
    FlowInitialized,
    InMemoryEventStore,
    InMemoryLeases,
    Leases,
    PgEventStore,
    PgLeases,
    PoolProvider,
    StepError,
    StepFailed,
)
from chem_persistence.memory.runs import NEVER
from chem_persistence.postgres.schema.distribution import is_distributed
from tests.support.flows.flows import DEFINITION, new_flow_id

__all__ = [
    "HASH",
    "HOUR",
    "NOW",
    "Desk",
    "Row",
    "failed",
    "given",
    "memory_desk",
    "postgres_desk",
]

HOUR = timedelta(hours=1)
NOW = timedelta(0)
HASH = DEFINITION.definition_hash

READ_ROW = """
    SELECT lease, holder, called, CASE WHEN due_at <> 'infinity' THEN due_at - now() END AS due_in
    FROM flow_runs WHERE flow_id = $1
"""
MAKE_DUE = "UPDATE flow_runs SET due_at = now() - interval '1 second' WHERE flow_id = $1"


class Row(msgspec.Struct, frozen=True):
    """A flow's row; `due_in` is None if the flow is not due by itself, and at least 0."""

    due_in: timedelta | None
    lease: UUID | None
    holder: UUID | None
    called: bool

    @property
    def due(self) -> str:
        """Return when the flow is due, in words that do not depend on how fast a test runs."""
        if self.due_in is None:
            return "never"
        return "now" if self.due_in == NOW else f"in {round(self.due_in / HOUR)} h"


class Desk(msgspec.Struct, frozen=True):
    """A store, its leases, and what a test reads and does beside them."""

    name: str
    store: InMemoryEventStore | PgEventStore
    leases: Leases
    row: Callable[[UUID], Awaitable[Row | None]]
    make_due: Callable[[UUID], Awaitable[None]]
    forget: Callable[[UUID], Awaitable[None]]
    """Remove a flow's row."""

    async def submit(
        self, due_in: timedelta = NOW, *more: FlowEventKind, definition_hash: str = HASH
    ) -> UUID:
        """Submit a flow to workers."""
        flow_id = new_flow_id()
        await self.store.append_kinds(
            flow_id, [given(due_in, definition_hash), *more], expected_version=0
        )
        return flow_id

    async def take(self, flow_id: UUID, duration: timedelta = HOUR) -> UUID:
        """Claim a flow and return the token of the lease."""
        claim = await self.leases.take(flow_id, uuid4(), duration)
        assert claim is not None
        return claim.token

    async def seen(self, flow_id: UUID) -> Row:
        """Return the row of a flow that has one."""
        row = await self.row(flow_id)
        assert row is not None
        return row


def given(due_in: timedelta = NOW, definition_hash: str = HASH) -> FlowInitialized:
    """Return the first event of a flow that is given to workers."""
    due = datetime.now(UTC) + due_in
    return FlowInitialized(definition_hash, len(DEFINITION.steps), due=due)


def failed() -> StepFailed:
    return StepFailed(0, "acquire", StepError("ValueError", "no"), "f" * 64)


def memory_desk() -> Desk:
    store = InMemoryEventStore()
    rows = store.runs.rows

    async def row(flow_id: UUID) -> Row | None:
        if (run := rows.get(flow_id)) is None:
            return None
        left = max(NOW, run.due_at - datetime.now(UTC))
        return Row(None if run.due_at == NEVER else left, run.lease, run.holder, run.called)

    async def make_due(flow_id: UUID) -> None:
        rows[flow_id].due_at = datetime.now(UTC) - timedelta(seconds=1)

    async def forget(flow_id: UUID) -> None:
        del rows[flow_id]

    return Desk("memory", store, InMemoryLeases(store), row, make_due, forget)


@asynccontextmanager
async def postgres_desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    provider = PoolProvider(pool)
    store = PgEventStore(provider)
    async with provider.acquire() as connection:
        name = "distributed" if await is_distributed(connection) else "postgres"

    async def row(flow_id: UUID) -> Row | None:
        found: Any = await pool.fetchrow(READ_ROW, flow_id)
        if found is None:
            return None
        left = None if found["due_in"] is None else max(NOW, found["due_in"])
        return Row(left, found["lease"], found["holder"], found["called"])

    async def make_due(flow_id: UUID) -> None:
        await pool.execute(MAKE_DUE, flow_id)

    async def forget(flow_id: UUID) -> None:
        await pool.execute("DELETE FROM flow_runs WHERE flow_id = $1", flow_id)

    yield Desk(name, store, PgLeases(provider), row, make_due, forget)
    await store.aclose()

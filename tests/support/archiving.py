"""Flows that are sealed and archived in PostgreSQL, by the function that the archivist calls."""

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

import msgspec

from chem_persistence import (
    Artifact,
    EventStore,
    FlowCompleted,
    PgEventStore,
    StepSignal,
    seal_flow,
)
from chem_persistence.domain.events import FlowEventKind
from tests.support.flows.flows import initialized, new_flow_id

__all__ = ["BUNDLE", "LATE", "Sealed", "archive", "end_of", "ended_flow", "sealed", "sealed_flow"]

ARCHIVE_FLOWS = """
    SELECT archived_flow_id AS flow_id, archived_no AS archive_no
    FROM archive_flows($1::uuid[], $2::integer[], $3::bytea[], $4, $5)
"""
BUNDLE = "b" * 64
END_OF_FLOW = """
    SELECT version + 1 AS version, chain_hash FROM event_log
    WHERE flow_id = $1 ORDER BY version DESC LIMIT 1
"""
LATE = StepSignal(0, "acquire", "late")


class Asks(Protocol):
    """A connection or a pool."""

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        """Return the rows of a query."""
        ...


class Sealed(msgspec.Struct, frozen=True):
    """A sealed flow: how many events it has, and the chain hash of the last one."""

    flow_id: UUID
    version: int
    head: bytes


async def ended_flow(
    store: EventStore,
    artifacts: Sequence[Artifact] = (),
    more: Sequence[FlowEventKind] = (),
) -> UUID:
    flow_id = new_flow_id()
    facts: list[FlowEventKind] = [initialized(), LATE, *more, FlowCompleted("f" * 64)]
    await store.append_kinds(flow_id, facts, artifacts=artifacts)
    return flow_id


async def end_of(asks: Asks, flow_id: UUID) -> Sealed:
    """Return the end of a flow, sealed or not."""
    (row,) = await asks.fetch(END_OF_FLOW, flow_id)
    return Sealed(flow_id, row["version"], row["chain_hash"])


async def sealed(store: PgEventStore, asks: Asks, flow_id: UUID) -> Sealed:
    await seal_flow(store, flow_id)
    return await end_of(asks, flow_id)


async def sealed_flow(
    store: PgEventStore, asks: Asks, artifacts: Sequence[Artifact] = ()
) -> Sealed:
    return await sealed(store, asks, await ended_flow(store, artifacts))


async def archive(asks: Asks, *flows: Sealed, bundle: str = BUNDLE) -> list[int]:
    """Archive flows; return their numbers in the register, in the order of their ids."""
    rows = await asks.fetch(
        ARCHIVE_FLOWS,
        [flow.flow_id for flow in flows],
        [flow.version for flow in flows],
        [flow.head for flow in flows],
        bundle,
        "Ada",
    )
    return [row["archive_no"] for row in sorted(rows, key=lambda row: row["flow_id"])]

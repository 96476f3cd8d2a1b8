"""Whether snapshots say what the log says: the hash of a snapshot does not keep anybody from writing a false one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

from chem_persistence.domain.instance import FlowInstance, empty_instance
from chem_persistence.domain.replay import replay_facts
from chem_persistence.domain.snapshot import SNAPSHOT_FORMAT, read_snapshot
from chem_persistence.domain.tampering import Finding, Tampering
from chem_persistence.errors import DefinitionMismatch, UnreadableEvent, UnreplayableEvent
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import call
from chem_persistence.postgres.read.flows import event_pages
from chem_persistence.postgres.read.rows import flow_facts, stored_snapshot
from chem_persistence.postgres.schema.statements import statement

__all__ = ["false_snapshots"]

READ_FACT_PAGE = statement("events/read_fact_page")
READ_SNAPSHOTS = statement("verification/read_snapshots")


PAGE_SIZE = 10


async def false_snapshots(
    provider: ConnectionProvider, flow_ids: Sequence[UUID] | None
) -> AsyncIterator[Finding]:
    """Replay each flow that has a snapshot, up to there, and give the snapshots that say something else.

    One that does not verify is no finding: every load ignores it.

    Raises:
        StoreUnavailable, StoreError: the log could not be read.
    """
    after = UUID(int=0)
    while rows := await _read_page(provider, after, flow_ids):
        for row in rows:
            snapshot = stored_snapshot(row)
            instance = read_snapshot(snapshot)
            if instance is not None and not await _is_true(
                provider, instance, snapshot.definition_hash
            ):
                detail = "it is not the state that the events lead to"
                yield Finding(snapshot.flow_id, snapshot.version, Tampering.SNAPSHOT_FALSE, detail)
        after = rows[-1]["flow_id"]


async def _is_true(
    provider: ConnectionProvider, instance: FlowInstance, definition_hash: str
) -> bool:
    flow_id, end = instance.id, instance.version
    replayed = empty_instance(flow_id, (slot.step_id for slot in instance.steps))
    try:
        async with aclosing(event_pages(provider, READ_FACT_PAGE, flow_id, -1, end)) as pages:
            async for first, rows in pages:
                replayed = replay_facts(replayed, flow_facts(rows, flow_id, first), definition_hash)
    except (UnreadableEvent, UnreplayableEvent, DefinitionMismatch):
        return False
    return replayed == instance


async def _read_page(
    provider: ConnectionProvider, after: UUID, flow_ids: Sequence[UUID] | None
) -> list[Any]:
    arguments = (after, SNAPSHOT_FORMAT, flow_ids, PAGE_SIZE)
    return await call(provider, lambda connection: connection.fetch(READ_SNAPSHOTS, *arguments))

"""Verification of snapshots by replay, since anyone can store one with a valid hash."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from uuid import UUID

from chem_persistence.domain.instance import FlowInstance, empty_instance
from chem_persistence.domain.replay import replay_facts
from chem_persistence.domain.snapshot import SNAPSHOT_FORMAT, read_snapshot
from chem_persistence.domain.tampering import Finding, Tampering
from chem_persistence.errors import (
    DefinitionMismatch,
    FlowArchived,
    UnreadableEvent,
    UnreplayableEvent,
)
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.flows import Reached, fact_pages
from chem_persistence.postgres.read.rows import stored_snapshot
from chem_persistence.postgres.schema.statements import statement

__all__ = ["false_snapshots"]

READ_SNAPSHOTS = statement("verification/read_snapshots")

SNAPSHOTS_PER_PAGE = 10


async def false_snapshots(
    provider: ConnectionProvider, flow_ids: Sequence[UUID] | None
) -> AsyncIterator[Finding]:
    """Replay each flow up to its snapshot, and yield the snapshots that hold another state.

    A snapshot whose hash is wrong is not a finding, since every load ignores it.

    Raises:
        StoreUnavailable, StoreError: the log could not be read.
    """
    session, after = Session(provider), UUID(int=0)
    while rows := await session.fetch(
        READ_SNAPSHOTS, after, SNAPSHOT_FORMAT, flow_ids, SNAPSHOTS_PER_PAGE
    ):
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
        async with aclosing(fact_pages(provider, flow_id, Reached(), end)) as pages:
            async for facts in pages:
                replayed = replay_facts(replayed, facts, definition_hash)
    except FlowArchived:  # since its snapshot was read
        return True
    except (UnreadableEvent, UnreplayableEvent, DefinitionMismatch):
        return False
    return replayed == instance

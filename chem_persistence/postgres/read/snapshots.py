"""Snapshots: read if they verify, and stored if the database permits it."""

import logging
from datetime import UTC, datetime
from uuid import UUID

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.domain.snapshot import SNAPSHOT_FORMAT, restore_snapshot, take_snapshot
from chem_persistence.errors import StoreError, StoreUnavailable
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import stored_snapshot
from chem_persistence.postgres.schema.statements import statement

__all__ = ["find_snapshot", "keep_snapshot"]

KEEP_SNAPSHOT = statement("snapshots/keep_snapshot")
READ_SNAPSHOT = statement("snapshots/read_snapshot")

_logger = logging.getLogger("chem_persistence.snapshots")


async def find_snapshot(
    provider: ConnectionProvider, flow_id: UUID, definition: FlowDefinition
) -> tuple[FlowInstance, bytes] | None:
    """Return the state in the flow's snapshot, and the link of the last event that it covers.

    None without a valid one for the definition. A snapshot that the role may not read counts as
    missing.

    Raises:
        StoreUnavailable: the database could not be reached.
    """
    try:
        rows = await Session(provider).fetch(
            READ_SNAPSHOT, flow_id, definition.definition_hash, SNAPSHOT_FORMAT
        )
    except StoreUnavailable:
        raise
    except StoreError as error:  # such as a role whose rights are older than the table
        _log(
            logging.INFO,
            "the snapshot of flow %s cannot be read (SQLSTATE %s)",
            flow_id,
            error.sqlstate,
        )
        return None
    if not rows:
        return None
    snapshot = stored_snapshot(rows[0])
    instance = restore_snapshot(snapshot, definition)
    if instance is None:
        _log(logging.WARNING, "the snapshot of flow %s does not verify: it is ignored", flow_id)
        return None
    return instance, rows[0]["chain_hash"]


async def keep_snapshot(
    provider: ConnectionProvider, instance: FlowInstance, definition: FlowDefinition
) -> None:
    """Store a state as the flow's snapshot, in place of the last one.

    A failure is only logged: the snapshot is a cache, which a read-only role and a standby cannot
    store.
    """
    snapshot = take_snapshot(instance, definition)
    row = (
        snapshot.flow_id,
        snapshot.version,
        snapshot.definition_hash,
        snapshot.format,
        snapshot.state,
        snapshot.state_hash,
        datetime.now(UTC),
    )
    try:
        await Session(provider).fetch(KEEP_SNAPSHOT, *row)
    except StoreError as error:
        _log(
            logging.INFO,
            "no snapshot of flow %s was stored (SQLSTATE %s)",
            instance.id,
            error.sqlstate,
        )


def _log(level: int, message: str, flow_id: UUID, *more: object) -> None:
    _logger.log(level, message, flow_id, *more, extra={"flow_id": str(flow_id)})

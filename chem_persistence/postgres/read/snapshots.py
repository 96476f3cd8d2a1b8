"""Snapshots in PostgreSQL: found when they fit the log, kept when the database lets us."""

import logging
from datetime import UTC, datetime
from uuid import UUID

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.domain.snapshot import SNAPSHOT_FORMAT, restore_snapshot, take_snapshot
from chem_persistence.errors import StoreError, StoreUnavailable
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import call
from chem_persistence.postgres.read.rows import stored_snapshot
from chem_persistence.postgres.schema.statements import statement

__all__ = ["find_snapshot", "keep_snapshot"]

KEEP_SNAPSHOT = statement("snapshots/keep_snapshot")
READ_SNAPSHOT = statement("snapshots/read_snapshot")


_logger = logging.getLogger("chem_persistence.snapshots")


async def find_snapshot(
    provider: ConnectionProvider, flow_id: UUID, definition: FlowDefinition
) -> FlowInstance | None:
    """Give the state in the flow's snapshot; None if there is none that verifies and fits the flow and the definition.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    arguments = (flow_id, definition.definition_hash, SNAPSHOT_FORMAT)
    try:
        rows = await call(provider, lambda connection: connection.fetch(READ_SNAPSHOT, *arguments))
    except StoreUnavailable:
        raise
    except (
        StoreError
    ) as error:  # such as a role that was granted its rights before there were snapshots
        _tell(
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
        _tell(logging.WARNING, "the snapshot of flow %s does not verify: it is ignored", flow_id)
    return instance


async def keep_snapshot(
    provider: ConnectionProvider, instance: FlowInstance, definition: FlowDefinition
) -> None:
    """Keep a state in place of the flow's last snapshot, if that can be done: a reader and a standby cannot."""
    snapshot = take_snapshot(instance, definition)
    arguments = (
        snapshot.flow_id,
        snapshot.version,
        snapshot.definition_hash,
        snapshot.format,
        snapshot.state,
        snapshot.state_hash,
        datetime.now(UTC),
    )
    try:
        await call(provider, lambda connection: connection.execute(KEEP_SNAPSHOT, *arguments))
    except StoreError as error:
        _tell(
            logging.INFO,
            "no snapshot of flow %s was kept (SQLSTATE %s)",
            instance.id,
            error.sqlstate,
        )


def _tell(level: int, message: str, flow_id: UUID, *more: object) -> None:
    _logger.log(level, message, flow_id, *more, extra={"flow_id": str(flow_id)})

"""What a worker reports of a flow that it no longer holds."""

import logging

from chem_persistence.domain.events import FlowCancelled
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.errors import ChemPersistenceError, ConcurrencyConflict, StaleLease
from chem_persistence.store.ports import EventStore
from chem_persistence.telemetry.hooks import count_lease_loss

__all__ = ["report_dropped"]

_logger = logging.getLogger("chem_persistence.worker")


async def report_dropped(
    store: EventStore,
    instance: FlowInstance,
    definition_hash: str,
    error: StaleLease | ConcurrencyConflict,
) -> None:
    """Report why a flow was dropped, and count the loss of its lease.

    A flow that somebody has cancelled with an event has no lease any more, which is no loss.
    """
    flow_id, fields = instance.id, {"flow_id": str(instance.id)}
    if isinstance(error, StaleLease):
        if await _was_cancelled(store, instance):
            _logger.info("flow %s was cancelled while it ran", flow_id, extra=fields)
            return
        count_lease_loss(definition_hash)
    _logger.warning("flow %s is dropped: %s", flow_id, error, extra=fields)


async def _was_cancelled(store: EventStore, instance: FlowInstance) -> bool:
    try:
        events = await store.list(instance.id, after_version=instance.version - 1)
    except ChemPersistenceError:  # then nobody knows; the count says that something was lost
        return False
    return any(isinstance(event.kind, FlowCancelled) for event in events)

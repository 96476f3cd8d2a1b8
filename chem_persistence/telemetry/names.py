"""The names of attributes: those of OpenTelemetry's semantic conventions, others with our prefix.

Sources: OpenTelemetry semantic conventions 1.44, "Database client spans", "Database client
metrics" and "Error".
"""

from typing import Final

__all__ = [
    "APPENDS",
    "ATTEMPT",
    "BACKLOG_STATE",
    "COLLECTION",
    "CONSUMER",
    "DEFINITION_HASH",
    "ERROR_TYPE",
    "EVENTS",
    "FLOW_ID",
    "OPERATION",
    "OPERATION_BATCH_SIZE",
    "POOL_NAME",
    "POOL_STATE",
    "QUEUE_STATE",
    "RESPONSE_STATUS_CODE",
    "RETRY_CAUSE",
    "RETRY_NUMBER",
    "RETURNED_ROWS",
    "SCOPE",
    "STEP_ID",
    "STEP_INDEX",
    "STORED_PROCEDURE",
    "SYSTEM",
    "VERSION",
]

SCOPE: Final = "chem_persistence"

FLOW_ID: Final = "chem_persistence.flow.id"
DEFINITION_HASH: Final = "chem_persistence.flow.definition_hash"
VERSION: Final = "chem_persistence.flow.version"
"""The number of events of the flow before it was run."""

STEP_ID: Final = "chem_persistence.step.id"
STEP_INDEX: Final = "chem_persistence.step.index"
ATTEMPT: Final = "chem_persistence.step.attempt"

EVENTS: Final = "chem_persistence.events"
APPENDS: Final = "chem_persistence.appends"
RETRY_CAUSE: Final = "chem_persistence.retry.cause"
RETRY_NUMBER: Final = "chem_persistence.retry.number"
QUEUE_STATE: Final = "chem_persistence.append.queue.state"

BACKLOG_STATE: Final = "chem_persistence.worker.backlog.state"
CONSUMER: Final = "chem_persistence.consumer.name"

ERROR_TYPE: Final = "error.type"
SYSTEM: Final = "db.system.name"
STORED_PROCEDURE: Final = "db.stored_procedure.name"
OPERATION: Final = "db.operation.name"
COLLECTION: Final = "db.collection.name"
OPERATION_BATCH_SIZE: Final = "db.operation.batch.size"
RESPONSE_STATUS_CODE: Final = "db.response.status_code"
RETURNED_ROWS: Final = "db.response.returned_rows"
POOL_NAME: Final = "db.client.connection.pool.name"
POOL_STATE: Final = "db.client.connection.state"

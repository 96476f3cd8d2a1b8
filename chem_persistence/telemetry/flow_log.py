"""The log records of the engine, which have the flow and the step as fields.

A program formats them as `%(flow_id)s` and `%(step_id)s`. Inputs, outputs and error messages are
never logged.
"""

import logging
from uuid import UUID

__all__ = [
    "log_completed",
    "log_goes_on",
    "log_step_failed",
    "log_step_finished",
    "log_step_not_stored",
    "log_step_retry",
    "log_step_reused",
]

_logger = logging.getLogger("chem_persistence.engine")


def log_goes_on(flow_id: UUID, version: int) -> None:
    """Log that a flow begins, or goes on after `version` events."""
    if not _logger.isEnabledFor(logging.INFO):
        return
    message = "flow %s goes on" if version else "flow %s begins"
    _logger.info(message, flow_id, extra={"flow_id": str(flow_id), "version": version})


def log_completed(flow_id: UUID) -> None:
    """Log that a flow is completed."""
    if not _logger.isEnabledFor(logging.INFO):
        return
    _logger.info("flow %s is completed", flow_id, extra={"flow_id": str(flow_id)})


def log_step_finished(flow_id: UUID, step_id: str, attempt: int) -> None:
    """Log that the outcome of a step is stored."""
    if not _logger.isEnabledFor(logging.DEBUG):  # each step comes by here
        return
    fields = {"flow_id": str(flow_id), "step_id": step_id, "attempt": attempt}
    _logger.debug("flow %s: step %r finished", flow_id, step_id, extra=fields)


def log_step_failed(flow_id: UUID, step_id: str, attempt: int, error_class: str) -> None:
    """Log that the failure of a step is stored."""
    fields = {
        "flow_id": str(flow_id),
        "step_id": step_id,
        "attempt": attempt,
        "error_type": error_class,
    }
    _logger.warning("flow %s: step %r raised %s", flow_id, step_id, error_class, extra=fields)


def log_step_not_stored(flow_id: UUID, step_id: str, attempt: int) -> None:
    """Log that an attempt ended, and its outcome was refused, because the flow has new events."""
    fields = {"flow_id": str(flow_id), "step_id": step_id, "attempt": attempt}
    _logger.warning(
        "flow %s: the outcome of attempt %d at step %r is not stored: another writer went on with "
        "the flow",
        flow_id,
        attempt,
        step_id,
        extra=fields,
    )


def log_step_retry(flow_id: UUID, step_id: str, number: int) -> None:
    """Log that the retry of a failed step is scheduled."""
    fields = {"flow_id": str(flow_id), "step_id": step_id, "retry": number}
    _logger.info(
        "flow %s: retry %d of step %r is scheduled", flow_id, number, step_id, extra=fields
    )


def log_step_reused(flow_id: UUID, step_id: str, origin: UUID) -> None:
    """Log that a step has taken over the result of another flow, which is stored."""
    fields = {"flow_id": str(flow_id), "step_id": step_id, "origin": str(origin)}
    _logger.debug("flow %s: step %r took over a result", flow_id, step_id, extra=fields)

"""What the rest of the library calls: work goes in, and comes out to be awaited, with an observer or as it was."""

from collections.abc import Awaitable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

from chem_persistence.telemetry.failures import failure_cause
from chem_persistence.telemetry.listening import look, observer
from chem_persistence.telemetry.names import (
    ATTEMPT,
    DEFINITION_HASH,
    ERROR_TYPE,
    FLOW_ID,
    RETRY_CAUSE,
    RETRY_NUMBER,
    STEP_ID,
    STEP_INDEX,
    VERSION,
)

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from chem_persistence.telemetry.observer import QueuedAppend

__all__ = [
    "count_retry",
    "count_step_retry",
    "current_span",
    "current_trace",
    "describe_flow",
    "link_to_first_trace",
    "watched_append",
    "watched_batch",
    "watched_borrow",
    "watched_flow",
    "watched_read",
    "watched_replay",
    "watched_retry",
    "watched_schedule_retry",
    "watched_step",
]

Result = TypeVar("Result")
Rows = TypeVar("Rows", bound=Sized)

Told: TypeAlias = Mapping[str, str | int]

_NO_TRACE: Mapping[str, str] = {}


# ---- the store


def current_trace() -> Mapping[str, str]:
    """Give the metadata that say in which trace an event is appended; empty outside a trace."""
    seen = observer()
    return _NO_TRACE if seen is None else seen.traceparent()


def current_span() -> "SpanContext | None":
    """Give what names the present span, for a batch that is stored on its behalf."""
    seen = observer()
    return None if seen is None else seen.span_context()


def watched_append(work: Awaitable[Result], flow_id: UUID, events: int) -> Awaitable[Result]:
    """Watch an append, as its caller sees it."""
    seen = observer()
    return work if seen is None else seen.append(work, flow_id, events)


def watched_batch(work: Awaitable[Result], appends: "Sequence[QueuedAppend]") -> Awaitable[Result]:
    """Watch the transaction that appends share."""
    seen = observer()
    return work if seen is None else seen.batch(work, appends)


def watched_borrow(work: Awaitable[Result], pool: str) -> Awaitable[Result]:
    """Watch how long it takes to get a connection of a pool."""
    seen = observer()
    return work if seen is None else seen.borrow(work, pool)


def watched_read(
    work: Awaitable[Rows], flow_id: UUID | None = None, *, postgresql: bool = True
) -> Awaitable[Rows]:
    """Watch the reading of a page of events."""
    seen = observer()
    return work if seen is None else seen.read(work, flow_id, postgresql=postgresql)


def watched_replay(work: Awaitable[Result], flow_id: UUID) -> Awaitable[Result]:
    """Watch the reading and replaying of a flow."""
    seen = observer()
    if seen is None:
        return work
    attributes = {FLOW_ID: str(flow_id)}
    return seen.watch(work, "chem_persistence.replay", attributes, seen.instruments.replay_duration)


def watched_retry(work: Awaitable[Result], number: int, failed: Exception) -> Awaitable[Result]:
    """Watch an attempt that follows one that `failed`; the first retry has the number 1."""
    seen = observer()
    if seen is None:
        return work
    attributes: Told = {RETRY_NUMBER: number, RETRY_CAUSE: failure_cause(failed)}
    return seen.watch(work, "chem_persistence.retry", attributes)


def count_retry(number: int, failed: Exception) -> None:
    """Count a retry by what `failed`, before it is tried."""
    seen = observer()
    if seen is not None:
        seen.instruments.retries.add(1, {ERROR_TYPE: failure_cause(failed), RETRY_NUMBER: number})


# ---- the engine


def watched_flow(work: Awaitable[Result], flow_id: UUID | None) -> Awaitable[Result]:
    """Watch a flow that begins or goes on."""
    seen = look()
    if seen is None:
        return work
    attributes = {} if flow_id is None else {FLOW_ID: str(flow_id)}
    return seen.watch(work, "chem_persistence.flow", attributes)


def watched_schedule_retry(work: Awaitable[Result], flow_id: UUID) -> Awaitable[Result]:
    """Watch the scheduling of a failed step's retry."""
    seen = look()
    if seen is None:
        return work
    return seen.watch(work, "chem_persistence.schedule_retry", {FLOW_ID: str(flow_id)})


def describe_flow(flow_id: UUID, definition_hash: str, version: int) -> bool:
    """Say which flow it is that is watched, and how many events it had; False if nobody watches."""
    seen = observer()
    if seen is None:
        return False
    seen.describe({FLOW_ID: str(flow_id), DEFINITION_HASH: definition_hash, VERSION: version})
    return True


def link_to_first_trace(metadata: Mapping[str, Any]) -> None:
    """Link a flow that goes on to the trace that its first event's metadata name."""
    seen = observer()
    if seen is not None:
        seen.link(metadata)


def watched_step(
    work: Awaitable[Result], flow_id: UUID, index: int, step_id: str, attempt: int
) -> Awaitable[Result]:
    """Watch one attempt at a step, with its appends."""
    seen = observer()
    if seen is None:
        return work
    attributes: Told = {FLOW_ID: str(flow_id), STEP_INDEX: index, STEP_ID: step_id, ATTEMPT: attempt}
    duration = seen.instruments.step_duration
    return seen.watch(work, "chem_persistence.step", attributes, duration, {STEP_ID: step_id})


def count_step_retry(step_id: str, number: int, failed: str) -> None:
    """Count a retry of a step, by the class of the error that it `failed` with."""
    seen = observer()
    if seen is not None:
        labels: Told = {STEP_ID: step_id, ERROR_TYPE: failed, RETRY_NUMBER: number}
        seen.instruments.step_retries.add(1, labels)

"""The functions that the rest of the library calls to have its work observed.

Each takes an awaitable and returns one: the same, unless an observer is found, which wraps it in a
span and measures it.
"""

# each annotation that is evaluated would add 20 us to the import of the library
from __future__ import annotations

import sys
from collections.abc import Awaitable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

from chem_persistence.telemetry.listening import API, found, look, observer

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from chem_persistence.telemetry.observer import Observer, QueuedAppend

__all__ = [
    "Origin",
    "count_claim",
    "count_lease_loss",
    "count_retry",
    "count_step_retry",
    "current_span",
    "current_traceparent",
    "describe_flow",
    "is_observed",
    "link_to_trace",
    "watched_append",
    "watched_appends",
    "watched_batch",
    "watched_borrow",
    "watched_flow",
    "watched_read",
    "watched_replay",
    "watched_retry",
    "watched_schedule_retry",
    "watched_step",
]

Origin: TypeAlias = "SpanContext | None"
"""The span of the caller of an append, if somebody listens."""

Result = TypeVar("Result")
Answers = TypeVar("Answers", bound=Sequence[object])
"""The answers to the appends of one call; that of a refused one is its error."""
Outcomes = TypeVar("Outcomes", bound=Mapping[Any, object])
"""The outcomes of the appends of a batch; that of a refused one is its `error`."""
Rows = TypeVar("Rows", bound=Sized)


# ---- the store: an append and a read look for an observer, their parts use the one that was found


def current_traceparent() -> str | None:
    """Return the trace context of an append as a `traceparent`; None outside of a trace.

    Its format is that of W3C Trace Context, section 3.2.
    """
    seen = _observer()
    return None if seen is None else seen.traceparent()


def current_span() -> Origin:
    """Return the context of the current span, to which the span of a batch is linked."""
    seen = found.observer
    return None if seen is None else seen.span_context()


def watched_append(work: Awaitable[Result], flow_id: UUID, events: int) -> Awaitable[Result]:
    """Observe an append as its caller awaits it."""
    seen = found.observer
    return work if seen is None else seen.append(work, flow_id, events)


def watched_appends(work: Awaitable[Answers], appends: int, events: int) -> Awaitable[Answers]:
    """Observe so many appends with so many events together, which one caller awaits."""
    seen = found.observer
    return work if seen is None else seen.append_many(work, appends, events)


def watched_batch(
    work: Awaitable[Outcomes], appends: Sequence[QueuedAppend]
) -> Awaitable[Outcomes]:
    """Observe the transaction that appends share."""
    seen = found.observer
    return work if seen is None or not appends else seen.batch(work, appends)


def watched_borrow(work: Awaitable[Result], pool: str) -> Awaitable[Result]:
    """Observe the wait for a connection of a pool."""
    seen = found.observer
    return work if seen is None else seen.borrow(work, pool)


def watched_read(
    work: Awaitable[Rows], flow_id: UUID | None = None, *, postgresql: bool = True
) -> Awaitable[Rows]:
    """Observe the reading of a page of events, of one flow or (None) of several."""
    seen = _observer()
    return work if seen is None else seen.read(work, flow_id, postgresql=postgresql)


def watched_replay(work: Awaitable[Result], flow_id: UUID) -> Awaitable[Result]:
    """Observe the reading and replaying of a flow."""
    seen = found.observer
    return work if seen is None else seen.replay(work, flow_id)


def watched_retry(work: Awaitable[Result], number: int, failed: Exception) -> Awaitable[Result]:
    """Observe a retry of a database call that `failed`; the first has the number 1."""
    seen = found.observer
    return work if seen is None else seen.retry(work, number, failed)


def count_retry(number: int, failed: Exception) -> None:
    """Count a retry by the error that `failed`, before it is tried."""
    seen = found.observer
    if seen is not None:
        seen.count_retry(number, failed)


def _observer() -> Observer | None:
    """Return the observer; without an import of OpenTelemetry's API there can be none."""
    return observer() if found.observer is not None or API in sys.modules else None


# ---- the engine


def watched_flow(work: Awaitable[Result], flow_id: UUID | None) -> Awaitable[Result]:
    """Observe the run of a flow; its id is None while it is not known."""
    seen = look()
    return work if seen is None else seen.flow(work, "chem_persistence.flow", flow_id)


def watched_schedule_retry(work: Awaitable[Result], flow_id: UUID) -> Awaitable[Result]:
    """Observe the scheduling of the retry of a failed step."""
    seen = look()
    return work if seen is None else seen.flow(work, "chem_persistence.schedule_retry", flow_id)


def describe_flow(flow_id: UUID, definition_hash: str, version: int) -> bool:
    """Add the flow and its number of events to the current span; return whether one is observed."""
    seen = found.observer
    if seen is None:
        return False
    seen.describe_flow(flow_id, definition_hash, version)
    return True


def link_to_trace(traceparent: str) -> None:
    """Link the current span to the trace of an earlier event."""
    seen = found.observer
    if seen is not None:
        seen.link(traceparent)


def watched_step(
    work: Awaitable[Result],
    flow_id: UUID,
    index: int,
    step_id: str,
    attempt: int,
    *,
    definition_hash: str | None = None,
) -> Awaitable[Result]:
    """Observe one attempt at a step, with its appends; a worker names the flow's definition."""
    seen = found.observer
    if seen is None:
        return work
    return seen.step(work, flow_id, index, step_id, attempt, definition_hash=definition_hash)


# ---- workers


def is_observed() -> bool:
    """Return whether the program has set a provider."""
    return look() is not None


def count_claim(definition_hash: str, *, is_take_over: bool) -> None:
    """Count a flow that a worker has claimed, and whether another one had begun its step."""
    seen = look()
    if seen is not None:
        seen.count_claim(definition_hash, is_take_over=is_take_over)


def count_lease_loss(definition_hash: str) -> None:
    """Count a flow whose lease a worker has lost."""
    seen = found.observer
    if seen is not None:
        seen.count_lease_loss(definition_hash)


def count_step_retry(step_id: str, number: int, error_class: str) -> None:
    """Count a retry of a step, by the class of the error that it failed with."""
    seen = found.observer
    if seen is not None:
        seen.count_step_retry(step_id, number, error_class)

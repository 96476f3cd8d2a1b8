"""Who and why: metadata of every append inside a scope.

The names are those that an auditor asks for (21 CFR 11.10(e); ALCOA+: attributable); any other key
may be added. The metadata is part of the event and of the hash chain, never of a fingerprint.
Inside a trace the W3C `traceparent` is added.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from chem_persistence.telemetry.hooks import current_traceparent

__all__ = [
    "PROGRAM",
    "RUN_BY",
    "attributed",
    "current_scope",
    "event_metadata",
    "trace_of",
    "untraced",
]

_TRACE = "traceparent"
"""W3C Trace Context, section 3.2: the origin of an event, which is not part of its identity."""

RUN_BY = "chem_persistence.run_by"
"""The key of the metadata of a flow's first event that says that a program runs it by itself."""

PROGRAM = "program"
"""The value of `RUN_BY`."""

current_scope: ContextVar[Mapping[str, Any]] = ContextVar("chem_persistence_attribution")


@contextmanager
def event_metadata(
    *,
    actor: str | None = None,
    on_behalf_of: str | None = None,
    reason: str | None = None,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    **more: Any,
) -> Iterator[Mapping[str, Any]]:
    """Add metadata to every event appended inside the block, by this task and those it starts.

    Scopes nest: an inner value replaces the outer one, None keeps it. The metadata of an append
    itself replaces both. Yields the metadata that holds inside the block.
    """
    named = {
        "actor": actor,
        "on_behalf_of": on_behalf_of,
        "reason": reason,
        "correlation_id": correlation_id,
        "causation_id": causation_id,
    }
    given = {key: value for key, value in (named | more).items() if value is not None}
    token = current_scope.set({**current_scope.get({}), **given})
    try:
        yield current_scope.get()
    finally:
        current_scope.reset(token)


def attributed(metadata: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return an append's metadata with those of its scope and of its trace added."""
    scope, trace = current_scope.get({}), current_traceparent()
    if trace is not None:
        scope = {_TRACE: trace, **scope}
    return {**scope, **(metadata or {})} if scope else metadata


def untraced(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return metadata without the trace, in which a repeated append may differ from the first."""
    return {key: value for key, value in metadata.items() if key != _TRACE}


def trace_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the trace in which an event was appended, or None."""
    trace = metadata.get(_TRACE)
    return trace if isinstance(trace, str) else None

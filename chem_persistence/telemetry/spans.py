"""Spans; of an error they record the class and the SQLSTATE, never the message."""

from asyncio import CancelledError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from chem_persistence.errors import FlowAwaitsUser, FlowIsWaiting, StepRaised
from chem_persistence.telemetry.failures import error_class
from chem_persistence.telemetry.names import ERROR_TYPE, RESPONSE_STATUS_CODE

__all__ = [
    "Attributes",
    "describe_span",
    "fail_span",
    "link_span",
    "opened_span",
    "span_context",
    "traceparent",
]

Attributes: TypeAlias = Mapping[str, AttributeValue]

_TRACEPARENT = "traceparent"
_propagator = TraceContextTextMapPropagator()


@contextmanager
def opened_span(
    tracer: Tracer,
    name: str,
    attributes: Attributes,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    duration: Histogram | None = None,
    labels: Attributes | None = None,
    parent: SpanContext | None = None,
    origins: Sequence[SpanContext] = (),
) -> Iterator[Span]:
    """Open a span for the length of a block, and record the duration of the block with `labels`.

    Its parent is the current span unless one is given; it is linked to its `origins`.
    """
    begun = perf_counter()
    told = dict(labels or {})
    with tracer.start_as_current_span(
        name,
        None if parent is None else trace.set_span_in_context(NonRecordingSpan(parent)),
        kind,
        attributes,
        [Link(origin) for origin in origins],
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            fail_span(span, error)
            told[ERROR_TYPE] = error_class(_raised(error))
            raise
        finally:
            if duration is not None:
                duration.record(perf_counter() - begun, told)


def fail_span(span: Span, error: BaseException) -> None:
    """Record a failure; a cancellation, a question to a person and a wait are not errors."""
    span.set_attribute(ERROR_TYPE, error_class(_raised(error)))
    if sqlstate := getattr(error, "sqlstate", None):
        span.set_attribute(RESPONSE_STATUS_CODE, sqlstate)
    if not isinstance(error, CancelledError | FlowAwaitsUser | FlowIsWaiting):
        span.set_status(Status(StatusCode.ERROR))


def _raised(error: BaseException) -> BaseException:
    """Return the error that the code of a step raised, or the error itself."""
    return error.__cause__ or error if isinstance(error, StepRaised) else error


def describe_span(attributes: Attributes) -> None:
    """Add attributes to the current span."""
    trace.get_current_span().set_attributes(attributes)


def span_context() -> SpanContext | None:
    """Return the context of the current span; None if there is none."""
    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None


def traceparent() -> str | None:
    """Return the current span as a `traceparent` (W3C Trace Context, section 3.2), or None."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(_TRACEPARENT)


def link_span(named: str) -> None:
    """Link the current span to that of a `traceparent`, if it is valid."""
    context = _propagator.extract({_TRACEPARENT: named}, Context())
    origin = trace.get_current_span(context).get_span_context()
    if origin.is_valid:
        trace.get_current_span().add_link(origin)

"""Who is told: spans and metrics of the work that the library does.

Only the API of OpenTelemetry is used; where they go is the program's to say. No payload goes in, and of an error only its class.
"""

from collections.abc import Awaitable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Protocol, TypeVar
from uuid import UUID

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from chem_persistence.errors import ConcurrencyConflict, StoreError
from chem_persistence.telemetry import names
from chem_persistence.telemetry.failures import failure_attributes, is_expected
from chem_persistence.telemetry.instruments import Instruments
from chem_persistence.telemetry.trace_context import TRACEPARENT

__all__ = ["Observer", "QueuedAppend", "is_heard"]

Result = TypeVar("Result")
Rows = TypeVar("Rows", bound=Sized)
Attributes = Mapping[str, AttributeValue]

_POSTGRESQL: Attributes = {names.SYSTEM: "postgresql"}
_propagator = TraceContextTextMapPropagator()


def is_heard() -> bool:
    """Say whether the program has set a provider: those that the API itself brings listen to nothing."""
    return _is_set(trace.get_tracer_provider()) or _is_set(metrics.get_meter_provider())


def _is_set(provider: object) -> bool:
    return not type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


class QueuedAppend(Protocol):
    """An append that shares a transaction with others; `origin` is the span of its caller."""

    origin: SpanContext | None
    answer: Any

    @property
    def event_count(self) -> int:
        """How many events it has."""


class Observer:
    """Tells the providers given, or else those that the program has set, of each piece of `work` that it awaits."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(names.SCOPE, tracer_provider=tracer_provider)
        self.instruments = Instruments(metrics.get_meter(names.SCOPE, meter_provider=meter_provider))

    @staticmethod
    def span_context() -> SpanContext | None:
        """Give what names the present span; None if there is none."""
        context = trace.get_current_span().get_span_context()
        return context if context.is_valid else None

    @staticmethod
    def traceparent() -> Mapping[str, str]:
        """Give the metadata that say in which trace an event was appended; none outside a trace."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return {TRACEPARENT: carrier[TRACEPARENT]} if carrier else carrier

    @staticmethod
    def describe(attributes: Attributes) -> None:
        """Say more of the present span."""
        trace.get_current_span().set_attributes(attributes)

    @staticmethod
    def link(metadata: Mapping[str, Any]) -> None:
        """Link the present span to the trace of the event that has these metadata."""
        carrier = {TRACEPARENT: str(metadata.get(TRACEPARENT, ""))}
        origin = trace.get_current_span(_propagator.extract(carrier, Context())).get_span_context()
        if origin.is_valid:
            trace.get_current_span().add_link(origin)

    async def watch(
        self,
        work: Awaitable[Result],
        name: str,
        attributes: Attributes,
        duration: Histogram | None = None,
        labels: Attributes | None = None,
    ) -> Result:
        """Await work in a span of its own; `labels` go with its duration."""
        with self._span(name, attributes, duration, labels):
            return await work

    async def append(self, work: Awaitable[Result], flow_id: UUID, events: int) -> Result:
        """Await an append."""
        attributes: Attributes = {names.FLOW_ID: str(flow_id), names.EVENTS: events}
        with self._span("chem_persistence.append", attributes, self.instruments.append_duration):
            try:
                return await work
            except ConcurrencyConflict:
                self.instruments.conflicts.add(1)
                raise

    async def batch(self, work: Awaitable[Result], appends: Sequence[QueuedAppend]) -> Result:
        """Await the transaction that stores appends.

        It is in the trace of a lone caller, and in one of its own when there are several; it is linked to all of them.
        """
        self.instruments.batch_size.record(len(appends))
        attributes: dict[str, AttributeValue] = {
            **_POSTGRESQL,
            names.STORED_PROCEDURE: "append_events",
            names.APPENDS: len(appends),
            names.EVENTS: sum(append.event_count for append in appends),
        }
        if len(appends) > 1:
            attributes[names.OPERATION_BATCH_SIZE] = len(appends)
        origins = [append.origin for append in appends if append.origin is not None]
        parent = (
            trace.set_span_in_context(NonRecordingSpan(origins[0]))
            if len(appends) == len(origins) == 1
            else None
        )
        with self._span(
            "chem_persistence.append_batch",
            attributes,
            kind=SpanKind.CLIENT,
            context=parent,
            links=[Link(origin) for origin in origins],
        ) as span:
            result = await work
            refused = next(
                (append.answer for append in appends if isinstance(append.answer, StoreError)), None
            )
            if refused is not None:
                _fail(span, refused)
            return result

    async def read(self, work: Awaitable[Rows], flow_id: UUID | None, *, postgresql: bool) -> Rows:
        """Await a page of events, of one flow or (None) of several."""
        attributes = dict(_POSTGRESQL) if postgresql else {}
        if flow_id is not None:
            attributes[names.FLOW_ID] = str(flow_id)
        kind = SpanKind.CLIENT if postgresql else SpanKind.INTERNAL
        with self._span("chem_persistence.list", attributes, kind=kind) as span:
            rows = await work
            span.set_attribute(names.RETURNED_ROWS, len(rows))
            return rows

    async def borrow(self, work: Awaitable[Result], pool: str) -> Result:
        """Await a connection."""
        begun = perf_counter()
        try:
            return await work
        finally:
            self.instruments.wait_time.record(perf_counter() - begun, {names.POOL_NAME: pool})

    @contextmanager
    def _span(
        self,
        name: str,
        attributes: Attributes,
        duration: Histogram | None = None,
        labels: Attributes | None = None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        context: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Iterator[Span]:
        begun = perf_counter()
        told = dict(labels or {})
        with self._tracer.start_as_current_span(
            name,
            context,
            kind,
            attributes,
            links,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                _fail(span, error)
                told[names.ERROR_TYPE] = failure_attributes(error)[names.ERROR_TYPE]
                raise
            finally:
                if duration is not None:
                    duration.record(perf_counter() - begun, told)


def _fail(span: Span, error: BaseException) -> None:
    span.set_attributes(failure_attributes(error))
    if not is_expected(error):
        span.set_status(Status(StatusCode.ERROR))

"""The observer: it awaits pieces of `work`, with a span and metrics for each.

Only the API of OpenTelemetry is used; the program decides where spans and metrics are sent.
"""

from collections.abc import Awaitable, Mapping, Sequence, Sized
from time import perf_counter
from typing import Any, Protocol, TypeVar
from uuid import UUID

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanContext, SpanKind

from chem_persistence.errors import ConcurrencyConflict, StoreError
from chem_persistence.telemetry import names
from chem_persistence.telemetry.failures import error_class, failure_cause
from chem_persistence.telemetry.instruments import Instruments
from chem_persistence.telemetry.spans import (
    Attributes,
    describe_span,
    fail_span,
    link_span,
    opened_span,
    span_context,
    traceparent,
)

__all__ = ["Observer", "QueuedAppend", "is_heard"]

Result = TypeVar("Result")
Answers = TypeVar("Answers", bound=Sequence[object])
Outcomes = TypeVar("Outcomes", bound=Mapping[Any, object])
Rows = TypeVar("Rows", bound=Sized)

_APPEND: Attributes = {names.SYSTEM: "postgresql", names.STORED_PROCEDURE: "append_rows"}
_READ: Attributes = {
    names.SYSTEM: "postgresql",
    names.OPERATION: "SELECT",
    names.COLLECTION: "event_log",
}


def is_heard() -> bool:
    """Return whether the program has set a provider; those of the API itself record nothing."""
    return _is_set(trace.get_tracer_provider()) or _is_set(metrics.get_meter_provider())


def _is_set(provider: object) -> bool:
    return not type(provider).__module__.startswith(
        ("opentelemetry.trace", "opentelemetry.metrics")
    )


class QueuedAppend(Protocol):
    """An append that shares a transaction with others; `origin` is the span of its caller."""

    origin: SpanContext | None

    @property
    def event_count(self) -> int:
        """How many events it has."""


class Observer:
    """Records to the given providers, or else to those that the program has set."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(names.SCOPE, tracer_provider=tracer_provider)
        self._instruments = Instruments(
            metrics.get_meter(names.SCOPE, meter_provider=meter_provider)
        )

    span_context = staticmethod(span_context)
    traceparent = staticmethod(traceparent)
    link = staticmethod(link_span)

    # ---- the engine

    async def flow(self, work: Awaitable[Result], name: str, flow_id: UUID | None) -> Result:
        """Await the run of a flow; its id is None while it is not known."""
        attributes = {} if flow_id is None else {names.FLOW_ID: str(flow_id)}
        with opened_span(self._tracer, name, attributes):
            return await work

    @staticmethod
    def describe_flow(flow_id: UUID, definition_hash: str, version: int) -> None:
        """Add the flow to the current span."""
        described = {names.FLOW_ID: str(flow_id), names.DEFINITION_HASH: definition_hash}
        describe_span({**described, names.VERSION: version})

    async def step(
        self,
        work: Awaitable[Result],
        flow_id: UUID,
        index: int,
        step_id: str,
        attempt: int,
        *,
        definition_hash: str | None,
    ) -> Result:
        """Await an attempt at a step; a worker measures it by its definition as well."""
        labels: dict[str, str] = {names.STEP_ID: step_id}
        if definition_hash is not None:
            labels[names.DEFINITION_HASH] = definition_hash
        attributes: Attributes = {
            names.FLOW_ID: str(flow_id),
            names.STEP_INDEX: index,
            names.STEP_ID: step_id,
            names.ATTEMPT: attempt,
        }
        with opened_span(
            self._tracer,
            "chem_persistence.step",
            attributes,
            duration=self._instruments.step_duration,
            labels=labels,
        ):
            return await work

    def count_step_retry(self, step_id: str, number: int, error_class: str) -> None:
        """Count a retry of a step, which failed with an error of the class that its event names."""
        labels = {names.STEP_ID: step_id, names.ERROR_TYPE: error_class.removeprefix("builtins.")}
        self._instruments.step_retries.add(1, {**labels, names.RETRY_NUMBER: number})

    def count_claim(self, definition_hash: str, *, is_take_over: bool) -> None:
        """Count a flow that a worker has claimed."""
        labels = {names.DEFINITION_HASH: definition_hash}
        self._instruments.claims.add(1, labels)
        if is_take_over:
            self._instruments.take_overs.add(1, labels)

    def count_lease_loss(self, definition_hash: str) -> None:
        """Count a flow that a worker dropped, since it had lost the lease."""
        self._instruments.lease_losses.add(1, {names.DEFINITION_HASH: definition_hash})

    # ---- the store

    async def append(self, work: Awaitable[Result], flow_id: UUID, events: int) -> Result:
        """Await an append for its caller."""
        attributes: Attributes = {names.FLOW_ID: str(flow_id), names.EVENTS: events}
        duration = self._instruments.append_duration
        with opened_span(self._tracer, "chem_persistence.append", attributes, duration=duration):
            try:
                return await work
            except ConcurrencyConflict:
                self._instruments.conflicts.add(1)
                raise

    async def append_many(self, work: Awaitable[Answers], appends: int, events: int) -> Answers:
        """Await so many appends, with so many events together, for their one caller."""
        attributes: Attributes = {names.APPENDS: appends, names.EVENTS: events}
        begun = perf_counter()
        outcomes: Sequence[object] = ()
        try:
            with opened_span(self._tracer, "chem_persistence.append_many", attributes):
                answers = outcomes = await work
        except BaseException as error:
            outcomes = [error] * appends
            raise
        finally:
            self._measure_each(perf_counter() - begun, outcomes)
        return answers

    def _measure_each(self, seconds: float, outcomes: Sequence[object]) -> None:
        """Record the duration of appends that took equally long, and count the conflicts."""
        for outcome in outcomes:
            labels: Attributes = {}
            if isinstance(outcome, BaseException):
                labels = {names.ERROR_TYPE: error_class(outcome)}
            self._instruments.append_duration.record(seconds, labels)
            if isinstance(outcome, ConcurrencyConflict):
                self._instruments.conflicts.add(1)

    async def batch(self, work: Awaitable[Outcomes], appends: Sequence[QueuedAppend]) -> Outcomes:
        """Await the transaction that stores appends.

        Its span is in the trace of a single caller, who may await many. With several callers it is
        in a trace of its own, linked to all of theirs.
        """
        self._instruments.batch_size.record(len(appends))
        events = sum(append.event_count for append in appends)
        attributes: Attributes = {**_APPEND, names.APPENDS: len(appends), names.EVENTS: events}
        if len(appends) > 1:  # the convention has no batch of one
            attributes = {**attributes, names.OPERATION_BATCH_SIZE: len(appends)}
        named = [append.origin for append in appends if append.origin is not None]
        origins = list({(each.trace_id, each.span_id): each for each in named}.values())
        with opened_span(
            self._tracer,
            "chem_persistence.append_batch",
            attributes,
            kind=SpanKind.CLIENT,
            parent=origins[0] if len(origins) == 1 and len(named) == len(appends) else None,
            origins=origins,
        ) as span:
            outcomes = await work
            for append in appends:
                error = getattr(outcomes.get(append), "error", None)
                if isinstance(error, StoreError):
                    fail_span(span, error)
                    break
            return outcomes

    async def retry(self, work: Awaitable[Result], number: int, failed: Exception) -> Result:
        """Await a retry of a database call that `failed`."""
        attributes: Attributes = {
            names.RETRY_NUMBER: number,
            names.RETRY_CAUSE: failure_cause(failed),
        }
        with opened_span(self._tracer, "chem_persistence.retry", attributes):
            return await work

    def count_retry(self, number: int, failed: Exception) -> None:
        """Count a retry by the error that `failed`."""
        labels: Attributes = {names.ERROR_TYPE: failure_cause(failed), names.RETRY_NUMBER: number}
        self._instruments.retries.add(1, labels)

    async def read(self, work: Awaitable[Rows], flow_id: UUID | None, *, postgresql: bool) -> Rows:
        """Await a page of events, of one flow or (None) of several."""
        attributes = {} if flow_id is None else {names.FLOW_ID: str(flow_id)}
        with opened_span(
            self._tracer,
            "chem_persistence.list",
            {**_READ, **attributes} if postgresql else attributes,
            kind=SpanKind.CLIENT if postgresql else SpanKind.INTERNAL,
        ) as span:
            rows = await work
            span.set_attribute(names.RETURNED_ROWS, len(rows))
            return rows

    async def replay(self, work: Awaitable[Result], flow_id: UUID) -> Result:
        """Await the reading and replaying of a flow."""
        attributes = {names.FLOW_ID: str(flow_id)}
        duration = self._instruments.replay_duration
        with opened_span(self._tracer, "chem_persistence.replay", attributes, duration=duration):
            return await work

    async def borrow(self, work: Awaitable[Result], pool: str) -> Result:
        """Await a connection of a pool."""
        begun = perf_counter()
        try:
            return await work
        finally:
            self._instruments.wait_time.record(perf_counter() - begun, {names.POOL_NAME: pool})

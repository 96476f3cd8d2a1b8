"""Record the library's telemetry in memory, with the SDK of OpenTelemetry."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from chem_persistence.telemetry import listening
from chem_persistence.telemetry.observer import Observer

__all__ = ["Heard", "attributes_of", "context_of", "watching"]

PREFIX = "chem_persistence."


class Heard:
    """The telemetry that was recorded so far."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])
        self.observer = Observer(self.tracer_provider, self.meter_provider)

    @property
    def tracer(self) -> Tracer:
        """Return the program's own tracer."""
        return self.tracer_provider.get_tracer("program")

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Return the ended spans by their start, either all or those of one name."""
        spans = sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [span for span in spans if name is None or span.name == PREFIX + name]

    def ancestry(self, span: ReadableSpan) -> list[str]:
        """Return the names of a span and its ancestors, innermost first, without the prefix."""
        by_id = {context_of(other).span_id: other for other in self.spans()}
        names: list[str] = []
        while True:
            names.append(span.name.removeprefix(PREFIX))
            if span.parent is None:
                return names
            span = by_id[span.parent.span_id]

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data = self._reader.get_metrics_data()
        found: list[Any] = []
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                found += [
                    point
                    for metric in scope.metrics
                    if metric.name == name
                    for point in metric.data.data_points
                ]
        return found

    def metrics_json(self) -> str:
        """Return all metrics as JSON text."""
        data = self._reader.get_metrics_data()
        return "" if data is None else data.to_json()

    def values(self, name: str) -> dict[tuple[Any, ...], Any]:
        """Return a metric's values, or a histogram's counts, by the values of its attributes."""
        return {
            tuple(point.attributes[key] for key in sorted(point.attributes)): (
                point.count if isinstance(point, HistogramDataPoint) else point.value
            )
            for point in self.points(name)
        }


def context_of(span: ReadableSpan) -> Any:
    return span.get_span_context()


def attributes_of(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


@contextmanager
def watching() -> Iterator[Heard]:
    """Record telemetry until the block ends."""
    heard, before = Heard(), listening.found.observer
    listening.found.observer = heard.observer
    try:
        yield heard
    finally:
        listening.found.observer = before
        heard.tracer_provider.shutdown()
        heard.meter_provider.shutdown()

"""When the library reports to OpenTelemetry, in new processes with a program's providers."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]

FLOW = """
import asyncio, sys
from uuid import uuid4
import msgspec
import chem_persistence as chem
from chem_persistence.telemetry.listening import found, observer

class Molecule(msgspec.Struct):
    smiles: str

class Acquire(chem.Step[None, Molecule]):
    id = "acquire"
    kind = chem.StepKind.SOURCE
    async def run(self, _nothing, _context):
        return Molecule("CCO")

store = chem.InMemoryEventStore()
repository = chem.InMemoryFlowRepository(store)
engine = chem.FlowEngine.builder(store, repository).first_step(Acquire()).build()

def append():
    return asyncio.run(store.append_kind(uuid4(), chem.StepSignal(0, "acquire", "said")))

def run():
    flow_id = asyncio.run(engine.run_to_end())
    events = asyncio.run(store.list(flow_id))
    always = {"ran", "chem_persistence.run_by"}
    return {name for event in events for name in event.metadata} - always

def imported():
    return any(name.partition(".")[0] == "opentelemetry" for name in sys.modules)
"""

SDK = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, reader, is_metering = InMemorySpanExporter(), InMemoryMetricReader(), False

def set_tracer_provider():
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

def set_meter_provider():
    global is_metering
    is_metering = True
    metrics.set_meter_provider(MeterProvider([reader]))

def spans():
    spans = exporter.get_finished_spans()
    return sorted(span.name.removeprefix("chem_persistence.") for span in spans)

def measured():
    data = reader.get_metrics_data() if is_metering else None
    resources = [] if data is None else data.resource_metrics
    scopes = [scope for resource in resources for scope in resource.scope_metrics]
    return {metric.name for scope in scopes for metric in scope.metrics}
"""

MISSING = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
"""


def prints(*parts: str) -> str:
    program = "\n".join(parts)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_without_the_api_all_works_and_nothing_is_told() -> None:
    assert (
        prints(MISSING, FLOW, "append(); print(run(), observer(), imported())")
        == "set() None False"
    )


def test_the_api_is_not_imported_before_the_program_does() -> None:
    assert prints(FLOW, "append(); print(run(), observer(), imported())") == "set() None False"


def test_nothing_is_told_while_no_provider_is_set() -> None:
    assert (
        prints("import opentelemetry.trace", FLOW, "append(); print(run(), observer())")
        == "set() None"
    )


def test_providers_that_do_nothing_are_none() -> None:
    setting = "trace.set_tracer_provider(trace.NoOpTracerProvider())"
    assert (
        prints("from opentelemetry import trace", setting, FLOW, "print(run(), observer())")
        == "set() None"
    )


def test_a_provider_that_is_set_first_hears_everything() -> None:
    told = prints(
        SDK,
        "set_tracer_provider(); set_meter_provider()",
        FLOW,
        "append(); print(run()); print(spans())",
    )
    assert told == "{'traceparent'}\n['append', 'append', 'append', 'flow', 'list', 'step']"


def test_a_flow_that_begins_notices_at_once_that_a_provider_was_set() -> None:
    told = prints(FLOW, SDK, "append(); set_tracer_provider(); run(); print(spans())")
    assert told == "['append', 'append', 'flow', 'list', 'step']"


def test_an_append_notices_a_provider_that_was_set_late() -> None:
    waiting = "append(); set_tracer_provider(); append(); found.look_again = 0.0; append()"
    assert prints(FLOW, SDK, waiting, "print(spans())") == "['append']"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("set_tracer_provider()", "5 set()"),
        ("set_meter_provider()", "0 {'chem_persistence.step.duration'}"),
    ],
)
def test_one_provider_is_enough(setting: str, told: str) -> None:
    measuring = "print(len(spans()), measured() & {'chem_persistence.step.duration'})"
    assert prints(SDK, setting, FLOW, "run()", measuring) == told


def test_the_other_provider_may_follow() -> None:
    following = "set_meter_provider(); run(); set_tracer_provider(); run(); print(spans())"
    measuring = "print(measured() & {'chem_persistence.step.duration'})"
    told = "['append', 'append', 'flow', 'list', 'step']\n{'chem_persistence.step.duration'}"
    assert prints(SDK, FLOW, following, measuring) == told


def test_an_api_that_is_too_old_is_reported_once_and_does_no_harm() -> None:
    too_old = """
import logging
from opentelemetry.metrics import _internal
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s")

def create_histogram(self, name, unit="", description=""):
    raise AssertionError

_internal.NoOpMeter.create_histogram = create_histogram
MeterProvider.get_meter = lambda self, *args, **kwargs: _internal.NoOpMeter("old")
set_meter_provider()
print(run(), observer())
print(run(), observer())
"""
    warning = "chem_persistence.telemetry WARNING"
    assert prints(SDK, FLOW, too_old).splitlines() == [warning, "set() None", "set() None"]

"""The snippets on metrics, traces and logs run, and page and dashboard name what is exported."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, Metric

from chem_persistence import (
    ConcurrencyConflict,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepContext,
    StepRaised,
    StepStarted,
    build_pool,
)
from chem_persistence.telemetry import listening
from chem_persistence.telemetry.observer import Observer
from tests.support.faults.proxy import Fault, Strike, proxied
from tests.support.faults.watching import watching
from tests.support.flows.flows import initialized
from tests.support.flows.messages import sends_an_append
from tests.support.flows.steps import Mixture, engine_of
from tests.support.leases.desk import HOUR, Desk, postgres_desk
from tests.support.leases.staff import Act, Acts, chain, submit, working
from tests.support.servers.backends import Backend, postgres_backend

FOLDER = Path(__file__).parents[2] / "documentation" / "how-to"
HOW_TO = (FOLDER / "watch-it-in-grafana.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((FOLDER / "watch-it-in-grafana.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [target for panel in PANELS for target in panel["targets"]]

COUNTED_SOMETIMES = {"chem_persistence_worker_backlog", "chem_persistence_consumer_lag"}

OURS = r"\b(?:chem_persistence|db_client)_\w+"


def snippet(after: str) -> str:
    """Return the first Python block after a heading."""
    found = re.search(r"```python\n(.*?)```", HOW_TO[HOW_TO.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
async def exported(database_url: str) -> AsyncIterator[dict[str, Metric]]:
    """Return what Prometheus collects from a flow in which every counted thing happens."""
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)])
    listening.found.observer = Observer(None, provider)
    try:
        async with proxied(database_url) as proxy, await build_pool(proxy.url, max_size=2) as pool:
            store = await everything_happens(
                pool, lambda: proxy.arm(Fault(Strike.CUT_BEFORE, sends_an_append))
            )
            async with await build_pool(database_url) as own, postgres_desk(own) as desk:
                await everything_happens_to_workers(desk)
                async with consuming(desk), working(desk, [chain(Act(Acts()))]):
                    collected: dict[str, Metric] = {}
                    while not collected.keys() >= COUNTED_SOMETIMES:
                        await asyncio.sleep(0.005)
                        collected = {metric.name: metric for metric in registry.collect()}
                    yield collected
            await store.aclose()
    finally:
        listening.found.observer = None
        provider.shutdown()


async def everything_happens(pool: "asyncpg.Pool[asyncpg.Record]", disconnect: Any) -> PgEventStore:
    provider = PoolProvider(pool)
    store = PgEventStore(provider)

    def act(context: StepContext) -> None:
        disconnect()
        if context.attempt == 1:
            raise ValueError

    backend = Backend("watched", store, PgFlowRepository(provider), lambda: postgres_backend(""))
    engine = engine_of(backend, act)
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(input=Mixture("CCO.O"))
    flow_id = caught.value.flow_id
    with pytest.raises(ConcurrencyConflict):
        await store.append_kind(flow_id, initialized(), expected_version=0)
    await engine.schedule_retry(flow_id, reason="again")
    await engine.run_to_end(flow_id)
    return store


@asynccontextmanager
async def consuming(desk: Desk) -> AsyncIterator[None]:
    assert isinstance(desk.store, PgEventStore)

    async def consume(_events: object, _transaction: object) -> None:
        pass

    running = asyncio.create_task(desk.store.consumer("mirror", parts=1).run(consume))
    yield
    running.cancel()
    await asyncio.wait([running])


async def everything_happens_to_workers(desk: Desk) -> None:
    acts = Acts()
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    await desk.store.append_kind(flow_id, StepStarted(0, "act"))  # by a worker that died
    async with working(desk, [flow], at_once=1, lease=HOUR) as worker:  # it claims no other
        await acts.begun.wait()
        await desk.make_due(flow_id)
        await desk.take(flow_id)
        acts.may_end.set()
        while worker._running:
            await asyncio.sleep(0.005)


def names_of(metric: Metric) -> set[str]:
    return {sample.name for sample in metric.samples}


def ours(exported: dict[str, Metric]) -> dict[str, Metric]:
    return {name: metric for name, metric in exported.items() if re.match(OURS, name)}


async def test_the_dashboard_asks_for_what_is_exported_and_for_all_of_it(
    exported: dict[str, Metric],
) -> None:
    series = {name for metric in ours(exported).values() for name in names_of(metric)}
    labels = {
        label
        for metric in ours(exported).values()
        for sample in metric.samples
        for label in sample.labels
        if not label.startswith("otel_")
    }
    named = {name for target in TARGETS for name in re.findall(OURS, target["expr"])}
    assert named <= series | labels
    assert {
        name for name, metric in ours(exported).items() if not named & names_of(metric)
    } == set()
    by = {
        label
        for target in TARGETS
        for group in re.findall(r"by \((.*?)\)", target["expr"])
        for label in group.split(", ")
    }
    legends = {
        label
        for target in TARGETS
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
    }
    assert by - {"le"} == legends
    assert by <= labels


async def test_the_table_lists_what_is_exported(exported: dict[str, Metric]) -> None:
    rows = [
        line.split(" | ")
        for line in HOW_TO.splitlines()
        if re.match(r"\| `(chem_persistence|db)\.", line)
    ]
    described = {cells[1].strip("`"): cells for cells in rows}
    counters = {name for name, metric in exported.items() if metric.type == "counter"}
    assert set(described) == {
        f"{name}_total" if name in counters else name for name in ours(exported)
    }
    for in_prometheus, cells in described.items():
        metric = exported[in_prometheus.removesuffix("_total")]
        said = {label.replace(".", "_") for label in re.findall(r"`([\w.]+)`", cells[-1])}
        given = {
            label
            for sample in metric.samples
            for label in sample.labels
            if not label.startswith("otel_")
        }
        assert given - {"le"} == said - {"error_type"} or given - {"le"} == said, in_prometheus
        plain = cells[0].strip("| `").replace(".", "_")
        assert in_prometheus in {plain, f"{plain}_seconds", f"{plain}_total"}


def test_every_panel_of_the_dashboard_can_be_told_from_the_others() -> None:
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles) == 18
    assert "Sixteen panels" in HOW_TO
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(target["datasource"]["uid"] == "${datasource}" for target in TARGETS)


def test_the_program_of_the_how_to_serves_its_metrics() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asking = f"""
import asyncio, urllib.request, uuid
from chem_persistence import InMemoryEventStore, StepSignal
serve_metrics({port})
asyncio.run(InMemoryEventStore().append_kind(uuid.uuid4(), StepSignal(0, "acquire", "said")))
for line in urllib.request.urlopen("http://127.0.0.1:{port}/metrics").read().decode().splitlines():
    if line.startswith("chem_persistence_append_duration_seconds_count"):
        print(line.rpartition(" ")[2])
"""
    done = subprocess.run(
        [sys.executable, "-c", snippet("## 1.") + asking],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", "1.0\n")


def test_the_traces_of_the_how_to_are_exported() -> None:
    asking = """
import asyncio, uuid
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from chem_persistence import InMemoryEventStore, StepSignal
exporter = InMemorySpanExporter()
export_traces(exporter)
asyncio.run(InMemoryEventStore().append_kind(uuid.uuid4(), StepSignal(0, "acquire", "said")))
trace.get_tracer_provider().force_flush()
print([span.name for span in exporter.get_finished_spans()])
"""
    done = subprocess.run(
        [sys.executable, "-c", snippet("## Traces") + asking],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", "['chem_persistence.append']\n")


async def test_the_tree_of_spans_is_drawn_as_it_is(database_url: str) -> None:
    picture = HOW_TO[HOW_TO.index("\nchem_persistence.flow") :].partition("\n```")[0]
    drawing = re.findall(r"^([|` -]*)(chem_persistence\.\w+)", picture, re.MULTILINE)
    line_of_descent: list[str] = []
    drawn: set[tuple[str, ...]] = set()
    for indent, name in drawing:
        depth = len(indent) // 4
        line_of_descent[depth:] = [name.removeprefix("chem_persistence.")]
        drawn.add(tuple(reversed(line_of_descent)))
    with watching() as heard:
        async with proxied(database_url) as proxy, await build_pool(proxy.url, max_size=2) as pool:
            store = await everything_happens(
                pool, lambda: proxy.arm(Fault(Strike.CUT_BEFORE, sends_an_append))
            )
            await store.aclose()
        lineages = {tuple(heard.ancestry(span)) for span in heard.spans()}
    assert len(drawn) == 7
    assert drawn <= lineages

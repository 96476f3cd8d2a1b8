"""The plans of the read models' queries, on a log long enough to need its indexes.

`benchmarks` measures their time.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from benchmarks.data.grown import grow
from chem_persistence import (
    Artifact,
    FlowCancelled,
    FlowInitialized,
    PgEventStore,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionRequested,
    build_pool,
)
from chem_persistence.postgres.schema.statements import statement
from tests.support.flows.flows import DEFINITION, new_flow_id
from tests.support.servers.server import TestServer

pytestmark = pytest.mark.slow

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

EVENTS = 50_000
HASHES = [letter * 64 for letter in "abcdef"]
HASH = DEFINITION.definition_hash
ALL_LISTED = 1_000
"""How many of the newest flows a list looks at."""


def listing(
    definition: str | None = None,
    *,
    roots: bool = False,
    label: str | None = None,
    state: str | None = None,
    step: str | None = None,
    error: str | None = None,
) -> list[Any]:
    """Return the arguments of a list's first page, without how many flows it looks at."""
    return [None, None, definition, 50, roots, label, state, step, error, None]


NEW = [*listing(), 50]
ERROR = StepError("ValueError", "no")
USED: dict[str, tuple[list[Any], set[str]]] = {
    "flows/list_flows": (NEW, {"event_log_first_event_idx"}),
    "flows/list_root_flows": ([*listing(roots=True), 50], {"event_log_root_idx"}),
    "flows/list_flows_of_definition": (
        [*listing(HASHES[0], step="acquire"), ALL_LISTED],
        {"event_log_definition_idx", "workflow_step_executions_pkey"},
    ),
    "flows/list_root_flows_of_definition": (
        [*listing(HASHES[0], roots=True), ALL_LISTED],
        {"event_log_definition_idx"},
    ),
    "flows/list_labelled_flows": (
        [*listing(label="batch", state="failed"), ALL_LISTED],
        {"event_log_label_idx"},
    ),
    "flows/list_flows_by_state": (
        [*listing(HASH, label="batch", step="acquire"), [HASH]],
        {"event_log_raw_idx", "event_log_halt_idx", "workflow_step_executions_pkey"},
    ),
    "flows/list_failed_flows": (
        listing(roots=True, state="failed", error="ValueError"),
        {"workflow_step_executions_error_idx", "event_log_completed_idx"},
    ),
    "flows/count_candidates": (
        [100, "batch", "cancelled", HASH, 100, "ValueError", [HASH]],
        {"event_log_label_idx", "event_log_halt_idx", "workflow_step_executions_error_idx"},
    ),
    "flows/find_definitions_without_step": (
        [HASHES[:2], "acquire"],
        {"workflow_step_artifacts_pkey"},
    ),
    "executions/list_errors": ([None, 50], {"event_log_setback_idx"}),
    "provenance/read_producers": (
        [HASHES[1], 50],
        {"event_log_input_idx", "event_log_outputs_idx"},
    ),
    "provenance/read_consumers": ([HASHES[1], 50], {"event_log_input_idx"}),
    "provenance/read_sources": (
        [HASHES[:2], [], 50],
        {"event_log_input_idx", "event_log_outputs_idx"},
    ),
    "provenance/read_products": (
        [HASHES[:2], [], 50],
        {"event_log_input_idx", "workflow_step_artifacts_flow_idx"},
    ),
    "search/describe_flow_artifacts": (
        [UUID(int=1), HASHES[:2]],
        {"workflow_step_artifacts_flow_idx", "workflow_step_artifacts_pkey"},
    ),
    "doctor/count_failed_runs": ([1_001], {"event_log_flow_version_key"}),
    "doctor/find_due_run": ([HASHES[0]], {"event_log_flow_version_key"}),
    "doctor/find_failed_run": (
        [],
        {"event_log_flow_version_key", "workflow_step_executions_pkey"},
    ),
    "archive/list_ended": (
        [datetime(2100, 1, 1, tzinfo=UTC), UUID(int=0), 50],
        {"event_log_completed_idx", "event_log_halt_idx"},
    ),
    "artifacts/list_flow_artifacts": ([UUID(int=1)], {"workflow_step_artifacts_flow_idx"}),
    "outcomes/list_outcomes": (
        [None, None, None, None, None, None, None, None, None, 50],
        {"event_log_first_event_idx", "event_log_flow_version_key"},
    ),
    "outcomes/list_labelled_outcomes": (
        [None, None, None, None, None, "batch", None, None, None, 50],
        {"event_log_label_idx"},
    ),
    "outcomes/list_named_outcomes": (
        [None, None, None, "screen", None, None, None, None, None, 50],
        {"event_log_name_idx"},
    ),
    "outcomes/read_outcomes": (
        [[UUID(int=number) for number in range(50)], "acquire"],
        {"event_log_flow_version_key"},
    ),
    "outcomes/list_invalidated": (
        [[UUID(int=number) for number in range(500)]],
        {"event_log_flow_version_key"},
    ),
    "search/walk_definitions": (["0" * 64, "f" * 64, 50], {"event_log_definition_idx"}),
    "search/list_artifacts": (
        [None, 50],
        {"event_log_seq_idx", "workflow_step_artifacts_flow_idx"},
    ),
    "search/walk_kept_artifacts": (
        [None, 50, [UUID(int=number) for number in range(1_000)]],
        {"workflow_step_artifacts_flow_idx"},
    ),
    "search/list_artifacts_of_flow": (
        [None, 50, UUID(int=1)],
        {"workflow_step_artifacts_flow_idx"},
    ),
}
NO_MORE_THAN = 1_000
"""The most rows of a node of these plans; the log has fifty times as many events."""

COUNTS_ALL_FLOWS = {"flows/list_flows_by_state"}
"""The flows of this log are run neither by workers nor by a program."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grown_url(server: TestServer) -> AsyncIterator[str]:
    """Yield the URL of a log whose flows are completed, except for a few."""
    async with server.database() as url:
        await grow(url, EVENTS)
        async with await build_pool(url, max_size=3) as pool:
            store = PgEventStore(PoolProvider(pool))
            await asyncio.gather(
                *(store.append_kinds(new_flow_id(), kinds) for kinds in few_flows())
            )
            for number in range(200):  # as many artifacts as a scan would not read for one flow
                frames = [
                    Artifact.from_payload(kind="Frame", payload=[number, frame])
                    for frame in range(200)
                ]
                signals = [StepSignal(0, "acquire", "frame")]
                await store.append_kinds(new_flow_id(), signals, artifacts=frames)
            await store.aclose()
            await pool.execute("VACUUM ANALYZE")
        yield url


def few_flows() -> Iterator[list[Any]]:
    for number in range(20):
        begin = FlowInitialized(DEFINITION.definition_hash, 3, HASHES[number % 3])
        yield [begin, StepStarted(0, "acquire"), StepFailed(0, "acquire", ERROR, HASHES[0])]
        yield [begin, StepStarted(0, "acquire"), UserInteractionRequested(0, "acquire", {})]
        yield [begin, StepStarted(0, "acquire"), StepWaits(0, "acquire", None)]
        yield [begin, StepStarted(0, "acquire"), FlowCancelled("no longer needed")]
        yield [
            *(begin, StepStarted(0, "acquire"), StepFailed(0, "acquire", ERROR, HASHES[0])),
            *(RetryScheduled("acquire", 1, "again"), StepStarted(0, "acquire")),
            StepFinished(0, "acquire", tuple(HASHES[number % 3 : number % 3 + 2]), HASHES[0]),
        ]


@pytest.fixture
async def grown(grown_url: str) -> AsyncIterator[Pool]:
    async with await build_pool(grown_url, max_size=1) as pool:
        yield pool


async def plan_of(pool: Pool, name: str, arguments: list[Any]) -> list[dict[str, Any]]:
    """Run a statement with EXPLAIN ANALYZE, and return the nodes of its plan."""
    (row,) = await pool.fetch(
        f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement(name)}", *arguments
    )
    return list(nodes(json.loads(row[0])[0]["Plan"]))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


@pytest.mark.parametrize("name", USED)
async def test_a_question_uses_its_indexes(grown: Pool, name: str) -> None:
    arguments, indexes = USED[name]
    plan = await plan_of(grown, name, arguments)
    assert indexes <= {node.get("Index Name") for node in plan}
    assert "Seq Scan" not in {
        node["Node Type"] for node in plan if node.get("Relation Name") == "event_log"
    }


@pytest.mark.parametrize("name", sorted(set(USED) - COUNTS_ALL_FLOWS))
async def test_a_question_does_not_walk_the_log(grown: Pool, name: str) -> None:
    plan = await plan_of(grown, name, USED[name][0])
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in plan) <= NO_MORE_THAN


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("flows/list_flows_by_state", [*listing(roots=True, state="running"), None]),
        ("flows/list_failed_flows", listing(roots=True, state="failed")),
    ],
)
async def test_a_candidate_is_looked_up_by_its_id(
    grown: Pool, name: str, arguments: list[Any]
) -> None:
    """The planner expects any number of candidates, for each of which an index is not all read."""
    plan = await plan_of(grown, name, arguments)
    looked_up = {"event_log_completed_idx", "event_log_flow_version_key"}
    conditions = {
        node["Index Name"]: node.get("Index Cond") for node in plan if "Index Name" in node
    }
    assert looked_up <= set(conditions)
    assert all(conditions[index] for index in looked_up)
    assert "event_log_root_idx" not in conditions


async def test_a_page_far_back_begins_where_the_last_one_ended(grown: Pool) -> None:
    place = await grown.fetchrow(
        "SELECT started_at, flow_id FROM flows ORDER BY started_at, flow_id OFFSET 60 LIMIT 1"
    )
    assert place is not None
    plan = await plan_of(grown, "flows/list_flows", [*place, *NEW[2:]])
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in plan) <= NO_MORE_THAN


async def test_the_list_of_flows_keeps_no_cache(grown: Pool) -> None:
    """The planner sizes a Memoize node by its estimate: three of them cost 5 ms per query."""
    plan = await plan_of(grown, "flows/list_flows", NEW)
    assert "Memoize" not in {node["Node Type"] for node in plan}

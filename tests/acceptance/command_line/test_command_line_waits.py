"""The commands on flows that wait, were cancelled, or have not begun."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import (
    FlowCancelled,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepStarted,
    StepWaits,
    build_pool,
)
from chem_persistence.store.leasing.children import CHILDREN, child_id
from tests.support.commands import command
from tests.support.flows.flows import initialized

PENDING, WAITING, CANCELLED, FAILED = (UUID(int=number) for number in range(10, 14))
PARENT = UUID(int=20)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
START, WAIT = StepStarted(0, "acquire"), StepWaits(0, "acquire", NOON, {"job": "4711"})
FLOWS: dict[UUID, list[FlowEventKind]] = {
    PENDING: [],
    WAITING: [START, WAIT],
    CANCELLED: [START, WAIT, FlowCancelled("no longer needed")],
    FAILED: [
        START,
        StepFailed(0, "acquire", StepError("builtins.OSError", "no file"), "f" * 64),
        RetryScheduled("acquire", 1, "no file", not_before=NOON),
    ],
}


@pytest.fixture
async def url(database_url: str) -> str:
    async with await build_pool(database_url, max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))
        for flow_id, kinds in FLOWS.items():
            await store.append_kinds(flow_id, [initialized(), *kinds])
        await store.aclose()
    return database_url


async def output(url: str, *arguments: object, code: int = 0) -> str:
    done = await command(*arguments, "--database-url", url)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


async def parsed(url: str, *arguments: object, code: int = 0) -> Any:
    return json.loads(await output(url, *arguments, "--json", code=code))


@pytest.mark.parametrize(
    ("state", "flow_id"), [("pending", PENDING), ("waiting", WAITING), ("cancelled", CANCELLED)]
)
async def test_flows_chooses_by_each_state(url: str, state: str, flow_id: UUID) -> None:
    (flow,) = (await parsed(url, "flows", "--state", state))["flows"]
    assert (flow["flow_id"], flow["state"]) == (str(flow_id), state)
    assert state in await output(url, "flows")


async def test_show_says_until_when_a_flow_waits(url: str) -> None:
    said = await output(url, "show", WAITING)
    assert "waits in acquire until 2026-01-01 12:00:00 UTC\n" in said
    told = await parsed(url, "show", WAITING)
    (attempt,) = told["steps"][0]["attempts"]
    assert (attempt["outcome"], attempt["ended"]) == ("waited", None)
    assert (attempt["until"], told["cancelled"]) == ("2026-01-01T12:00:00Z", None)


async def test_show_says_for_how_many_children_a_flow_waits(url: str) -> None:
    waits = StepWaits(0, "acquire", NOON, {CHILDREN: 3})
    async with await build_pool(url, max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))
        await store.append_kinds(PARENT, [initialized(), START, waits])
        await store.append_kinds(child_id(PARENT, 0, 0), [initialized()])
        await store.append_kinds(child_id(PARENT, 0, 1), [initialized(), FlowCancelled("why")])
        await store.aclose()
    said = await output(url, "show", PARENT)
    assert "waits in acquire for 1 flow that it runs\n" in said
    assert "until" not in said


async def test_show_says_when_a_failed_step_is_tried_again(url: str) -> None:
    said = await output(url, "show", FAILED)
    assert "retries acquire not before 2026-01-01 12:00:00 UTC\n" in said
    (attempt,) = (await parsed(url, "show", FAILED))["steps"][0]["attempts"]
    assert (attempt["outcome"], attempt["retry_at"]) == ("failed", "2026-01-01T12:00:00Z")


async def test_show_says_why_a_flow_was_cancelled(url: str) -> None:
    said = await output(url, "show", CANCELLED)
    assert "no longer needed" in said
    assert "waits in" not in said
    assert (await parsed(url, "show", CANCELLED))["cancelled"] == "no longer needed"


async def test_replay_shows_the_wait_and_then_the_cancellation(url: str) -> None:
    waiting = await parsed(url, "replay", CANCELLED, "--at", 2)
    slot = waiting["steps"][0]
    assert (waiting["state"], waiting["cancelled"]) == ("waiting", None)
    assert (slot["status"], slot["until"], slot["data"]) == (
        "waiting",
        "2026-01-01T12:00:00Z",
        {"job": "4711"},
    )
    cancelled = await parsed(url, "replay", CANCELLED)
    assert (cancelled["state"], cancelled["cancelled"]) == ("cancelled", "no longer needed")
    assert "no longer needed" in await output(url, "replay", CANCELLED)


async def test_tail_prints_both_events_in_words(url: str) -> None:
    lines = (await output(url, "tail", CANCELLED)).splitlines()
    assert lines[-2].endswith("W acquire waits until 2026-01-01 12:00:00 UTC")
    assert lines[-1].endswith("K cancelled: no longer needed")


async def test_diff_tells_a_waiting_flow_from_a_cancelled_one(url: str) -> None:
    (difference,) = (await parsed(url, "diff", WAITING, CANCELLED, code=1))["differences"]
    assert (difference["what"], difference["left"], difference["right"]) == (
        "state",
        "waiting",
        "cancelled",
    )

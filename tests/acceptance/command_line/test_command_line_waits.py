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
    StepStarted,
    StepWaits,
    build_pool,
)
from tests.support.commands import command
from tests.support.flows.flows import initialized

PENDING, WAITING, CANCELLED = UUID(int=10), UUID(int=11), UUID(int=12)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
START, WAIT = StepStarted(0, "acquire"), StepWaits(0, "acquire", NOON, {"job": "4711"})
FLOWS: dict[UUID, list[FlowEventKind]] = {
    PENDING: [],
    WAITING: [START, WAIT],
    CANCELLED: [START, WAIT, FlowCancelled("no longer needed")],
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

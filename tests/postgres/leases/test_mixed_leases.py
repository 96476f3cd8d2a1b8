"""Appends of one flow share a statement only if they carry the same lease.

If one lease is stale, its event is left out; an event behind it, which another caller appended
without a lease, would be stored without it, and the flow would have the versions 0, 1, 3.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from math import inf
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from chem_persistence import PgEventStore, StaleLease, StepSignal, StepStarted
from chem_persistence.postgres.append.forms.documents import APPEND_EVENTS, append_documents
from chem_persistence.postgres.append.forms.rows import Write, append_rows
from chem_persistence.store.append_request import (
    AppendCall,
    AppendRequest,
    Head,
    append_request,
)
from tests.support.leases.desk import NOW, Desk, postgres_desk
from tests.support.servers.citus import distribute_on

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

STARTED = StepStarted(0, "acquire")
GUARD = """IF EXISTS (SELECT 1
                FROM json_to_recordset(events::json) AS e (flow_id uuid, version integer,
                    event_id uuid)"""


@pytest.fixture
async def desk(pool: Pool) -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


def signal(text: str) -> StepSignal:
    return StepSignal(0, "acquire", text)


def request_of(call: AppendCall) -> AppendRequest:
    return append_request(call, ts=datetime(2026, 1, 1, tzinfo=UTC), max_artifact_bytes=1)


async def chained(pool: Pool, *calls: AppendCall) -> list[Write]:
    """Return appends to one flow, each behind the one before it."""
    base = await pool.fetchrow(
        "SELECT version + 1 AS version, chain_hash FROM event_log WHERE flow_id = $1"
        " ORDER BY version DESC LIMIT 1",
        calls[0].flow_id,
    )
    assert base is not None
    end = first = Head(base["version"], base["chain_hash"])
    writes = []
    for request in map(request_of, calls):
        links = request.links(end)
        after = Head(end.version + len(links), links[-1].hash)
        writes.append(Write(request, end, first, links, after))
        end = after
    return writes


async def test_callers_at_once_get_what_each_would_get_alone(desk: Desk) -> None:
    assert isinstance(desk.store, PgEventStore)
    flow_id = await desk.submit()
    stale = desk.store.leased(flow_id, await desk.take(flow_id, NOW))
    mine = desk.store.leased(flow_id, await desk.take(flow_id))
    calls = [
        appender.append_kind(flow_id, signal(f"{number} {name}"))
        for number in range(10)
        for name, appender in (("stale", stale), ("nobody", desk.store), ("mine", mine))
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert ({type(error) for error in refused}, len(refused)) == ({StaleLease}, 10)
    events = await desk.store.list(flow_id)
    assert [event.version for event in events] == list(range(21))
    told = [event.kind.signal for event in events[1:] if isinstance(event.kind, StepSignal)]
    assert [text for text in told if "stale" in text] == []
    for name in ("nobody", "mine"):
        assert [text for text in told if name in text] == [f"{n} {name}" for n in range(10)]


@pytest.mark.parametrize("parameters", [append_rows, append_documents])
async def test_the_maker_of_the_statement_accepts_no_mixture(
    desk: Desk, pool: Pool, parameters: Callable[[Sequence[Write], float], object]
) -> None:
    flow_id, lease = await desk.submit(), uuid4()
    leased = AppendCall(flow_id, [STARTED], lease=lease)
    with pytest.raises(ValueError, match="different leases"):
        parameters(await chained(pool, leased, AppendCall(flow_id, [signal("hello")])), inf)
    parameters(await chained(pool, leased, leased), inf)


@pytest.mark.parametrize("distributed", [False, True])
async def test_the_database_stores_no_gap_either(
    desk: Desk, pool: Pool, admin_url: str, *, distributed: bool
) -> None:
    if distributed:
        await distribute_on(admin_url)
    flow_id, parameters = await mixture(desk, pool)
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await pool.fetch(APPEND_EVENTS, *parameters)
    assert len(await desk.store.list(flow_id)) == 1


@pytest.mark.superuser
async def test_a_function_that_accepts_a_mixture_would_leave_a_gap(
    desk: Desk, pool: Pool, admin_url: str
) -> None:
    flow_id, parameters = await mixture(desk, pool)
    owner = await asyncpg.connect(admin_url)
    sound = await owner.fetchval("SELECT pg_get_functiondef('append_events'::regproc)")
    assert sound.count(GUARD) == 1
    await owner.execute(sound.replace(GUARD, f"IF false AND {GUARD.removeprefix('IF ')}"))
    await owner.close()
    await pool.fetch(APPEND_EVENTS, *parameters)
    versions = "SELECT version FROM event_log WHERE flow_id = $1 ORDER BY version"
    assert [row["version"] for row in await pool.fetch(versions, flow_id)] == [0, 2]


async def mixture(desk: Desk, pool: Pool) -> tuple[UUID, list[object]]:
    """Return the parameters of an append with a stale lease and one without a lease behind it."""
    flow_id = await desk.submit()
    await desk.take(flow_id)
    plain = AppendCall(flow_id, [STARTED]), AppendCall(flow_id, [signal("hello")])
    (events, *others), _ = append_documents(await chained(pool, *plain), inf)
    return flow_id, [with_lease(events, uuid4()), *others, None]


def with_lease(events: str, lease: UUID) -> str:
    """Add a lease to the first of two events."""
    first, second = events.split("\n")
    return f'{first.removesuffix("}")},"lease":"{lease}"}}\n{second}'

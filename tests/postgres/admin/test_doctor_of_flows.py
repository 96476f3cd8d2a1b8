"""What doctor finds of the flows that are given to workers."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from chem_persistence import (
    Claim,
    FlowEventKind,
    FlowInitialized,
    PgLeases,
    PgReadModels,
    PoolProvider,
    RetryScheduled,
    StepStarted,
    import_bundle,
)
from chem_persistence.domain.events import FlowParent
from chem_persistence.postgres.admin.doctor.examination import examine
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.admin.roles import create_roles
from chem_persistence.postgres.connection.pool import open_pool
from tests.support.bundles import exported
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import (
    HASH,
    HOUR,
    NOW,
    Desk,
    failed,
    given,
    memory_desk,
    postgres_desk,
)
from tests.support.leases.staff import Act, Acts, chain, submit
from tests.support.servers.roles import new_role

if TYPE_CHECKING:
    import asyncpg

    Pool = asyncpg.Pool[asyncpg.Record]

FLOW = chain(Act(Acts(), "one"), Act(Acts(), "two"))
NAMED = f"acts, {FLOW.definition_hash[:12]}; steps one, two"
NOBODY = "and no worker that was seen in the last AGE serves the definition"


@pytest.fixture
async def desk(pool: "Pool") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


async def checked(url: str) -> list[CheckResult]:
    """Return what doctor says about flows; it must find nothing else that is bad."""
    async with await open_pool(url, max_size=1) as pool:
        results = await examine(PoolProvider(pool), "public")
    good = {Severity.OK, Severity.NOTE}
    assert {each.check for each in results if each.severity not in good} <= {"flows"}
    return [each for each in results if each.check == "flows"]


async def found(url: str) -> list[str]:
    """Return the warnings about flows, with AGE in place of each length of time."""
    results = await checked(url)
    assert {each.severity for each in results} <= {Severity.WARNING}
    return [re.sub(r"(\d+ days?, )?\d+:\d\d:\d\d", "AGE", each.finding) for each in results]


async def is_well(url: str) -> bool:
    (result,) = await checked(url)
    return result.severity is Severity.OK


async def age(pool: "Pool", length: timedelta, *flow_ids: UUID) -> None:
    """Make flows due since that long ago."""
    await pool.execute(
        "UPDATE flow_runs SET due_at = now() - $1::interval WHERE flow_id = ANY ($2)",
        length,
        flow_ids,
    )


async def announce(pool: "Pool", *definitions: str) -> UUID:
    worker = uuid4()
    await PgLeases(PoolProvider(pool)).announce(worker, "a worker", definitions)
    return worker


async def failed_flow(desk: Desk) -> UUID:
    return await desk.submit(NOW, StepStarted(0, "acquire"), failed())


async def test_flows_that_nobody_serves_are_named(desk: Desk, pool: "Pool", admin_url: str) -> None:
    first, second = await submit(desk, FLOW), await submit(desk, FLOW)
    await age(pool, timedelta(minutes=3), first)
    await age(pool, timedelta(days=2), second)
    await announce(pool, HASH)
    (result,) = await checked(admin_url)
    assert result.severity is Severity.WARNING
    assert "(the oldest for 2 days, 0:00:" in result.finding
    assert result.remedy == "chem-persistence waiting"
    assert await found(admin_url) == [f"2 flows are due (the oldest for AGE), {NOBODY}: {NAMED}"]


async def test_flows_of_a_definition_that_is_not_stored_are_named_by_its_hash(
    desk: Desk, pool: "Pool", admin_url: str
) -> None:
    await age(pool, timedelta(minutes=3), await desk.submit())
    assert await found(admin_url) == [f"1 flow is due (for AGE), {NOBODY}: {HASH[:12]}"]


async def test_a_flow_that_became_due_just_now_is_left_to_workers(
    desk: Desk, pool: "Pool", admin_url: str
) -> None:
    await submit(desk, FLOW)
    await age(pool, timedelta(seconds=20), await submit(desk, FLOW))
    await desk.submit(HOUR)
    assert await is_well(admin_url)


async def test_a_flow_that_a_worker_holds_is_not_due(
    desk: Desk, pool: "Pool", admin_url: str
) -> None:
    flow_id = await submit(desk, FLOW)
    await desk.take(flow_id)
    assert await is_well(admin_url)
    await age(pool, HOUR, flow_id)  # the lease has ended, and nobody goes on
    assert await found(admin_url) == [f"1 flow is due (for AGE), {NOBODY}: {NAMED}"]


async def test_flows_that_are_overdue_are_named(desk: Desk, pool: "Pool", admin_url: str) -> None:
    late, later, fresh = [await submit(desk, FLOW) for _ in range(3)]
    worker = await announce(pool, FLOW.definition_hash)
    await age(pool, timedelta(minutes=9), late, later, fresh)
    assert await is_well(admin_url)
    await age(pool, timedelta(minutes=11), late, later)
    (said,) = await found(admin_url)
    assert said == (
        "2 flows have been due for longer than AGE (the oldest for AGE), although 1 worker serves "
        f"the definition: {NAMED}"
    )
    await pool.execute("UPDATE flow_workers SET seen_at = now() - interval '2 minutes'")
    assert await found(admin_url) == [f"3 flows are due (the oldest for AGE), {NOBODY}: {NAMED}"]
    await PgLeases(PoolProvider(pool)).announce(worker, "a worker", [FLOW.definition_hash])
    await age(pool, NOW, late, later)
    assert await is_well(admin_url)


async def test_only_the_longest_due_of_many_definitions_are_named(
    desk: Desk, pool: "Pool", admin_url: str
) -> None:
    for number in range(8):
        flow_id = await desk.submit(definition_hash=f"{number}" * 64)
        await age(pool, timedelta(minutes=100 - number), flow_id)
    said = await found(admin_url)
    assert [line.rpartition(": ")[2] for line in said[:-1]] == [f"{n}" * 12 for n in range(5)]
    assert said[-1] == "flows of 3 more definitions are due, and served by no worker"


async def test_flows_that_have_failed_are_counted_until_they_are_retried(
    desk: Desk, admin_url: str
) -> None:
    first, second = await failed_flow(desk), await failed_flow(desk)
    said = "2 flows have failed, and no retry is scheduled; the oldest failed AGE ago: flow "
    assert await found(admin_url) == [f"{said}{first}"]
    (result,) = await checked(admin_url)
    assert result.remedy == "chem-persistence flows --state failed"
    await desk.store.append_kind(first, RetryScheduled("acquire", 1, "again"))
    said = f"1 flow has failed, and no retry is scheduled; it failed AGE ago: flow {second}"
    assert await found(admin_url) == [said]
    await desk.store.append_kind(second, RetryScheduled("acquire", 1, "again"))
    assert await is_well(admin_url)


async def test_imported_flows_are_no_trouble(desk: Desk, tmp_path: Path, admin_url: str) -> None:
    there = memory_desk()
    flow_ids = [await failed_flow(there), await there.submit()]
    await exported(there.store, tmp_path / "run.zip", *flow_ids)
    await import_bundle(desk.store, tmp_path / "run.zip")
    assert await is_well(admin_url)


async def test_flows_that_programs_run_by_themselves_are_no_trouble(
    desk: Desk, pool: "Pool", admin_url: str
) -> None:
    flow_ids = [new_flow_id() for _ in range(4)]
    running, left, broken, dead = flow_ids
    for flow_id in flow_ids:
        claim = Claim(flow_id, uuid4(), HASH)
        store = desk.store.of_program(claim, uuid4(), HOUR)
        begins: list[FlowEventKind] = [FlowInitialized(HASH, 3), StepStarted(0, "acquire")]
        await store.append_kinds(flow_id, begins, expected_version=0)
        if flow_id == left:
            await desk.leases.leave(flow_id, claim.token)
        if flow_id == broken:
            await store.append_kind(flow_id, failed(), expected_version=2)
    await age(pool, HOUR, dead)  # nobody renews its lease
    assert await is_well(admin_url)
    assert await PgReadModels(PoolProvider(pool)).waiting_flows() == []
    assert (await desk.seen(running)).due == "in 1 h"
    assert (await desk.leases.claim([HASH], uuid4(), 9, HOUR))[0].flow_id == dead


async def test_a_flow_that_workers_give_back_since_it_cannot_be_loaded_is_named(
    desk: Desk, admin_url: str
) -> None:
    sound, damaged = await submit(desk, FLOW), await submit(desk, FLOW)
    await desk.store.append_kind(damaged, StepStarted(0, "three"))  # no step of the definition
    for flow_id in (sound, damaged):
        token = await desk.take(flow_id)
        await desk.leases.give_back(flow_id, token, timedelta(minutes=1))
    (result,) = await checked(admin_url)
    assert result.severity is Severity.WARNING
    assert result.remedy == f"chem-persistence verify {damaged}"
    said = (
        f"flow {damaged} cannot be loaded, so workers give it back and try again within 1:00:00: "
    )
    assert result.finding.startswith(said)
    assert "'three'" in result.finding
    token = await desk.take(damaged)
    await desk.leases.give_back(damaged, token, timedelta(hours=2))  # as no worker does
    assert await is_well(admin_url)


async def test_a_failed_child_is_left_to_its_parent(desk: Desk, admin_url: str) -> None:
    begin = given()
    child = FlowInitialized(
        begin.definition_hash, 3, due=begin.due, parent=FlowParent(uuid4(), 0, 0)
    )
    flow_id = new_flow_id()
    await desk.store.append_kinds(flow_id, [child, StepStarted(0, "acquire"), failed()])
    assert (await desk.seen(flow_id)).due == "never"
    assert await is_well(admin_url)


async def test_a_flow_that_was_not_given_to_workers_may_fail(desk: Desk, admin_url: str) -> None:
    begin = FlowInitialized(HASH, 3)
    await desk.store.append_kinds(new_flow_id(), [begin, StepStarted(0, "acquire"), failed()])
    assert await is_well(admin_url)


async def test_who_may_only_read_is_told_as_much(desk: Desk, pool: "Pool", admin_url: str) -> None:
    await age(pool, HOUR, await submit(desk, FLOW))
    failure = await failed_flow(desk)
    ending = uuid4().hex[:8]
    parts = ("owner", "application", "reader", "archivist")
    names = {part: f"{part}_{ending}" for part in parts}
    async with await open_pool(admin_url, max_size=1) as superuser, new_role(admin_url) as role:
        async with superuser.acquire() as connection:
            await create_roles(connection, **names)
            await connection.execute(f"GRANT {names['reader']} TO {role.name}")
        said = await found(role.url)
        async with superuser.acquire() as connection:
            for name in names.values():
                await connection.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
    assert said[0] == f"1 flow is due (for AGE), {NOBODY}: {NAMED}"
    assert said[1].endswith(f"flow {failure}")

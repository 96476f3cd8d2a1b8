"""Logs that earlier versions of the library wrote replay, verify, and go on, beside workers."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Flow,
    FlowAlreadyCompleted,
    FlowAwaitsUser,
    FlowHasFailed,
    FlowState,
    PgFlowRepository,
    PoolProvider,
    UserInteractionProvided,
    flow,
)
from chem_persistence.postgres.audit.verification import verify_log
from tests.golden.flow import Failure, Mixture, golden_engine, golden_steps
from tests.golden.log_files import GIVEN, OLD, golden_log
from tests.support.leases.desk import Desk, postgres_desk
from tests.support.leases.staff import client_of, trace, working

if TYPE_CHECKING:
    from chem_persistence import FlowEngine
    from tests.golden.flow import Masses

FINGERPRINT = "28b0853e078c2116a1beb23a8b4198e58fe6f91cd2b77260c0487d17d2a4be73"


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


def golden_flow() -> "Flow[Mixture, Masses]":
    split, weigh, total = golden_steps(Failure())
    return flow("golden", split).then(weigh).then(total)


def engine_of(desk: Desk, provider: PoolProvider) -> "FlowEngine[Mixture]":
    return golden_engine(desk.store, PgFlowRepository(provider), Failure())


@pytest.mark.parametrize("name", [OLD, GIVEN])
async def test_a_golden_log_verifies_and_replays(
    name: str,
    desk: Desk,
    provider: PoolProvider,
    owner: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    log = golden_log(name)
    await log.store(owner)
    verified = await verify_log(provider)
    assert verified.findings == []
    engine = engine_of(desk, provider)
    assert await engine.flow_fingerprint(log.flow_ids[0]) == FINGERPRINT
    for flow_id in log.flow_ids:
        instance = await engine.load(flow_id)
        assert instance.version == sum(row.flow_id == flow_id for row in log.events)


OLD_TRACES = [
    "ISGFSFSFC",
    "ISGFSSFSFC",
    "ISGFSXRSFSFC",
    "ISGFSFSXRSFC",
    "ISGFSFSFC",
    "ISGFUVSFSFC",
]


async def test_flows_that_nobody_was_given_go_on_by_themselves_beside_a_worker(
    desk: Desk, provider: PoolProvider, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    log, engine = golden_log(OLD), engine_of(desk, provider)
    await log.store(owner)
    assert await desk.leases.rebuild() == 0
    completed, _, failed, _, _, asked = log.flow_ids
    given = Mixture("CCO.c1ccccc1.[Na+]")
    async with working(desk, [golden_flow()]):
        new = await client_of(desk).submit(golden_flow(), given)
        with pytest.raises(FlowAlreadyCompleted):
            await engine.run_to_end(completed, given)
        with pytest.raises(FlowHasFailed):
            await engine.run_to_end(failed)
        await engine.schedule_retry(failed, reason="mended")
        with pytest.raises(FlowAwaitsUser):
            await engine.run_to_end(asked)
        await desk.store.append_kind(asked, UserInteractionProvided(1, "weigh", provided=True))
        for flow_id in log.flow_ids[1:]:
            await engine.run_to_end(flow_id)
        assert await client_of(desk).wait(new) is FlowState.COMPLETED
    assert [await trace(desk, flow_id) for flow_id in log.flow_ids] == OLD_TRACES
    assert await fingerprints(engine, [*log.flow_ids, new]) == {FINGERPRINT}
    assert (await verify_log(provider)).findings == []


async def fingerprints(engine: "FlowEngine[Mixture]", flow_ids: list[UUID]) -> set[str]:
    return {await engine.flow_fingerprint(flow_id) for flow_id in flow_ids}


GIVEN_TRACES = [
    "ISGFSFSFC",
    "ISGFSXRSFSFC",
    "ISSGFSFSFC",
    "ISGSGFSFSFC",
    "ISWSGFSFSFC",
    "ISWGK",
    "ISGFSFSFC",
]


async def test_flows_that_were_given_to_workers_go_on_under_them(
    desk: Desk, provider: PoolProvider, owner: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    log, client = golden_log(GIVEN), client_of(desk)
    await log.store(owner)
    assert await desk.leases.rebuild() == 6  # all but the one that is completed
    async with working(desk, [golden_flow()]):
        states = [await client.wait(flow_id) for flow_id in log.flow_ids]
    cancelled = log.flow_ids[5]
    assert states == [
        FlowState.CANCELLED if flow_id == cancelled else FlowState.COMPLETED
        for flow_id in log.flow_ids
    ]
    assert [await trace(desk, flow_id) for flow_id in log.flow_ids] == GIVEN_TRACES
    others = [flow_id for flow_id in log.flow_ids if flow_id != cancelled]
    assert await fingerprints(engine_of(desk, provider), others) == {FINGERPRINT}
    assert [await desk.row(flow_id) for flow_id in log.flow_ids] == [None] * 7
    assert (await verify_log(provider)).findings == []

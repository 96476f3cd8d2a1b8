"""An imported flow goes on when somebody says so: a retry, or a program that runs it."""

import asyncio
from pathlib import Path

import pytest

from chem_persistence import (
    ConcurrencyConflict,
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    StepRaised,
    StepSignal,
    import_bundle,
)
from tests.support.bundles import SMALL_FLOW, exported, small_store
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import Desk, memory_desk
from tests.support.leases.families import Add, Picky
from tests.support.leases.staff import Number, chain, client_of, submit, trace, working


def engine(store: InMemoryEventStore, picky: Picky) -> FlowEngine[Number]:
    return FlowEngine(store, InMemoryFlowRepository(store), chain(Add(1), picky))


async def test_a_program_runs_it_to_its_end(desk: Desk, tmp_path: Path) -> None:
    there, flow_id = InMemoryEventStore(), new_flow_id()
    with pytest.raises(StepRaised):
        await engine(there, Picky({2})).run_to_end(flow_id, Number(1))
    await engine(there, Picky()).schedule_retry(flow_id, reason="mended")
    await exported(there, tmp_path / "run.zip", flow_id)
    await import_bundle(desk.store, tmp_path / "run.zip")
    here = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), chain(Add(1), Picky()))
    assert (await here.run_to_end(flow_id)) == flow_id
    await engine(there, Picky()).run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISFSXRSFC"
    assert await here.flow_fingerprint(flow_id) == await engine(there, Picky()).flow_fingerprint(
        flow_id
    )


async def test_a_worker_runs_it_after_a_retry(desk: Desk, tmp_path: Path) -> None:
    there, served, picky = memory_desk(), chain(Add(1), Picky({2})), Picky()
    flow_id = await submit(there, served, 1)
    async with working(there, [served]):
        await client_of(there).wait(flow_id)
    await exported(there.store, tmp_path / "run.zip", flow_id)
    await import_bundle(desk.store, tmp_path / "run.zip")
    async with working(desk, [chain(Add(1), picky)]):
        await client_of(desk).retry(flow_id, reason="mended", actor="Ada")
        assert await client_of(desk).result(chain(Add(1), picky), flow_id) == Number(20)


async def test_two_imports_at_once_store_it_once(desk: Desk, tmp_path: Path) -> None:
    store = await small_store()
    signals = [StepSignal(1, "sleep", "progress", number) for number in range(600)]
    await store.append_kinds(SMALL_FLOW, signals)
    before = await exported(store, tmp_path / "run.zip")
    done = await asyncio.gather(
        *(import_bundle(desk.store, tmp_path / "run.zip") for _ in range(2)),
        return_exceptions=True,
    )
    assert [each for each in done if isinstance(each, BaseException)] in (
        [],
        [each for each in done if isinstance(each, ConcurrencyConflict)],
    )
    assert len(await desk.store.list(SMALL_FLOW)) == 605
    assert await exported(desk.store, tmp_path / "again.zip") == before

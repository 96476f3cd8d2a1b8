"""The outcome of a step waits for a store that is away, as long as the flow is held."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import EventStore, FlowEvent, FlowEventKind, StepFinished, StoreUnavailable
from chem_persistence.engine.leases import leased_run
from tests.support.leases.desk import HOUR, Desk
from tests.support.leases.staff import Act, Acts, chain, submit, trace, until, working


class Outage:
    """Makes a store refuse outcomes, `times` times; `begun` is set by the first refusal."""

    def __init__(self, desk: Desk, times: float) -> None:
        self.left = times
        self.begun = asyncio.Event()
        self._leased: Any = desk.store.leased

    def leased(self, flow_id: UUID, token: UUID) -> Any:
        return _Refusing(self._leased(flow_id, token), self)


class _Refusing:
    def __init__(self, store: EventStore, outage: Outage) -> None:
        self._store = store
        self._outage = outage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append_kinds(
        self, flow_id: UUID, kinds: Sequence[FlowEventKind], **options: Any
    ) -> list[FlowEvent]:
        if self._outage.left > 0 and any(isinstance(kind, StepFinished) for kind in kinds):
            self._outage.left -= 1
            self._outage.begun.set()
            raise StoreUnavailable("the server restarts")
        return await self._store.append_kinds(flow_id, kinds, **options)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leased_run, "STORE_PAUSE", 0.001)


def is_over(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant == "C"


async def test_a_step_does_not_run_again_for_an_outage_at_its_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts, outage = Acts(), Outage(desk, times=3)
    monkeypatch.setattr(desk.store, "leased", outage.leased)
    flow = chain(Act(acts, "one"), Act(acts, "two"))
    async with working(desk, [flow]):
        flow_id = await submit(desk, flow)
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISFSFC"
    assert [step_id for step_id, _ in acts.runs] == ["one", "two"]
    assert outage.left == 0


async def test_a_worker_that_stops_waits_no_longer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts, outage = Acts(), Outage(desk, times=float("inf"))
    monkeypatch.setattr(desk.store, "leased", outage.leased)
    flow = chain(Act(acts))
    async with working(desk, [flow], grace=timedelta(0), lease=HOUR):
        flow_id = await submit(desk, flow)
        await outage.begun.wait()
    assert await trace(desk, flow_id) == "ISG"
    row = await desk.seen(flow_id)
    assert (row.lease, row.due) == (None, "now")


async def test_an_outcome_that_waited_is_refused_once_another_has_the_flow(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts, outage = Acts(), Outage(desk, times=float("inf"))
    monkeypatch.setattr(desk.store, "leased", outage.leased)
    flow = chain(Act(acts))
    async with working(desk, [flow], at_once=1, lease=HOUR):
        flow_id = await submit(desk, flow)
        await outage.begun.wait()
        await desk.make_due(flow_id)  # as if the worker had not reached the store for an hour
        token = await desk.take(flow_id)
        outage.left = 0
    assert await trace(desk, flow_id) == "IS"
    assert (await desk.seen(flow_id)).lease == token

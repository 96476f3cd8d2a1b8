"""A client gives flows to workers, waits for them, retries and cancels them, on every store."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from chem_persistence import (
    DefinitionMismatch,
    FlowAlreadyCompleted,
    FlowCancelled,
    FlowClient,
    FlowEngine,
    FlowEvent,
    FlowHasFailed,
    FlowInitialized,
    FlowNotFound,
    FlowState,
    FlowWasCancelled,
    InMemoryFlowRepository,
    InvalidArgument,
    StepRaised,
    StepSignal,
    StepWaits,
    event_metadata,
)
from chem_persistence.domain.events import CANCEL
from tests.support.flows.flows import new_flow_id
from tests.support.flows.values import Molecule, Settings, energy_flow
from tests.support.leases.desk import HOUR, NOW, Desk

if TYPE_CHECKING:
    pass

ENERGY = energy_flow()
METHANE, NOTHING = Molecule("C"), Molecule("")


def repository(desk: Desk) -> InMemoryFlowRepository:
    return InMemoryFlowRepository(desk.store)


@pytest.fixture
def client(desk: Desk) -> FlowClient:
    return FlowClient(desk.store, repository(desk))


@pytest.fixture
def engine(desk: Desk) -> FlowEngine[Molecule]:
    return FlowEngine(desk.store, repository(desk), ENERGY)


async def test_a_submitted_flow_is_claimed_by_its_definition(
    desk: Desk, client: FlowClient, engine: FlowEngine[Molecule]
) -> None:
    flow_id = await client.submit(ENERGY, METHANE, label="methane")
    (claim,) = await desk.leases.claim([ENERGY.definition_hash], uuid4(), 5, HOUR)
    assert claim.flow_id == flow_id
    (event,) = await desk.store.list(flow_id)
    assert isinstance(event.kind, FlowInitialized)
    assert (event.kind.name, event.kind.label) == ("energy", "methane")
    store = desk.store.leased(flow_id, claim.token)
    await FlowEngine(store, repository(desk), ENERGY).run_to_end(flow_id)
    assert await client.result(ENERGY, flow_id) == Molecule("C by gfn2")
    assert (await engine.load(flow_id)).completed


async def test_a_flow_without_a_label_has_none(desk: Desk, client: FlowClient) -> None:
    (event,) = await desk.store.list(await client.submit(ENERGY, METHANE))
    assert isinstance(event.kind, FlowInitialized)
    assert not event.kind.label


async def test_a_flow_is_due_when_its_submitter_says(desk: Desk, client: FlowClient) -> None:
    present = datetime.now(UTC)
    later = await client.submit(ENERGY, METHANE, due=present + 2 * HOUR)
    ahead = await client.submit(ENERGY, METHANE, due=present + 2 * HOUR, ahead=HOUR)
    first = await client.submit(ENERGY, METHANE)
    last = await client.submit(ENERGY, METHANE, ahead=timedelta(minutes=1))
    assert [(await desk.seen(each)).due for each in (later, ahead, first, last)] == [
        "in 2 h",
        "in 1 h",
        "now",
        "now",
    ]
    claims = await desk.leases.claim([ENERGY.definition_hash], uuid4(), 10, HOUR)
    assert {claim.flow_id for claim in claims} == {first, last}


async def test_an_equal_submission_is_the_same_one(desk: Desk, client: FlowClient) -> None:
    flow_id = new_flow_id()
    assert await client.submit(ENERGY, METHANE, flow_id=flow_id) == flow_id
    assert await client.submit(ENERGY, METHANE, flow_id=flow_id, due=datetime.now(UTC)) == flow_id
    assert len(await desk.store.list(flow_id)) == 1


async def test_another_submission_under_the_id_is_refused(
    client: FlowClient, engine: FlowEngine[Molecule]
) -> None:
    flow_id = await client.submit(ENERGY, METHANE)
    with pytest.raises(InvalidArgument, match="exists with the input"):
        await client.submit(ENERGY, Molecule("CC"), flow_id=flow_id)
    with pytest.raises(InvalidArgument, match="exists with the definition"):
        await client.submit(energy_flow("gfn1"), METHANE, flow_id=flow_id)
    run_here = await engine.run_to_end(input=METHANE)
    with pytest.raises(InvalidArgument, match="was not given to workers"):
        await client.submit(ENERGY, METHANE, flow_id=run_here)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"due": datetime(2026, 1, 1)}, "due"),  # noqa: DTZ001
        ({"ahead": -HOUR}, "ahead"),
        ({"label": 1}, "label"),
    ],
)
async def test_a_submission_that_can_never_be_right_is_refused(
    client: FlowClient, wrong: dict[str, object], name: str
) -> None:
    with pytest.raises(InvalidArgument, match=name):
        await client.submit(ENERGY, METHANE, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="does not take str"):
        await client.submit(ENERGY, "C")  # type: ignore[misc]


async def test_many_flows_are_submitted_in_order(desk: Desk, client: FlowClient) -> None:
    inputs = [Molecule("C" * length) for length in range(1, 40)]
    flow_ids = await client.submit_many(ENERGY, inputs)
    assert len(set(flow_ids)) == len(inputs)
    for flow_id, molecule in zip(flow_ids, inputs, strict=True):
        (event,) = await desk.store.list(flow_id)
        assert isinstance(event.kind, FlowInitialized)
        assert event.kind.input is not None
        assert (await desk.store.get_artifact(event.kind.input)).decode(Molecule) == molecule
    again = await client.submit_many(ENERGY, inputs, flow_ids=flow_ids)
    assert again == flow_ids
    assert await client.submit_many(ENERGY, []) == []
    with pytest.raises(InvalidArgument, match="flow_ids"):
        await client.submit_many(ENERGY, inputs, flow_ids=flow_ids[1:])


async def test_a_transaction_submits_with_what_else_it_stores(
    desk: Desk, client: FlowClient
) -> None:
    dropped = new_flow_id()

    async def submit_and_fail() -> None:
        async with desk.store.transaction() as transaction:
            await transaction.submit(ENERGY, METHANE, flow_id=dropped)
            await transaction.submit(ENERGY, Settings())  # type: ignore[misc]

    with pytest.raises(InvalidArgument, match="does not take Settings"):
        await submit_and_fail()
    assert await desk.store.list(dropped) == []
    assert await desk.row(dropped) is None
    async with desk.store.transaction() as transaction:
        flow_id = await transaction.submit(ENERGY, METHANE, label="methane", due=datetime.now(UTC))
        assert await transaction.submit(ENERGY, METHANE, flow_id=flow_id) == flow_id
    assert (await desk.seen(flow_id)).due == "now"
    assert (await desk.store.get_artifact(ENERGY.definition_hash)).payload
    assert await client.submit(ENERGY, METHANE, flow_id=flow_id) == flow_id


async def test_a_call_that_waits_returns_when_the_flow_has_ended(
    client: FlowClient, engine: FlowEngine[Molecule]
) -> None:
    flow_id = await client.submit(ENERGY, METHANE)
    waiting = asyncio.create_task(client.result(ENERGY, flow_id))
    state = asyncio.create_task(client.wait(flow_id))
    await engine.run_to_end(flow_id)
    assert await waiting == Molecule("C by gfn2")
    assert await state is FlowState.COMPLETED


async def test_a_call_does_not_wait_longer_than_its_timeout(client: FlowClient) -> None:
    flow_id = await client.submit(ENERGY, METHANE)
    with pytest.raises(TimeoutError, match="is pending"):
        await client.wait(flow_id, timeout=NOW)
    with pytest.raises(TimeoutError, match="is pending"):
        await client.result(ENERGY, flow_id, timeout=timedelta(milliseconds=30))


async def test_a_flow_that_does_not_exist_is_not_found(client: FlowClient) -> None:
    unknown = new_flow_id()
    with pytest.raises(FlowNotFound):
        await client.wait(unknown)
    with pytest.raises(FlowNotFound):
        await client.result(ENERGY, unknown)
    with pytest.raises(FlowNotFound):
        await client.retry(unknown, reason="again")
    with pytest.raises(FlowNotFound):
        await client.cancel(unknown, reason="no")


async def test_the_result_of_another_definition_is_refused_at_once(client: FlowClient) -> None:
    flow_id = await client.submit(energy_flow("gfn1"), METHANE)
    with pytest.raises(DefinitionMismatch, match=r"params\.method"):
        await client.result(ENERGY, flow_id)


async def test_a_failed_flow_says_why_and_is_retried(
    desk: Desk, client: FlowClient, engine: FlowEngine[Molecule]
) -> None:
    flow_id = await client.submit(ENERGY, NOTHING)
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    assert await client.wait(flow_id) is FlowState.FAILED
    with pytest.raises(FlowHasFailed, match="ValueError: no atoms") as raised:
        await client.result(ENERGY, flow_id)
    error = raised.value
    assert (error.step_id, error.error_class, error.reason) == (
        "optimise",
        "builtins.ValueError",
        "no atoms",
    )
    assert (await desk.seen(flow_id)).due == "never"
    await client.retry(flow_id, reason="more atoms", actor="Ada")
    assert (await desk.seen(flow_id)).due == "now"
    last = (await desk.store.list(flow_id))[-1]
    assert (last.variant, last.metadata) == ("R", {"actor": "Ada"})
    with pytest.raises(InvalidArgument, match="has failed"):
        await client.retry(flow_id, reason="twice")


async def test_a_cancelled_flow_does_not_go_on(
    desk: Desk, client: FlowClient, engine: FlowEngine[Molecule]
) -> None:
    flow_id = await client.submit(ENERGY, METHANE)
    with event_metadata(correlation_id="batch 3"):
        await client.cancel(flow_id, reason="not needed", actor="Ada")
    last = (await desk.store.list(flow_id))[-1]
    assert last.kind == FlowCancelled("not needed")
    assert last.metadata == {"correlation_id": "batch 3", "actor": "Ada"}
    assert await desk.row(flow_id) is None
    await client.cancel(flow_id, reason="again")
    assert len(await desk.store.list(flow_id)) == 2
    assert await client.wait(flow_id) is FlowState.CANCELLED
    with pytest.raises(FlowWasCancelled, match="not needed"):
        await client.result(ENERGY, flow_id)
    with pytest.raises(FlowWasCancelled):
        await client.retry(flow_id, reason="again")
    with pytest.raises(FlowWasCancelled):
        await engine.run_to_end(flow_id)


async def test_a_completed_flow_is_neither_cancelled_nor_retried(
    client: FlowClient, engine: FlowEngine[Molecule]
) -> None:
    flow_id = await engine.run_to_end(input=METHANE)
    with pytest.raises(FlowAlreadyCompleted):
        await client.cancel(flow_id, reason="no")
    with pytest.raises(FlowAlreadyCompleted):
        await client.retry(flow_id, reason="no")


async def test_a_failed_flow_can_be_cancelled(
    client: FlowClient, engine: FlowEngine[Molecule]
) -> None:
    flow_id = await client.submit(ENERGY, NOTHING)
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    await client.cancel(flow_id, reason="hopeless")
    assert await client.wait(flow_id) is FlowState.CANCELLED


async def test_a_flow_that_has_waited_is_asked_to_end(desk: Desk, client: FlowClient) -> None:
    flow_id = await client.submit(ENERGY, METHANE)
    await desk.store.append_kind(flow_id, StepWaits(0, "embed", None, {"job": 7}))
    assert (await desk.seen(flow_id)).due == "never"
    await client.cancel(flow_id, reason="not needed", actor="Ada")
    await client.cancel(flow_id, reason="not needed")
    events = await desk.store.list(flow_id)
    assert [event.kind for event in events[2:]] == [
        StepSignal(0, "embed", CANCEL, {"reason": "not needed"})
    ]
    assert (await desk.seen(flow_id)).due == "now"
    await client.cancel(flow_id, reason="at once", force=True)
    assert await client.wait(flow_id) is FlowState.CANCELLED


async def test_a_client_that_was_overtaken_reads_the_flow_again(
    desk: Desk, client: FlowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow_id = await client.submit(ENERGY, METHANE)
    read = desk.store.list

    async def read_and_signal(flow_id: UUID) -> list[FlowEvent]:
        """Read the events, and append one after the first reading."""
        events = await read(flow_id)
        if len(events) == 1:
            await desk.store.append_kind(flow_id, StepSignal(0, "embed", "progress"))
        return events

    monkeypatch.setattr(desk.store, "list", read_and_signal)
    await client.cancel(flow_id, reason="not needed")
    assert [event.variant for event in await read(flow_id)] == ["I", "G", "K"]

"""A flow that is over can be sealed: then no event follows, in every store."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from chem_persistence import (
    Artifact,
    FlowCancelled,
    FlowInitialized,
    FlowNotCompleted,
    FlowNotFound,
    FlowSealed,
    InMemoryEventStore,
    InvalidArgument,
    StepSignal,
    StepStarted,
    export_flows,
    import_bundle,
    seal_flow,
)
from chem_persistence.domain.definition import definition_artifacts
from chem_persistence.domain.events import SEALED, LibrarySignal
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id, whole_history
from tests.support.leases.desk import Desk

VALUE = Artifact.from_payload(kind="Value", payload={"n": 1.0})
LATE = StepSignal(0, "acquire", "late")


async def completed_flow(desk: Desk) -> UUID:
    flow_id = new_flow_id()
    await desk.store.append_kinds(flow_id, whole_history(VALUE), artifacts=[VALUE])
    return flow_id


async def test_a_sealed_flow_takes_no_more_events(desk: Desk) -> None:
    flow_id = await completed_flow(desk)
    before = await desk.store.append_kind(flow_id, LATE)
    assert await seal_flow(desk.store, flow_id, actor="Ada")
    events = await desk.store.list(flow_id)
    assert events[-2] == before
    assert events[-1].kind == StepSignal(0, "acquire", SEALED)
    assert events[-1].metadata == {"actor": "Ada"}
    for expected in (None, len(events), len(events) - 1, 0):
        with pytest.raises(FlowSealed) as caught:
            await desk.store.append_kind(flow_id, LATE, expected_version=expected)
        assert caught.value.flow_id == flow_id
    assert await desk.store.list(flow_id) == events


async def test_a_seal_is_set_once(desk: Desk) -> None:
    flow_id = await completed_flow(desk)
    assert await asyncio.gather(*(seal_flow(desk.store, flow_id) for _ in range(3))) in (
        [True, False, False],
        [False, True, False],
        [False, False, True],
    )
    assert not await seal_flow(desk.store, flow_id)


async def test_other_flows_of_the_same_moment_are_stored(desk: Desk) -> None:
    flow_id, other = await completed_flow(desk), new_flow_id()
    await seal_flow(desk.store, flow_id)
    refused, stored = await asyncio.gather(
        desk.store.append_kind(flow_id, LATE),
        desk.store.append_kind(other, initialized()),
        return_exceptions=True,
    )
    assert isinstance(refused, FlowSealed)
    assert await desk.store.list(other) == [stored]


async def test_what_is_acknowledged_is_before_the_seal(desk: Desk) -> None:
    flow_id = await completed_flow(desk)

    async def append_on() -> list[int]:
        versions: list[int] = []
        while True:
            try:
                versions.append((await desk.store.append_kind(flow_id, LATE)).version)
            except FlowSealed:
                return versions
            await asyncio.sleep(0)  # the store in memory never waits

    writers = [asyncio.create_task(append_on()) for _ in range(4)]
    while len(await desk.store.list(flow_id)) < 20:
        await asyncio.sleep(0)
    await seal_flow(desk.store, flow_id)
    stored = await asyncio.gather(*writers)
    acknowledged = sorted(version for versions in stored for version in versions)
    events = await desk.store.list(flow_id)
    assert [event.version for event in events if event.kind == LATE] == acknowledged
    assert events[-1].kind == StepSignal(0, "acquire", SEALED)


async def test_an_append_with_an_event_after_a_seal_is_refused(desk: Desk) -> None:
    flow_id = await completed_flow(desk)
    with pytest.raises(InvalidArgument, match="no event may follow"):
        await desk.store.append_kinds(flow_id, [LibrarySignal(0, "acquire", SEALED), LATE])


async def test_the_first_attempt_of_a_sealed_flow_is_recognised(desk: Desk) -> None:
    flow_id, event_id = await completed_flow(desk), new_flow_id()
    first = await desk.store.append_kind(flow_id, LATE, event_id=event_id)
    await seal_flow(desk.store, flow_id)
    assert await desk.store.append_kind(flow_id, LATE, event_id=event_id) == first


async def test_only_flows_that_are_over_are_sealed(desk: Desk) -> None:
    flow_id = new_flow_id()
    with pytest.raises(FlowNotFound):
        await seal_flow(desk.store, flow_id)
    await desk.store.append_kinds(flow_id, [initialized(), StepStarted(0, "acquire")])
    with pytest.raises(FlowNotCompleted):
        await seal_flow(desk.store, flow_id)
    await desk.store.append_kind(flow_id, FlowCancelled("no use"))
    assert await seal_flow(desk.store, flow_id)


async def test_a_flow_that_named_no_step_is_sealed_by_its_definition(desk: Desk) -> None:
    known, unknown = new_flow_id(), new_flow_id()
    await desk.store.append_kinds(
        known, [initialized(), FlowCancelled("no use")], artifacts=definition_artifacts(DEFINITION)
    )
    await desk.store.append_kinds(unknown, [FlowInitialized("d" * 64, 1), FlowCancelled("no use")])
    assert await seal_flow(desk.store, known)
    assert (await desk.store.list(known))[-1].kind == StepSignal(0, "acquire", SEALED)
    with pytest.raises(InvalidArgument, match="its definition is missing"):
        await seal_flow(desk.store, unknown)


async def test_a_flow_that_was_given_to_workers_is_in_no_list_once_it_is_sealed(
    desk: Desk,
) -> None:
    flow_id = await desk.submit()
    await desk.store.append_kind(flow_id, LibrarySignal(0, "acquire", SEALED))
    assert await desk.row(flow_id) is None


async def test_a_sealed_flow_travels_in_a_bundle(desk: Desk, tmp_path: Path) -> None:
    flow_id = await completed_flow(desk)
    await seal_flow(desk.store, flow_id)
    await export_flows(desk.store, [flow_id], tmp_path / "run.zip")
    elsewhere = InMemoryEventStore()
    await import_bundle(elsewhere, tmp_path / "run.zip")
    with pytest.raises(FlowSealed):
        await elsewhere.append_kind(flow_id, LATE)
    await export_flows(elsewhere, [flow_id], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "run.zip").read_bytes()
    assert not (await import_bundle(desk.store, tmp_path / "run.zip")).new_events

"""Each other way of reading returns what `list` returns, in every store."""

from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from chem_persistence import (
    DefinitionMismatch,
    FlowDefinition,
    FlowEventKind,
    FlowInstance,
    InvalidArgument,
    StepDefinition,
    StepSignal,
    StepStarted,
    UnreplayableEvent,
)
from chem_persistence.domain.instance import initial_instance
from tests.support.examples import examples
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.flows.histories import PLAUSIBLE_KINDS
from tests.support.servers.backends import Backend

BOUNDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=examples(30),
    suppress_health_check=list(HealthCheck),
)
HISTORY: list[FlowEventKind] = [
    initialized(),
    StepStarted(0, "acquire"),
    *(
        StepSignal(0, "acquire", "progress", {"done": number / 7, "big": 1e16})
        for number in range(5)
    ),
]


async def stored_flow(backend: Backend) -> UUID:
    flow_id = new_flow_id()
    await backend.store.append_kinds(flow_id, HISTORY, metadata={"actor": "Ada"})
    return flow_id


async def test_iterating_gives_what_listing_gives(backend: Backend) -> None:
    flow_id = await stored_flow(backend)
    events = [event async for event in backend.store.iterate(flow_id)]
    assert events == await backend.store.list(flow_id)
    assert len(events) == len(HISTORY)


@pytest.mark.parametrize("after", [-7, -1, 0, 3, 5, 6, 7, 2**31 - 1, 2**40])
async def test_iterating_begins_after_a_version(backend: Backend, after: int) -> None:
    flow_id = await stored_flow(backend)
    events = [event async for event in backend.store.iterate(flow_id, after_version=after)]
    assert [event.version for event in events] == list(range(max(after + 1, 0), len(HISTORY)))


async def test_iterating_over_an_unknown_flow_ends_at_once(backend: Backend) -> None:
    assert [event async for event in backend.store.iterate(new_flow_id())] == []


async def test_an_iteration_can_be_abandoned_and_begun_again(backend: Backend) -> None:
    flow_id = await stored_flow(backend)
    async for first in backend.store.iterate(flow_id):
        assert first.version == 0
        break
    second = backend.store.iterate(flow_id)
    assert (await anext(second)) == first
    assert len([event async for event in second]) == len(HISTORY) - 1


async def test_an_id_that_names_no_flow_is_refused_before_anything_is_read(
    backend: Backend,
) -> None:
    with pytest.raises(InvalidArgument):
        backend.store.iterate(UUID(int=0))
    with pytest.raises(InvalidArgument):
        await backend.store.list_many([new_flow_id(), UUID(int=0)])


async def test_many_flows_are_listed_each_in_order(backend: Backend) -> None:
    flow_ids = [await stored_flow(backend) for _ in range(3)]
    found = await backend.store.list_many(flow_ids)
    assert list(found) == flow_ids
    assert found == {flow_id: await backend.store.list(flow_id) for flow_id in flow_ids}


async def test_an_unknown_flow_among_many_is_empty_and_one_named_twice_is_there_once(
    backend: Backend,
) -> None:
    known, unknown = await stored_flow(backend), new_flow_id()
    found = await backend.store.list_many([known, unknown, known])
    assert list(found) == [known, unknown]
    assert (len(found[known]), found[unknown]) == (len(HISTORY), [])


async def test_no_flows_are_no_events(backend: Backend) -> None:
    assert await backend.store.list_many([]) == {}


@BOUNDED
@given(kinds=PLAUSIBLE_KINDS)
async def test_every_way_of_reading_gives_the_same_events(
    backend: Backend, kinds: list[FlowEventKind]
) -> None:
    flow_id = new_flow_id()
    appended = await backend.store.append_kinds(flow_id, kinds)
    assert await backend.store.list(flow_id) == appended
    assert [event async for event in backend.store.iterate(flow_id)] == appended
    assert await backend.store.list_many([flow_id]) == {flow_id: appended}


async def test_an_instance_catches_up_with_what_was_appended_since(backend: Backend) -> None:
    flow_id = await stored_flow(backend)
    before = await backend.repository.load(flow_id, None, DEFINITION)
    await backend.store.append_kinds(
        flow_id, [StepStarted(0, "acquire"), StepStarted(1, "compute")]
    )
    after = await backend.repository.catch_up(before, None, DEFINITION)
    assert after == await backend.repository.load(flow_id, None, DEFINITION)
    assert after.steps[0].attempts == 2
    assert await backend.repository.catch_up(after, None, DEFINITION) == after


async def test_an_instance_catches_up_with_events_that_are_given(backend: Backend) -> None:
    flow_id = await stored_flow(backend)
    begin = initial_instance(flow_id, DEFINITION)
    events = await backend.store.list(flow_id)
    middle = await backend.repository.catch_up(begin, events[:3], DEFINITION)
    assert middle.version == 3
    assert await backend.repository.catch_up(middle, events[3:], DEFINITION) == (
        await backend.repository.load(flow_id, None, DEFINITION)
    )
    with pytest.raises(UnreplayableEvent):
        await backend.repository.catch_up(middle, events[4:], DEFINITION)


async def test_an_instance_does_not_catch_up_under_other_steps(backend: Backend) -> None:
    instance = await backend.repository.load(await stored_flow(backend), None, DEFINITION)
    other = FlowDefinition((StepDefinition("acquire"),))
    with pytest.raises(InvalidArgument, match="other steps"):
        await backend.repository.catch_up(instance, None, other)
    with pytest.raises(InvalidArgument, match="other steps"):
        await backend.repository.catch_up(instance, [], other)


async def test_an_empty_instance_does_not_catch_up_with_a_flow_of_another_definition(
    backend: Backend,
) -> None:
    flow_id = await stored_flow(backend)
    same_steps = FlowDefinition(
        tuple(msgspec.structs.replace(step, version="2") for step in DEFINITION.steps)
    )
    begin: FlowInstance = initial_instance(flow_id, same_steps)
    with pytest.raises(DefinitionMismatch):
        await backend.repository.catch_up(begin, None, same_steps)

"""The feed yields every event once, in the order of `seq`, also one that commits late."""

import asyncio
from contextlib import aclosing
from uuid import UUID

import pytest

from chem_persistence import ConcurrencyConflict, FlowEvent, InvalidArgument, StepSignal
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.backends import Backend


async def append(backend: Backend, flow_id: UUID, count: int = 1) -> list[FlowEvent]:
    kinds = [StepSignal(0, "acquire", "progress", number) for number in range(count)]
    return await backend.store.append_kinds(flow_id, kinds, metadata={"actor": "Ada"})


async def test_an_empty_log_has_an_empty_feed(backend: Backend) -> None:
    assert await backend.store.read_feed() == []


async def test_the_feed_has_the_events_of_all_flows_as_they_were_given_back(
    backend: Backend,
) -> None:
    first, second = new_flow_id(), new_flow_id()
    events = [
        event for flow_id in (first, second, first) for event in await append(backend, flow_id, 2)
    ]
    assert await backend.store.read_feed() == events
    async with backend.reconnected() as again:
        assert await again.store.read_feed() == events


@pytest.mark.parametrize("limit", [0, 1, 3, 7, 100])
async def test_pages_follow_each_other(backend: Backend, limit: int) -> None:
    events = await append(backend, new_flow_id(), 7)
    read: list[FlowEvent] = []
    while page := await backend.store.read_feed(after_seq=read[-1].seq if read else 0, limit=limit):
        assert len(page) <= limit
        read += page
    assert read == (events if limit else [])


@pytest.mark.parametrize("limit", [12, 1_000, 20_000, 100_000, 2**63 - 1])
@pytest.mark.parametrize("large", [300, 9_000, 100_000])
async def test_10b_a_page_is_as_long_as_its_limit_unless_it_is_large(
    backend: Backend, limit: int, large: int
) -> None:
    kinds = [
        StepSignal(0, "acquire", "x", "C" * (large if number % 5 == 1 else 10))
        for number in range(12)
    ]
    events = await backend.store.append_kinds(new_flow_id(), kinds)
    assert await backend.store.read_feed(limit=limit) == events
    first = await backend.store.read_feed_page(0, limit=1)
    rest = await backend.store.read_feed_page(first.position, limit=limit)
    assert [*first.events, *rest.events] == events


async def test_a_failed_append_leaves_no_trace_in_the_feed(backend: Backend) -> None:
    flow_id = new_flow_id()
    events = await append(backend, flow_id)
    with pytest.raises(ConcurrencyConflict):
        await backend.store.append_kind(flow_id, initialized(), expected_version=0)
    events += await append(backend, flow_id)
    assert await backend.store.read_feed() == events


async def test_an_event_that_commits_late_is_not_missed(backend: Backend) -> None:
    async with backend.store.transaction() as tx:
        early = await tx.append_kind(new_flow_id(), initialized())
        (late,) = await append(backend, new_flow_id())
        assert early.seq < late.seq
        assert await backend.store.read_feed() == []
        assert await backend.store.read_feed(after_seq=early.seq) == []
    assert await backend.store.read_feed() == [early, late]


async def test_what_came_before_an_open_transaction_is_given(backend: Backend) -> None:
    before = await append(backend, new_flow_id(), 3)
    async with backend.store.transaction() as tx:
        own = [await tx.append_kind(new_flow_id(), initialized()) for _ in range(3)]
        await append(backend, new_flow_id())
        assert await backend.store.read_feed() == before
    assert (await backend.store.read_feed())[:6] == before + own


async def changes_its_mind(backend: Backend) -> None:
    async with backend.store.transaction() as tx:
        await tx.append_kind(new_flow_id(), initialized())
        await append(backend, new_flow_id())
        raise LookupError


async def test_a_transaction_that_fails_stalls_nobody(backend: Backend) -> None:
    with pytest.raises(LookupError):
        await changes_its_mind(backend)
    (event,) = await backend.store.read_feed()
    assert isinstance(event.kind, StepSignal)


async def test_a_transaction_that_only_reads_stalls_nobody(backend: Backend) -> None:
    async with backend.store.transaction():
        events = await append(backend, new_flow_id())
        assert await backend.store.read_feed() == events


async def test_of_two_open_transactions_the_first_counts(backend: Backend) -> None:
    async with backend.store.transaction() as first:
        one = await first.append_kind(new_flow_id(), initialized())
        async with backend.store.transaction() as second:
            two = await second.append_kind(new_flow_id(), initialized())
        assert await backend.store.read_feed() == []
    assert await backend.store.read_feed() == [one, two]


async def test_following_waits_for_what_comes(backend: Backend) -> None:
    events = await append(backend, new_flow_id(), 3)
    async with aclosing(backend.store.follow(after_seq=events[0].seq, poll_interval=0.001)) as feed:  # type: ignore[type-var]
        assert [await anext(feed), await anext(feed)] == events[1:]
        coming = asyncio.ensure_future(anext(feed))
        (appended,) = await append(backend, new_flow_id())
        assert await coming == appended


@pytest.mark.parametrize(
    "wrong", [{"after_seq": -1}, {"limit": -1}, {"after_seq": 2**63}, {"limit": 2**70}]
)
async def test_what_cannot_be_meant_is_refused(backend: Backend, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        await backend.store.read_feed(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"after_seq": -1},
        {"after_seq": 2**63},
        {"poll_interval": 0.0},
        {"poll_interval": float("nan")},
    ],
)
async def test_following_so_is_refused_at_once(backend: Backend, wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument):
        backend.store.follow(**wrong)  # type: ignore[arg-type]

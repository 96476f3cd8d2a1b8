"""The end of the log, as a person watches it."""

from collections.abc import AsyncIterator, Sequence

import anyio
import anyio.lowlevel

from chem_persistence import FlowEvent, PgEventStore, PoolProvider
from chem_persistence.postgres.read.tail import follow_log, read_log_tail
from tests.support.flows.flows import initialized, new_flow_id

SOON = 0.001


async def seen(looks: AsyncIterator[Sequence[FlowEvent]], count: int) -> list[int]:
    """Watch until this many events have come; return their positions in the log."""
    seqs: list[int] = []
    while len(seqs) < count:
        seqs += [event.seq for event in await anext(looks)]
    return seqs


async def test_the_last_events_come_in_order(provider: PoolProvider) -> None:
    store = PgEventStore(provider)
    appended = [await store.append_kind(new_flow_id(), initialized()) for _ in range(5)]
    assert list((await read_log_tail(provider, 3)).events) == appended[2:]
    assert list((await read_log_tail(provider, 0)).events) == []
    assert list((await read_log_tail(provider, 99)).events) == appended


async def test_a_new_event_is_returned_once(provider: PoolProvider) -> None:
    store = PgEventStore(provider)
    await store.append_kind(new_flow_id(), initialized())
    looks = follow_log((await read_log_tail(provider, 10, to_follow=True)).reader, SOON)
    assert list(await anext(looks)) == []
    events = [await store.append_kind(new_flow_id(), initialized()) for _ in range(3)]
    assert await seen(looks, 3) == [event.seq for event in events]
    for _ in range(5):
        assert list(await anext(looks)) == []
    last = await store.append_kind(new_flow_id(), initialized())
    assert await seen(looks, 1) == [last.seq]


async def test_an_event_that_commits_late_is_returned(provider: PoolProvider) -> None:
    store = PgEventStore(provider)
    async with store.transaction() as slow:
        early = await slow.append_kind(new_flow_id(), initialized())
        late = await store.append_kind(new_flow_id(), initialized())
        assert list((await read_log_tail(provider, 10)).events) == [late]
        tail = await read_log_tail(provider, 10, to_follow=True)
        assert list(tail.events) == []
        looks = follow_log(tail.reader, SOON)
        assert list(await anext(looks)) == []
    assert await seen(looks, 2) == [early.seq, late.seq]


async def test_an_event_of_a_long_transaction_is_returned_even_if_it_is_the_last(
    provider: PoolProvider,
) -> None:
    store = PgEventStore(provider)
    looks = follow_log((await read_log_tail(provider, 10, to_follow=True)).reader, SOON)
    for _ in range(5):
        event = await store.append_kind(new_flow_id(), initialized())
        assert await seen(looks, 1) == [event.seq]
    async with store.transaction() as slow:
        last = await slow.append_kind(new_flow_id(), initialized())
        for _ in range(10):
            assert list(await anext(looks)) == []
    assert await seen(looks, 1) == [last.seq]


async def test_a_flow_is_followed_alone(provider: PoolProvider) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    first = await store.append_kind(flow_id, initialized())
    tail = await read_log_tail(provider, 10, flow_id)
    assert list(tail.events) == [first]
    looks = follow_log(tail.reader, SOON)
    await store.append_kind(new_flow_id(), initialized())
    second = await store.append_kind(flow_id, initialized())
    assert await seen(looks, 1) == [second.seq]


async def test_a_flow_without_events_has_no_tail(provider: PoolProvider) -> None:
    assert list((await read_log_tail(provider, 10, new_flow_id())).events) == []


async def test_with_many_overlapping_writers_each_event_is_returned_once(
    provider: PoolProvider,
) -> None:
    store = PgEventStore(provider)

    async def write(turns: int) -> None:
        for turn in range(20):
            async with store.transaction() as slow:
                for _ in range(2):
                    await slow.append_kind(new_flow_id(), initialized())
                for _ in range((turn * turns) % 5):
                    await anyio.lowlevel.checkpoint()

    looks = follow_log((await read_log_tail(provider, 10, to_follow=True)).reader, SOON)
    async with anyio.create_task_group() as writers:
        for turns in range(8):
            writers.start_soon(write, turns)
        given = await seen(looks, 8 * 20 * 2)
    assert sorted(given) == sorted(
        event.seq for event in (await read_log_tail(provider, 1_000)).events
    )

"""A log that goes back is noticed by all who knew what is gone, however it went back.

Writers and subscribers stay connected to one address, which leads to another server afterwards.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    FeedPosition,
    FlowEvent,
    HistoryLost,
    PgEventStore,
    PoolProvider,
    StepSignal,
    build_pool,
)
from chem_persistence.postgres.audit.lost import SeenEvent, find_lost_events
from tests.support.flows.flows import new_flow_id
from tests.support.servers.lives import Life, Promotion, Switchover

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Seen: TypeAlias = "list[tuple[FlowEvent, FeedPosition]]"

ONLY_PROMOTION = pytest.mark.parametrize("kind", [Promotion], indirect=True)
ONLY_SWITCHOVER = pytest.mark.parametrize("kind", [Switchover], indirect=True)


def signal(data: object) -> StepSignal:
    return StepSignal(0, "acquire", "progress", data)


async def append(
    store: PgEventStore, flow_ids: Sequence[UUID], count: int, data: object
) -> list[FlowEvent]:
    """Append so many events to each flow, one after another."""
    return [
        await store.append_kind(flow_id, signal(data)) for _ in range(count) for flow_id in flow_ids
    ]


@pytest.fixture
async def pool(life: Life) -> AsyncIterator[Pool]:
    pool = await build_pool(life.url, max_size=3)
    yield pool
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        pool.terminate()


@pytest.fixture
def store(pool: Pool) -> PgEventStore:
    return PgEventStore(PoolProvider(pool))


async def followed(store: PgEventStore, count: int) -> Seen:
    following = store.follow_with_positions(poll_interval=0.01)
    async with aclosing(following) as feed:  # type: ignore[type-var]
        return [await anext(feed) for _ in range(count)]


async def test_all_who_knew_what_is_gone_are_told(
    life: Life, store: PgEventStore, pool: Pool
) -> None:
    shorter, longer = new_flow_id(), new_flow_id()
    kept = await append(store, (shorter, longer), 3, "kept")
    await life.keep()
    lost = await append(store, (shorter, longer), 3, "lost")
    seen = await followed(store, 12)
    living = store.follow(poll_interval=0.01)
    assert [await anext(living) for _ in range(12)] == kept + lost

    await life.go_back()
    await _subscribers_are_told_of_a_shorter_log(life, store, seen)
    with pytest.raises(HistoryLost):
        await anext(living)

    other = PgEventStore(PoolProvider(pool))
    refilled = await append(other, (longer,), 6, "another life")
    await _writers_are_told(store, shorter, longer)
    await _subscribers_are_told_of_a_log_that_was_filled_again(store, seen)
    found = [each async for each in find_lost_events(PoolProvider(pool), _known(kept + lost))]
    assert {each.event_id for each in found} == {event.event_id for event in lost}
    assert {each.replaced_by for each in found} >= {event.event_id for event in refilled[:3]}


def _known(events: Sequence[FlowEvent]) -> list[SeenEvent]:
    return [SeenEvent(event.flow_id, event.version, event.event_id) for event in events]


async def _subscribers_are_told_of_a_shorter_log(
    life: Life, store: PgEventStore, seen: Seen
) -> None:
    for event, position in seen[6:]:
        with pytest.raises(HistoryLost) as lost:
            await store.read_feed(after_seq=position)
        assert (lost.value.flow_id, lost.value.known) == (event.flow_id, event.seq)
    last = seen[-1][0].seq
    if life.keeps_numbers:  # a number alone may have been given out
        assert await store.read_feed(after_seq=last) == []
    else:
        with pytest.raises(HistoryLost):
            await store.read_feed(after_seq=last)
    for reading in (store.read_feed(after_seq=10**9), anext(store.follow(after_seq=10**9))):
        with pytest.raises(HistoryLost):
            await reading


async def _writers_are_told(store: PgEventStore, shorter: UUID, longer: UUID) -> None:
    """The store's own last acknowledgements: six events of each flow."""
    for flow_id, found in ((shorter, 3), (longer, 9)):
        with pytest.raises(HistoryLost) as lost:
            await store.append_kind(flow_id, signal("who was away"))
        assert (lost.value.flow_id, lost.value.known, lost.value.found) == (flow_id, 6, found)
        event = await store.append_kind(flow_id, signal("who goes on"))
        assert event.version == found


async def _subscribers_are_told_of_a_log_that_was_filled_again(
    store: PgEventStore, seen: Seen
) -> None:
    for _, position in seen[6:]:
        with pytest.raises(HistoryLost):
            await store.read_feed(after_seq=FeedPosition.from_json(position.to_json()))
    positions = [position for _, position in seen]
    newest = await store.newest_that_holds(positions)
    assert newest == positions[5]
    assert newest is not None
    rest = await store.read_feed(after_seq=newest)
    assert rest == [event for event in await store.read_feed() if event.seq > newest.seq]
    assert len(rest) == 8


@pytest.mark.slow
@ONLY_PROMOTION
async def test_a_loss_before_the_last_event_is_told_by_the_window(
    life: Promotion, store: PgEventStore
) -> None:
    """Of two events the one with the smaller number is committed last, and is not received."""
    late, early = new_flow_id(), new_flow_id()
    await append(store, (late, early), 3, "kept")
    async with store.transaction() as tx:
        smaller = await tx.append_kind(late, signal("late"))
        larger = await store.append_kind(early, signal("early"))
        await life.keep()
    assert smaller.seq < larger.seq
    position = (await followed(store, 8))[-1][1]
    living = store.follow(after_seq=position, poll_interval=0.01)
    await life.go_back()
    for reading in (
        store.read_feed(after_seq=position),
        store.read_feed_page(position),
        anext(living),
        anext(store.follow_with_positions(after_seq=position)),
    ):
        with pytest.raises(HistoryLost) as lost:
            await reading
        assert (lost.value.flow_id, lost.value.known) == (early, larger.seq)
        assert "before it" in str(lost.value)
    (event,) = await append(store, (early,), 1, "nothing of it is lost")
    assert event.version == larger.version + 1


@ONLY_SWITCHOVER
async def test_nothing_is_told_of_a_clean_switchover(
    life: Switchover, store: PgEventStore, pool: Pool
) -> None:
    flow_ids = [new_flow_id(), new_flow_id()]
    events = await append(store, flow_ids, 3, "before")
    living = store.follow(poll_interval=0.01)
    assert [await anext(living) for _ in range(6)] == events
    seen = await followed(store, 6)
    await life.keep()
    async with store.transaction() as tx:
        events.append(await tx.append_kind(flow_ids[0], signal("in a transaction")))
    await life.go_back()
    events += await append(store, flow_ids, 2, "after")
    for event in events[6:]:
        assert await anext(living) == event
    for event, position in seen:
        rest = [each for each in events if each.seq > event.seq]
        assert await store.read_feed(after_seq=position) == rest
    found = [each async for each in find_lost_events(PoolProvider(pool), _known(events))]
    assert found == []

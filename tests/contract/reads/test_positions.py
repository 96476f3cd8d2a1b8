"""A position records what a subscriber has seen, and is valid only in the log that was read."""

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from uuid import UUID

import pytest

from chem_persistence import (
    FeedPosition,
    FlowEvent,
    HistoryLost,
    InMemoryEventStore,
    InvalidArgument,
    StepSignal,
)
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.backends import Backend, Store


async def append(store: Store, flow_id: UUID, count: int = 1) -> list[FlowEvent]:
    kinds = [StepSignal(0, "acquire", "progress", number) for number in range(count)]
    return await store.append_kinds(flow_id, kinds)


async def roll_back(store: Store) -> int:
    """Append in a transaction that is rolled back; return the seq that stays unused."""
    seq = 0
    with suppress(LookupError):
        async with store.transaction() as tx:
            seq = (await tx.append_kind(new_flow_id(), initialized())).seq
            raise LookupError
    return seq


async def foreign_position(seq: int) -> FeedPosition:
    """Return the position of an event with this number in another log."""
    other = InMemoryEventStore()
    await append(other, new_flow_id(), seq)
    return await other.position()


async def paged(store: Store, limit: int) -> AsyncIterator[tuple[list[FlowEvent], FeedPosition]]:
    position = FeedPosition.start()
    while True:
        page = await store.read_feed_page(position, limit=limit)
        position = page.position
        yield list(page.events), position
        if not page.events:
            return


async def test_an_empty_feed_is_at_its_start(backend: Backend) -> None:
    assert await backend.store.position() == FeedPosition.start()
    page = await backend.store.read_feed_page(0)
    assert (list(page.events), page.position) == ([], FeedPosition.start())


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_pages_follow_each_other_by_position(backend: Backend, limit: int) -> None:
    events = await append(backend.store, new_flow_id(), 7)
    read: list[FlowEvent] = []
    async for page, position in paged(backend.store, limit):
        read += page
        assert position.seq == read[-1].seq
        assert await backend.store.read_feed(after_seq=position) == events[len(read) :]
    assert read == events


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
async def test_a_position_is_the_same_by_page_by_follower_and_by_number(
    backend: Backend, count: int, limit: int
) -> None:
    store, flow_id = backend.store, new_flow_id()
    events = await append(store, flow_id, count)
    begin = await store.position(events[max(0, count - 5)].seq)
    page = await store.read_feed_page(begin, limit=limit)
    following = store.follow_with_positions(after_seq=begin)
    async with aclosing(following) as feed:  # type: ignore[type-var]
        followed = [await anext(feed) for _ in page.events]
    assert [event for event, _ in followed] == list(page.events)
    for event, position in followed:
        assert await store.newest_that_holds([position]) == position
        assert (position.seq, position.flow_id) == (event.seq, flow_id)
        by_number = await store.position(event.seq)
        assert (by_number.link, by_number.seq) == (position.link, position.seq)
    if followed:
        assert followed[-1][1] == page.position


async def test_a_position_survives_its_json(backend: Backend) -> None:
    await append(backend.store, new_flow_id(), 3)
    position = await backend.store.position()
    assert FeedPosition.from_json(position.to_json()) == position
    assert FeedPosition.from_json(position.to_json().encode()) == position
    assert FeedPosition.from_json(FeedPosition.start().to_json()) == FeedPosition.start()


async def test_following_goes_on_from_a_position(backend: Backend) -> None:
    store = backend.store
    events = await append(store, new_flow_id(), 3)
    position = FeedPosition.from_json((await store.position(events[0].seq)).to_json())
    following = store.follow(after_seq=position, poll_interval=0.001)
    async with aclosing(following) as feed:  # type: ignore[type-var]
        assert [await anext(feed), await anext(feed)] == events[1:]
        (late,) = await append(store, new_flow_id())
        assert await anext(feed) == late


async def test_numbers_that_no_event_has_do_not_break_a_position(backend: Backend) -> None:
    """Appends that fail leave gaps, before, in and after the window."""
    store, flow_id = backend.store, new_flow_id()
    positions: list[FeedPosition] = []
    for _ in range(4):
        await roll_back(store)
        await append(store, flow_id)
        positions.append((await store.read_feed_page(FeedPosition.start())).position)
    for position in positions:
        assert await store.newest_that_holds([position]) == position
        await store.read_feed(after_seq=position)


async def test_a_position_is_not_beyond_an_event_that_may_still_commit(backend: Backend) -> None:
    store = backend.store
    (before,) = await append(store, new_flow_id())
    async with store.transaction() as tx:
        late = await tx.append_kind(new_flow_id(), initialized())
        (early,) = await append(store, new_flow_id())
        for position in (await store.position(), await store.position(early.seq)):
            assert position.seq == before.seq
    assert await store.read_feed(after_seq=position) == [late, early]
    assert await store.newest_that_holds([position]) == position


@pytest.mark.parametrize("count", [0, 1, 2, 5, 300])
@pytest.mark.parametrize("seen", [1, 3, 300])
async def test_a_position_of_another_log_is_told(backend: Backend, count: int, seen: int) -> None:
    """The log is shorter than the one that was read, as long, or longer."""
    store, position = backend.store, await foreign_position(seen)
    if count:
        await append(store, new_flow_id(), count)
    for reading in (
        store.read_feed(after_seq=position),
        store.read_feed_page(position),
        anext(store.follow(after_seq=position)),
        anext(store.follow_with_positions(after_seq=position)),
    ):
        with pytest.raises(HistoryLost) as lost:
            await reading
        assert (lost.value.flow_id, lost.value.known) == (position.flow_id, seen)
        assert lost.value.found == (await store.position()).seq
    assert await store.newest_that_holds([position]) is None


async def test_a_follower_begins_at_the_newest_position_that_holds(backend: Backend) -> None:
    store = backend.store
    await append(store, new_flow_id(), 2)
    older = await store.position()
    await append(store, new_flow_id(), 2)
    newer = await store.position()
    foreign = [await foreign_position(count) for count in (1, 3, 9)]
    assert await store.newest_that_holds([older, *foreign, newer]) == newer
    assert await store.newest_that_holds([older, *foreign]) == older
    assert await store.newest_that_holds([*foreign, FeedPosition.start()]) == FeedPosition.start()
    assert await store.newest_that_holds([]) is None


async def test_a_window_that_differs_is_told_although_the_event_itself_is_there(
    backend: Backend,
) -> None:
    """A promotion kept the event with the larger seq, and lost that with the smaller one."""
    store, flow_id = backend.store, new_flow_id()
    await append(store, new_flow_id(), 3)
    (last,) = await append(store, flow_id)
    position = await store.position()
    written = position.to_json().replace(position.digest.hex(), "ab" * 32)
    with pytest.raises(HistoryLost) as lost:
        await store.read_feed(after_seq=FeedPosition.from_json(written))
    assert (lost.value.flow_id, lost.value.known, lost.value.found) == (flow_id, last.seq, last.seq)


@pytest.mark.parametrize("beyond", [1, 1_000, 10**9, 2**62])
async def test_a_number_that_was_never_given_out_is_told(backend: Backend, beyond: int) -> None:
    store = backend.store
    (event,) = await append(store, new_flow_id())
    seq = event.seq + beyond
    for reading in (
        store.read_feed(after_seq=seq),
        store.read_feed_page(seq),
        anext(store.follow(after_seq=seq)),
        anext(store.follow_with_positions(after_seq=seq)),
        store.position(seq),
    ):
        with pytest.raises(HistoryLost) as lost:
            await reading
        assert (lost.value.flow_id, lost.value.known, lost.value.found) == (None, seq, event.seq)


async def test_the_number_of_an_append_that_failed_can_have_been_seen(backend: Backend) -> None:
    store = backend.store
    seq = await roll_back(store)
    assert await store.read_feed(after_seq=seq) == []


@pytest.mark.parametrize("wrong", ["7", None, 1.5, b"{}", {"seq": 1}])
async def test_what_is_no_position_is_refused(backend: Backend, wrong: object) -> None:
    with pytest.raises(InvalidArgument):
        await backend.store.read_feed(after_seq=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        backend.store.follow(after_seq=wrong)  # type: ignore[arg-type]

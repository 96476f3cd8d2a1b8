"""Followers go on when what they have seen is archived, and are told of what is lost.

They are told of what was archived before they had read it, too.
"""

import asyncio
import json
from contextlib import aclosing
from functools import partial
from random import Random
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    EventsArchived,
    FeedPosition,
    FlowEvent,
    HistoryLost,
    PgEventStore,
    PoolProvider,
    StepSignal,
)
from tests.support.archived_flows import Meanwhile, archive, forget
from tests.support.flows.flows import initialized, new_flow_id

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
SAID = StepSignal(0, "acquire", "progress")


@pytest.mark.parametrize("archived", [0, 1], ids=["an event before", "its own event"])
async def test_a_position_holds_of_which_something_was_archived(
    provider: PoolProvider, owner: Owner, archived: int
) -> None:
    store, first, second = PgEventStore(provider), new_flow_id(), new_flow_id()
    await store.append_kind(first, initialized())
    await store.append_kind(second, initialized())
    page = await store.read_feed_page(FeedPosition.start())
    await archive(owner, (first, second)[archived])
    assert (await store.read_feed_page(page.position)).events == []
    other = await store.append_kind(new_flow_id(), initialized())
    following = await store.read_feed_page(page.position)
    assert following.events == [other]
    assert await store.newest_that_holds([page.position]) == page.position
    assert (await store.read_feed_page(following.position)).events == []


async def test_what_is_lost_and_was_not_archived_is_told(
    provider: PoolProvider, owner: Owner
) -> None:
    store, first, second = PgEventStore(provider), new_flow_id(), new_flow_id()
    await store.append_kinds(first, [initialized(), SAID])
    await archive(owner, first)
    await store.append_kinds(second, [initialized(), SAID])
    page = await store.read_feed_page(0)
    await forget(owner, second, 1)
    with pytest.raises(HistoryLost):
        await store.read_feed_page(page.position)


class Follower:
    """Reads pages, keeps what it was given, and goes on when it is told of archived flows."""

    def __init__(self, store: PgEventStore, position: FeedPosition, limit: int = 1_000) -> None:
        self.position = position
        self.seen: list[FlowEvent] = []
        self.told: list[UUID] = []
        self._store = store
        self._limit = limit

    async def read(self) -> bool:
        """Read a page; return whether there was something, or it was told of something."""
        written = FeedPosition.from_json(self.position.to_json())
        try:
            page = await self._store.read_feed_page(written, limit=self._limit)
        except EventsArchived as error:
            self.told += error.flows
            self.position = error.past_archive()
            return True
        self.seen += page.events
        self.position = page.position
        return bool(page.events)

    async def read_to_end(self) -> None:
        while await self.read():
            pass

    def check(self, stored: dict[UUID, list[FlowEvent]]) -> None:
        """Check that each flow was seen whole, or told, and that no event came twice."""
        assert len({event.seq for event in self.seen}) == len(self.seen)
        for flow_id, events in stored.items():
            seen = [event for event in self.seen if event.flow_id == flow_id]
            assert seen == events or flow_id in self.told


async def append(store: PgEventStore) -> tuple[UUID, list[FlowEvent]]:
    flow_id = new_flow_id()
    return flow_id, await store.append_kinds(flow_id, [initialized(), SAID, SAID])


async def test_an_overtaken_follower_is_told_once_and_goes_on(
    provider: PoolProvider, owner: Owner
) -> None:
    store = PgEventStore(provider)
    (_, seen), (flow_id, half), (kept, live) = [await append(store) for _ in range(3)]
    position = await store.position(half[0].seq)
    old = json.loads(position.to_json())
    del old["archived"]
    await archive(owner, flow_id)
    with pytest.raises(EventsArchived, match=str(flow_id)) as told:
        await store.read_feed(after_seq=FeedPosition.from_json(json.dumps(old)))
    assert (told.value.position, told.value.flows, told.value.count) == (position, [flow_id], 1)
    page = await store.read_feed_page(told.value.past_archive())
    assert list(page.events) == live
    assert page.position.archived == told.value.past_archive().archived > position.archived
    # what it had read to the end is no news, wherever it stands, and neither is what it was told
    await archive(owner, kept)
    following = Follower(store, FeedPosition.from_json(page.position.to_json()))
    await following.read_to_end()
    assert (following.seen, following.told) == ([], [])
    assert following.position.archived > page.position.archived
    # a number knows what was archived before, and the start knows nothing
    assert (await store.read_feed_page(0)).events == seen
    assert await store.read_feed(after_seq=0) == seen
    with pytest.raises(EventsArchived) as all_told:
        await store.read_feed_page(FeedPosition.start())
    assert all_told.value.flows == [flow_id, kept]
    assert FeedPosition.from_json(all_told.value.past_archive().to_json()).seq == 0
    assert await store.read_feed(after_seq=all_told.value.past_archive()) == seen


@pytest.mark.parametrize("is_number", [False, True], ids=["a position", "a number"])
async def test_one_that_waits_is_told_of_what_came_and_went_between_its_looks(
    provider: PoolProvider, owner: Owner, *, is_number: bool
) -> None:
    store = PgEventStore(provider)
    flow_id, events = await append(store)
    begin = await store.position()
    missed: list[UUID] = []

    async def come_and_go() -> None:
        if not is_number:  # its own event goes, too
            await archive(owner, flow_id)
        missed.append((await append(store))[0])
        await archive(owner, *missed)

    waiting = PgEventStore(Meanwhile(provider, 7, come_and_go))
    following = waiting.follow_with_positions(
        after_seq=begin.seq if is_number else begin, poll_interval=0.001
    )
    async with aclosing(following) as feed:  # type: ignore[type-var]
        with pytest.raises(EventsArchived) as told:
            await anext(feed)
    assert told.value.flows == missed
    assert told.value.position.seq == events[-1].seq
    follower = Follower(store, told.value.past_archive())
    _, late = await append(store)
    await follower.read_to_end()
    assert (follower.seen, follower.told) == (late, [])


@pytest.mark.parametrize("number", range(7))
async def test_an_archive_at_any_moment_of_a_page_is_told(
    provider: PoolProvider, owner: Owner, number: int
) -> None:
    store = PgEventStore(provider)
    _, seen = await append(store)
    stored = dict([await append(store) for _ in range(3)])
    first, second, _ = stored
    position = await store.position(seen[-1].seq)
    for gone, limit in ((first, 1_000), (second, 2)):
        meanwhile = Meanwhile(provider, number, partial(archive, owner, gone))
        follower = Follower(PgEventStore(meanwhile), position, limit)
        while not meanwhile.is_done:
            await follower.read()
        await follower.read_to_end()
        follower.told += [first] if gone == second else []
        follower.check(stored)


async def test_a_follower_beside_archives_sees_every_event_once_or_is_told(
    provider: PoolProvider, owner: Owner
) -> None:
    store, random = PgEventStore(provider), Random(5)
    followers = [Follower(store, await store.position(), limit) for limit in (1, 2, 1_000)]
    stored: dict[UUID, list[FlowEvent]] = {}
    is_over = False

    async def write() -> None:
        nonlocal is_over
        live: list[UUID] = []
        for _ in range(30):
            flow_id, events = await append(store)
            stored[flow_id] = events
            live.append(flow_id)
            while len(live) > random.randint(0, 4):
                await archive(owner, live.pop(random.randrange(len(live))))
        is_over = True

    async def follow(follower: Follower) -> None:
        while not is_over:
            await follower.read()
        await follower.read_to_end()

    await asyncio.gather(write(), *map(follow, followers))
    for follower in followers:
        follower.check(stored)


async def test_a_register_that_went_back_is_not_known(provider: PoolProvider, owner: Owner) -> None:
    """A position that knows more archives than were ever numbered is told of all that come."""
    store = PgEventStore(provider)
    await append(store)
    beyond = json.loads((await store.position()).to_json()) | {"archived": 1_000_000}
    flow_id, _ = await append(store)
    await archive(owner, flow_id)
    follower = Follower(store, FeedPosition.from_json(json.dumps(beyond)))
    await follower.read_to_end()
    assert (follower.seen, follower.told) == ([], [flow_id])


async def test_what_was_archived_costs_a_page_one_statement(
    provider: PoolProvider, owner: Owner
) -> None:
    """The register is read only when something was archived that is not known."""
    store = PgEventStore(provider)
    flow_id, _ = await append(store)
    await append(store)
    begin = await store.position()
    await archive(owner, flow_id)
    counted = Meanwhile(provider, 1_000, asyncio.Event().wait)
    follower, statements = Follower(PgEventStore(counted), begin), []
    for count in (0, 0, 1):
        for _ in range(count):
            await append(store)
        before = counted.left
        await follower.read()
        statements.append(before - counted.left)
    assert follower.told == []
    assert statements[1:] == [statements[0] - 1, statements[0] - 1]

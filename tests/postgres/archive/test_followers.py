"""Followers go on when what they have seen is archived, and are told of what is lost."""

from typing import TypeAlias

import asyncpg
import pytest

from chem_persistence import FeedPosition, HistoryLost, PgEventStore, PoolProvider, StepSignal
from tests.support.archived_flows import archive, forget
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
    page = await store.read_feed_page(FeedPosition.start())
    await forget(owner, second, 1)
    with pytest.raises(HistoryLost):
        await store.read_feed_page(page.position)

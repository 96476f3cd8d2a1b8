"""Who reads a flow while it is archived gets all of it, or the error that says so."""

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    FlowArchived,
    FlowEventKind,
    HistoryLost,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepSignal,
)
from chem_persistence.domain.instance import initial_instance
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read import flows, tail
from chem_persistence.postgres.read.tail import read_log_tail
from chem_persistence.store.leasing.branches import BRANCHED_FROM
from chem_persistence.store.leasing.children import ChildState
from chem_persistence.views.origin.branches import read_branch_tree
from tests.support.archived_flows import BUNDLE, Meanwhile, archive, forget
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Read: TypeAlias = Callable[[ConnectionProvider, UUID], Awaitable[int]]

LENGTH = 9


async def listed(provider: ConnectionProvider, flow_id: UUID) -> int:
    return len(await PgEventStore(provider).list(flow_id))


async def listed_many(provider: ConnectionProvider, flow_id: UUID) -> int:
    return len((await PgEventStore(provider).list_many([flow_id]))[flow_id])


async def iterated(provider: ConnectionProvider, flow_id: UUID) -> int:
    return len([event async for event in PgEventStore(provider).iterate(flow_id)])


async def exported(provider: ConnectionProvider, flow_id: UUID) -> int:
    return len([event async for event in PgEventStore(provider).stored_events(flow_id)])


async def loaded(provider: ConnectionProvider, flow_id: UUID) -> int:
    repository = PgFlowRepository(provider, snapshot_after=None)
    return (await repository.load(flow_id, None, DEFINITION)).version


async def loaded_from_a_snapshot(provider: ConnectionProvider, flow_id: UUID) -> int:
    repository = PgFlowRepository(provider, snapshot_after=3)
    return (await repository.load(flow_id, None, DEFINITION)).version


async def caught_up(provider: ConnectionProvider, flow_id: UUID) -> int:
    repository = PgFlowRepository(provider)
    begun = initial_instance(flow_id, DEFINITION)
    return (await repository.catch_up(begun, None, DEFINITION)).version


async def tailed(provider: ConnectionProvider, flow_id: UUID) -> int:
    return len((await read_log_tail(provider, LENGTH, flow_id)).events)


READERS = [
    listed,
    listed_many,
    iterated,
    exported,
    loaded,
    loaded_from_a_snapshot,
    caught_up,
    tailed,
]


@pytest.fixture(params=[4, 1], ids=["pages of 4", "cut pages"])
def pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    size: int = request.param
    if size == 1:
        monkeypatch.setattr(flows, "PAGE_BYTES", 1_500)
        return
    monkeypatch.setattr(flows, "EVENTS_PER_PAGE", size)
    monkeypatch.setattr(flows, "EVENTS_PER_PAGE_AHEAD", size)
    monkeypatch.setattr(tail, "EVENTS_PER_FEED_PAGE", size)


def kinds() -> list[FlowEventKind]:
    said = (StepSignal(0, "acquire", "progress", "x" * 100 * (n % 4)) for n in range(LENGTH - 1))
    return [initialized(), *said]


async def stored_flow(provider: PoolProvider) -> UUID:
    flow_id = new_flow_id()
    store = PgEventStore(provider)
    await store.append_kinds(flow_id, kinds()[:5])
    await PgFlowRepository(provider, snapshot_after=1).load(flow_id, None, DEFINITION)
    await store.append_kinds(flow_id, kinds()[5:])
    return flow_id


async def outcome(read: Read, provider: ConnectionProvider, flow_id: UUID) -> object:
    """Return how many events a reader has got, or the error by which it was told."""
    try:
        return await read(provider, flow_id)
    except FlowArchived as error:
        return FlowArchived, error.flow_id, error.bundle_sha256
    except HistoryLost as error:
        return HistoryLost, error.flow_id


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize("read", READERS)
async def test_a_reader_gets_all_of_a_flow_or_that_it_was_archived(
    provider: PoolProvider, owner: Owner, read: Read
) -> None:
    found: object = None
    for number in count():
        flow_id = await stored_flow(provider)
        meanwhile = Meanwhile(provider, number, partial(archive, owner, flow_id))
        found = await outcome(read, meanwhile, flow_id)
        if not meanwhile.is_done:
            break
        assert found in {LENGTH, (FlowArchived, flow_id, BUNDLE)}
    assert found == LENGTH
    assert number > 0


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize("read", [listed, iterated, exported, loaded_from_a_snapshot, tailed])
async def test_a_reader_is_told_that_the_log_went_back(
    provider: PoolProvider, owner: Owner, read: Read
) -> None:
    """Other events have the versions, and the ids, of those that are gone."""
    told = 0
    found: object = None
    for number in count():
        flow_id = await stored_flow(provider)
        events = await PgEventStore(provider).list(flow_id)

        async def go_back() -> None:
            await forget(owner, flow_id, 1)  # noqa: B023  # done in this round
            said = [StepSignal(0, "acquire", "another")] * LENGTH
            await PgEventStore(
                provider
            ).append_kinds(
                flow_id,  # noqa: B023
                said,
                event_ids=[new_flow_id(), *(event.event_id for event in events[1:])],  # noqa: B023
            )

        meanwhile = Meanwhile(provider, number, go_back)
        found = await outcome(read, meanwhile, flow_id)
        if not meanwhile.is_done:
            break
        told += found == (HistoryLost, flow_id)
        assert found in {LENGTH, LENGTH + 1, (HistoryLost, flow_id)}
    assert found == LENGTH
    assert told > 0


async def test_what_never_was_is_empty(provider: PoolProvider) -> None:
    flow_id, store = await stored_flow(provider), PgEventStore(provider)
    assert await store.list(flow_id, after_version=LENGTH) == []
    assert await store.list(flow_id, after_version=LENGTH + 5) == []
    unknown = new_flow_id()
    assert await store.list(unknown) == []
    assert await store.list_many([unknown]) == {unknown: []}
    assert (await PgFlowRepository(provider).load(unknown, None, DEFINITION)).version == 0


async def test_a_reader_that_catches_up_is_told_too(provider: PoolProvider, owner: Owner) -> None:
    flow_id, store = await stored_flow(provider), PgEventStore(provider)
    repository = PgFlowRepository(provider)
    instance = await repository.load(flow_id, None, DEFINITION)
    assert await store.list(flow_id, after_version=LENGTH - 1) == []
    await archive(owner, flow_id)
    with pytest.raises(FlowArchived):
        await repository.catch_up(instance, None, DEFINITION)
    with pytest.raises(FlowArchived):
        await store.list(flow_id, after_version=LENGTH - 1)


async def test_a_branch_is_shown_whose_root_was_archived(
    provider: PoolProvider, owner: Owner
) -> None:
    store, root, branch = PgEventStore(provider), new_flow_id(), new_flow_id()
    await store.append_kind(root, initialized())
    origin = {"parent": str(root), "root": str(root), "from_step": "acquire"}
    first = await store.append_kind(branch, initialized(), metadata={BRANCHED_FROM: origin})
    await archive(owner, root)
    tree = await read_branch_tree(store, first)
    assert [(each.flow_id, each.parent, each.state) for each in tree.flows] == [
        (root, None, None),
        (branch, root, ChildState.RUNNING),
    ]

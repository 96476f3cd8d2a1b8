"""When the next flow of a worker is due, and which definitions have flows, on every store."""

from datetime import timedelta

import pytest

from chem_persistence import FlowCompleted, InvalidArgument
from tests.support.leases.desk import HASH, HOUR, NOW, Desk

OTHER = "a" * 64
DAY = 24 * HOUR


async def next_due(desk: Desk, *definitions: str, within: timedelta = DAY) -> float | None:
    """Return after how many whole hours a flow of these definitions is due."""
    due_in = await desk.store.leases.next_due(definitions or [HASH], within)
    return None if due_in is None else round(due_in / HOUR)


async def test_it_is_that_of_the_flow_that_is_due_first(desk: Desk) -> None:
    await desk.submit(3 * HOUR)
    await desk.submit(2 * HOUR)
    await desk.submit(HOUR, definition_hash=OTHER)
    assert await next_due(desk) == 2
    assert await next_due(desk, HASH, OTHER) == 1


async def test_a_flow_that_is_due_later_is_left_out(desk: Desk) -> None:
    await desk.submit(3 * HOUR)
    assert await next_due(desk, within=HOUR) is None
    assert await next_due(desk, OTHER) is None
    assert await next_due(desk, "no definition") is None


async def test_a_lease_that_ends_counts(desk: Desk) -> None:
    await desk.take(await desk.submit(), 2 * HOUR)
    assert await next_due(desk) == 2


async def test_a_flow_that_is_due_already_counts(desk: Desk) -> None:
    await desk.submit(NOW - 2 * HOUR)
    assert await next_due(desk) == -2


async def test_a_flow_that_is_over_or_not_due_by_itself_does_not_count(desk: Desk) -> None:
    flow_id = await desk.submit()
    await desk.store.append_kind(flow_id, FlowCompleted("e" * 64))
    waiting = await desk.submit()
    await desk.leases.give_back(waiting, await desk.take(waiting), None)
    assert await next_due(desk) is None


async def test_a_negative_time_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidArgument):
        await next_due(desk, within=-HOUR)


async def test_the_definitions_of_flows_that_are_not_over_are_listed_but_the_known_ones(
    desk: Desk,
) -> None:
    others = ["0" * 64, OTHER, "f" * 64]
    for definition_hash in [HASH, *others, *others]:
        await desk.submit(definition_hash=definition_hash)
    list_others = desk.store.leases.other_definitions
    assert sorted(await list_others([HASH], 10)) == others
    assert await list_others([HASH, *others[:2]], 10) == others[2:]
    assert len(await list_others([HASH], 2)) == 2
    assert await list_others([HASH, *others, "e" * 64], 10) == []
    assert sorted(await list_others([], 10)) == sorted([HASH, *others])

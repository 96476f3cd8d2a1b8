"""How much may wait at once, and what becomes of those that find no room."""

import asyncio

import pytest

from chem_persistence import StoreUnavailable
from chem_persistence.postgres.room import Room


async def entering(room: Room, size: int, seconds: float = 60) -> "asyncio.Task[None]":
    """Begin to enter, and go on when it is done or waits."""
    task = asyncio.create_task(room.enter(size, seconds))
    await asyncio.sleep(0)
    return task


async def test_a_room_takes_so_many_appends() -> None:
    room = Room(2, 100)
    tasks = [await entering(room, 1) for _ in range(3)]
    assert [task.done() for task in tasks] == [True, True, False]
    room.leave(1)
    await tasks[2]


async def test_a_room_takes_so_many_bytes() -> None:
    room = Room(10, 100)
    tasks = [await entering(room, size) for size in (60, 40, 1)]
    assert [task.done() for task in tasks] == [True, True, False]
    room.leave(40)
    await tasks[2]


async def test_who_comes_first_is_served_first_although_a_smaller_one_would_fit() -> None:
    room = Room(10, 100)
    await room.enter(60, 60)
    large, small = await entering(room, 50), await entering(room, 1)
    assert not large.done()
    assert not small.done()
    room.leave(60)
    await large
    await small


async def test_one_that_is_larger_than_the_room_goes_in_when_the_room_is_empty() -> None:
    room = Room(10, 100)
    await room.enter(1, 60)
    giant = await entering(room, 1_000)
    assert not giant.done()
    room.leave(1)
    await giant
    room.leave(1_000)
    await room.enter(100, 60)


async def test_who_finds_no_room_in_time_is_told_so_and_blocks_nobody() -> None:
    room = Room(10, 100)
    await room.enter(60, 60)
    with pytest.raises(StoreUnavailable, match="overloaded: 1 appends wait"):
        await room.enter(50, 0)
    await room.enter(40, 60)
    room.leave(60)
    room.leave(40)
    await room.enter(100, 60)


@pytest.mark.parametrize("admitted", [False, True])
async def test_who_is_cancelled_while_he_waits_takes_no_room(*, admitted: bool) -> None:
    room = Room(1, 100)
    await room.enter(100, 60)
    waiting, next_ = await entering(room, 100), await entering(room, 100)
    if admitted:
        room.leave(100)  # his turn has come, but he does not go on any more
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if not admitted:
        room.leave(100)
    await next_
    room.leave(100)
    await room.enter(100, 60)


async def test_a_cancelled_one_whose_turn_comes_at_the_same_moment_takes_no_room() -> None:
    room = Room(1, 100)
    await room.enter(100, 60)
    waiting = await entering(room, 100)
    waiting.cancel()
    room.leave(100)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await room.enter(100, 60)

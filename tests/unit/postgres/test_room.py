"""How much may wait at once, and what becomes of those that find no room."""

import asyncio

import msgspec
import pytest

from chem_persistence import StoreUnavailable
from chem_persistence.postgres.append.backpressure import Room


class Guest(msgspec.Struct):
    bytes: int

    def size(self) -> int:
        return self.bytes


async def enter(room: Room, size: int, seconds: float = 60) -> None:
    guest, taken = await room.enter(lambda: Guest(size), seconds)
    assert guest.bytes == taken == size


async def entering(room: Room, size: int) -> "asyncio.Task[None]":
    """Begin to enter, and go on when it is done or waits."""
    task = asyncio.create_task(enter(room, size))
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
    await enter(room, 60)
    large, small = await entering(room, 50), await entering(room, 1)
    assert not large.done()
    assert not small.done()
    room.leave(60)
    await large
    await small


async def test_one_that_is_larger_than_the_room_goes_in_when_the_room_is_empty() -> None:
    room = Room(10, 100)
    await enter(room, 1)
    giant = await entering(room, 1_000)
    assert not giant.done()
    room.leave(1)
    await giant
    room.leave(1_000)
    await enter(room, 100)


async def test_who_finds_no_room_in_time_is_told_so_and_blocks_nobody() -> None:
    room = Room(10, 100)
    await enter(room, 60)
    with pytest.raises(StoreUnavailable, match="overloaded: 1 appends wait"):
        await enter(room, 50, seconds=0)
    await enter(room, 40)
    room.leave(60)
    room.leave(40)
    await enter(room, 100)


@pytest.mark.parametrize("admitted", [False, True])
async def test_who_is_cancelled_while_he_waits_takes_no_room(*, admitted: bool) -> None:
    room = Room(1, 100)
    await enter(room, 100)
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
    await enter(room, 100)


async def test_a_cancelled_one_whose_turn_comes_at_the_same_moment_takes_no_room() -> None:
    room = Room(1, 100)
    await enter(room, 100)
    waiting = await entering(room, 100)
    waiting.cancel()
    room.leave(100)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await enter(room, 100)


async def test_of_those_outside_only_the_first_is_made() -> None:
    room = Room(1, 100)
    await enter(room, 1)
    made = []

    def make(number: int) -> Guest:
        made.append(number)
        return Guest(1)

    first, second = (asyncio.create_task(room.enter(lambda n=n: make(n), 60)) for n in (1, 2))  # type: ignore[misc]
    await asyncio.sleep(0)
    assert set(made) == {1}
    room.leave(1)
    await first
    await asyncio.sleep(0)
    room.leave(1)
    await second
    assert room.outside == 0


async def test_one_that_cannot_be_made_leaves_the_door_to_the_next() -> None:
    room = Room(1, 100)
    await enter(room, 1)

    def fail() -> Guest:
        raise ValueError("benzene")

    waiting, refused, last = [
        asyncio.create_task(room.enter(make, 60))
        for make in (lambda: Guest(1), fail, lambda: Guest(1))
    ]
    await asyncio.sleep(0)
    room.leave(1)
    await waiting
    room.leave(1)
    with pytest.raises(ValueError, match="benzene"):
        await refused
    await last
    assert (room.inside, room.outside) == (1, 0)

"""How many appends a store admits at once, and what happens to those above the limit."""

import asyncio
from collections.abc import Callable

import pytest

from chem_persistence import StoreUnavailable
from chem_persistence.postgres.append.backpressure import Backpressure


class Caller:
    """Appends `size` bytes; the append ends when `end` is called."""

    def __init__(
        self, backpressure: Backpressure, size: int, encode: Callable[[], None] = lambda: None
    ) -> None:
        self._backpressure = backpressure
        self._size = size
        self._encode = encode
        self._ended = asyncio.Event()
        self.admitted = False
        self.task = asyncio.create_task(self._append())

    async def _append(self) -> None:
        async with self._backpressure.turn() as turn:
            self._encode()
            await turn.admit(self._size)
        self.admitted = True
        try:
            await self._ended.wait()
        finally:
            self._backpressure.leave(self._size)

    async def end(self) -> None:
        self._ended.set()
        await self.task
        await asyncio.sleep(0)  # lets the next one continue
        await asyncio.sleep(0)


async def calling(
    backpressure: Backpressure, *sizes: int, encode: Callable[[], None] = lambda: None
) -> list[Caller]:
    """Start to append; return once each append is admitted or waits."""
    callers = [Caller(backpressure, size, encode) for size in sizes]
    for _ in range(3):
        await asyncio.sleep(0)
    return callers


def admitted(callers: list[Caller]) -> list[bool]:
    return [caller.admitted for caller in callers]


async def test_only_so_many_appends_are_admitted() -> None:
    callers = await calling(Backpressure(2, 100, 60), 1, 1, 1)
    assert admitted(callers) == [True, True, False]
    await callers[0].end()
    assert callers[2].admitted


async def test_only_so_many_bytes_are_admitted() -> None:
    callers = await calling(Backpressure(10, 100, 60), 60, 40, 1)
    assert admitted(callers) == [True, True, False]
    await callers[1].end()
    assert callers[2].admitted


async def test_the_first_is_admitted_first_although_a_smaller_one_would_fit() -> None:
    first, large, small = await calling(Backpressure(10, 100, 60), 60, 50, 1)
    assert admitted([large, small]) == [False, False]
    await first.end()
    await asyncio.sleep(0)
    assert admitted([large, small]) == [True, True]


async def test_one_that_is_larger_than_the_bound_is_admitted_alone() -> None:
    backpressure = Backpressure(10, 100, 60)
    first, giant = await calling(backpressure, 1, 1_000)
    assert not giant.admitted
    await first.end()
    (next_,) = await calling(backpressure, 100)
    assert admitted([giant, next_]) == [True, False]
    await giant.end()
    assert next_.admitted


async def test_one_that_is_not_admitted_in_time_gets_an_error_and_blocks_no_other() -> None:
    backpressure = Backpressure(10, 100, 0)
    (first,) = await calling(backpressure, 60)
    with pytest.raises(StoreUnavailable, match="overloaded: 1 appends wait"):
        await Caller(backpressure, 50).task
    (second,) = await calling(backpressure, 40)
    assert second.admitted
    await first.end()
    await second.end()
    (last,) = await calling(backpressure, 100)
    assert last.admitted


@pytest.mark.parametrize("first_ends", [False, True])
async def test_one_that_is_cancelled_while_it_waits_leaves_its_turn_to_the_next(
    *, first_ends: bool
) -> None:
    first, waiting, next_ = await calling(Backpressure(1, 100, 60), 100, 100, 100)
    if first_ends:
        first._ended.set()
        await first.task  # it is the second one's turn, but that one is cancelled
    waiting.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting.task
    if not first_ends:
        await first.end()
    await asyncio.sleep(0)
    assert next_.admitted
    await next_.end()


async def test_of_those_that_wait_only_the_first_is_encoded() -> None:
    encoded: list[int] = []
    backpressure = Backpressure(1, 100, 60)
    (first,) = await calling(backpressure, 1)
    callers = [
        Caller(backpressure, 1, lambda number=number: encoded.append(number))  # type: ignore[misc]
        for number in (1, 2, 3)
    ]
    for _ in range(3):
        await asyncio.sleep(0)
    assert (encoded, backpressure.outside) == ([1], 3)
    for caller in (first, *callers):
        await caller.end()
    assert (encoded, backpressure.inside, backpressure.outside) == ([1, 2, 3], 0, 0)


async def test_one_that_cannot_be_encoded_leaves_its_turn_to_the_next() -> None:
    def fail() -> None:
        raise ValueError("benzene")

    backpressure = Backpressure(1, 100, 60)
    (first,) = await calling(backpressure, 1)
    refused, last = Caller(backpressure, 1, fail), Caller(backpressure, 1)
    await asyncio.sleep(0)
    await first.end()
    with pytest.raises(ValueError, match="benzene"):
        await refused.task
    await asyncio.sleep(0)
    assert last.admitted
    assert (backpressure.inside, backpressure.outside) == (1, 0)
    await last.end()

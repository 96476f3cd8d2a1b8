"""When a worker looks for due flows without a hint, as it works that out itself."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta
from typing import Any

import pytest

from chem_persistence import StoreUnavailable
from chem_persistence.worker.hints import LATE_SECONDS, SELDOM, SPREAD, Hints

POLL = 1.0
OFTEN = (POLL * SPREAD[0], POLL * SPREAD[1])
SELDOM_LOOKS = (SELDOM * OFTEN[0], SELDOM * OFTEN[1])


class Told:
    """Leases of which a test decides whether they hear hints, and when the next flow is due."""

    def __init__(self, due_in: float | Exception | None = None, *, hears: bool = True) -> None:
        self.due_in = due_in
        self.hears = hears
        self.asked: list[timedelta] = []

    def hear(self, _: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def hint(self, _: Collection[str]) -> None: ...

    async def next_due(self, _: Collection[str], within: timedelta) -> timedelta | None:
        self.asked.append(within)
        if isinstance(self.due_in, Exception):
            raise self.due_in
        return None if self.due_in is None else timedelta(seconds=self.due_in)


def hints_of(
    leases: Any, poll_interval: float = POLL, lease: timedelta = timedelta(minutes=1)
) -> Hints:
    return Hints(leases, ["ab"], asyncio.Event(), poll_interval, lease)


async def nothing() -> bool:
    return False


async def test_it_looks_seldom_while_it_hears_hints() -> None:
    leases = Told()
    seconds, is_to_claim = await hints_of(leases).next_look(has_claimed=True)
    assert SELDOM_LOOKS[0] <= seconds <= SELDOM_LOOKS[1]
    assert not is_to_claim
    assert leases.asked == [timedelta(seconds=seconds)]


async def test_it_looks_within_each_lease() -> None:
    lease = timedelta(seconds=2)
    assert await hints_of(Told(), lease=lease).next_look(has_claimed=True) == (2.0, False)
    short = hints_of(Told(), lease=timedelta(seconds=0.1))
    assert OFTEN[0] <= (await short.next_look(has_claimed=True))[0] <= OFTEN[1]


async def test_it_claims_a_flow_when_that_is_due() -> None:
    seconds, is_to_claim = await hints_of(Told(2.0)).next_look(has_claimed=True)
    assert (seconds, is_to_claim) == (2.0 + LATE_SECONDS, True)


@pytest.mark.parametrize("leases", [Told(hears=False), object()])
@pytest.mark.parametrize(("took", "less"), [(0.0, 0.0), (0.25, 0.25), (60.0, 0.5)])
async def test_without_hints_a_claim_begins_a_poll_interval_after_the_last_one_began(
    monkeypatch: pytest.MonkeyPatch, leases: Any, took: float, less: float
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(Hints, "_often", lambda _: POLL)
    hints = hints_of(leases)

    async def claim() -> bool:
        nonlocal now
        now += took
        return False

    await hints.follow(claim)
    assert await hints.next_look(has_claimed=True) == (POLL - less, True)


async def test_it_claims_as_often_while_the_store_is_away() -> None:
    leases = Told(StoreUnavailable("away"))
    seconds, is_to_claim = await hints_of(leases).next_look(has_claimed=True)
    assert OFTEN[0] <= seconds <= OFTEN[1]
    assert is_to_claim


async def test_it_claims_at_once_a_flow_whose_hint_was_lost() -> None:
    assert await hints_of(Told(-1.0)).next_look(has_claimed=False) == (0.0, True)


async def test_it_does_not_ask_in_vain_for_a_flow_that_a_claim_could_not_have() -> None:
    seconds, is_to_claim = await hints_of(Told(-1.0)).next_look(has_claimed=True)
    assert OFTEN[0] <= seconds <= OFTEN[1]
    assert is_to_claim


async def test_it_claims_soon_after_a_flow_of_its_own_was_released() -> None:
    hints = hints_of(Told())
    await hints.follow(nothing)
    hints.leave()
    seconds, is_to_claim = await hints.next_look(has_claimed=True)
    assert OFTEN[0] <= seconds <= OFTEN[1]
    assert is_to_claim
    await hints.follow(nothing)
    assert (await hints.next_look(has_claimed=True))[0] >= SELDOM_LOOKS[0]


async def test_a_rest_ends_when_a_look_finds_a_flow_whose_hint_was_lost() -> None:
    leases = Told()
    resting = asyncio.create_task(hints_of(leases, poll_interval=0.001).rest())
    while len(leases.asked) < 3:
        await asyncio.sleep(0)
    leases.due_in = -1.0
    await resting


async def test_a_long_rest_is_cut_short_by_a_flow_that_is_released() -> None:
    leases = Told()
    hints = hints_of(leases, poll_interval=0.01)
    hints._often = lambda: 3600.0  # type: ignore[method-assign]
    resting = asyncio.create_task(hints.rest())
    while hints._resting is None:
        await asyncio.sleep(0)
    hints._often = lambda: 0.001  # type: ignore[method-assign]
    hints.leave()
    await resting
    assert len(leases.asked) == 1


async def test_a_hint_ends_a_rest() -> None:
    hints = hints_of(Told(), poll_interval=3600.0)
    resting = asyncio.create_task(hints.rest())
    while hints._resting is None:
        await asyncio.sleep(0)
    hints._hear("of another definition")
    assert not hints._woken.is_set()
    hints._hear("ab")
    await resting

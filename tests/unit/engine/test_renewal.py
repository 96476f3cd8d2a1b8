"""The renewal of leases, with leases of which a test decides what they answer."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chem_persistence import Claim, Renewal, StoreUnavailable
from chem_persistence.engine.leases.renewal import HeldLease, LeaseKeeper, seconds_since_boot

LEASE = timedelta(seconds=0.12)
STALL = timedelta(minutes=5)


class Answers:
    """Leases that answer each renewal with `found`, and count how often they were asked."""

    def __init__(self, found: Renewal | Exception) -> None:
        self.found = found
        self.asked: list[list[UUID]] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def renew(
        self, held: Iterable[tuple[UUID, UUID]], _: timedelta
    ) -> Mapping[UUID, Renewal]:
        self.asked.append([flow_id for flow_id, _ in held])
        self.loops.add(asyncio.get_running_loop())
        if isinstance(self.found, Exception):
            raise self.found
        return dict.fromkeys(self.asked[-1], self.found)


class Separate(Answers):
    """Leases of which another thread can have its own, unless `is_possible` is false."""

    is_possible = True
    opened = closed = 0

    def separate(self) -> AbstractAsyncContextManager[Any] | None:
        return self._open() if self.is_possible else None

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Any]:
        self.opened += 1
        try:
            yield self
        finally:
            self.closed += 1


class Seen:
    """A lease, and events that are set when something is found of it."""

    def __init__(self) -> None:
        self.lost, self.called = asyncio.Event(), asyncio.Event()
        claim = Claim(uuid4(), uuid4(), "a" * 64)
        ends_at = seconds_since_boot() + LEASE.total_seconds()
        self.lease = HeldLease(claim, ends_at, self.lost.set, self.called.set)


def keeper_of(leases: Any, stall: timedelta = STALL, beat: Any = None) -> LeaseKeeper:
    return LeaseKeeper(leases, duration=LEASE, stall=stall, beat=beat)


async def asked_again(leases: Answers, times: int = 3) -> None:
    until = len(leases.asked) + times
    while len(leases.asked) < until:
        await asyncio.sleep(0.005)


async def test_all_leases_are_renewed_in_one_call() -> None:
    leases, first, second = Answers(Renewal.RENEWED), Seen(), Seen()
    keeper = keeper_of(leases)
    async with keeper:
        with keeper.hold(first.lease), keeper.hold(second.lease):
            await asked_again(leases)
            assert not first.lost.is_set()
    assert leases.asked[0] == [first.lease.claim.flow_id, second.lease.claim.flow_id]


async def test_a_thread_renews_what_it_can_have_of_its_own() -> None:
    leases, seen = Separate(Renewal.RENEWED), Seen()
    keeper = keeper_of(leases)
    async with keeper:
        with keeper.hold(seen.lease):
            await asked_again(leases)
    assert asyncio.get_running_loop() not in leases.loops


async def test_a_provider_that_opens_no_connection_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    leases, seen = Separate(Renewal.RENEWED), Seen()
    leases.is_possible = False
    keeper = keeper_of(leases)
    with caplog.at_level(logging.WARNING, "chem_persistence.leases"):
        async with keeper:
            with keeper.hold(seen.lease):
                await asked_again(leases)
        async with keeper:
            pass
    assert leases.loops == {asyncio.get_running_loop()}
    assert caplog.text.count("leases are renewed in the event loop") == 1


async def test_a_lease_that_is_lost_is_reported() -> None:
    leases, seen = Separate(Renewal.LOST), Seen()
    keeper = keeper_of(leases)
    async with keeper:
        with keeper.hold(seen.lease):
            await seen.lost.wait()


async def test_a_lease_whose_flow_is_called_is_reported_and_kept() -> None:
    leases, seen = Separate(Renewal.CALLED), Seen()
    keeper = keeper_of(leases)
    async with keeper:
        with keeper.hold(seen.lease):
            await seen.called.wait()
            await asked_again(leases)
            assert not seen.lost.is_set()


@pytest.mark.parametrize("found", [Renewal.SKIPPED, StoreUnavailable("away")])
async def test_a_lease_that_is_not_renewed_in_time_is_lost(found: Renewal | Exception) -> None:
    leases, seen = Separate(found), Seen()
    keeper = keeper_of(leases)
    async with keeper:
        with keeper.hold(seen.lease):
            await seen.lost.wait()
    assert leases.asked


async def test_a_lease_whose_step_is_past_its_limit_is_not_renewed() -> None:
    leases, late, other = Separate(Renewal.RENEWED), Seen(), Seen()
    late.lease.limit = seconds_since_boot() - 1
    keeper = keeper_of(leases)
    async with keeper:
        with keeper.hold(late.lease), keeper.hold(other.lease):
            await late.lost.wait()
            assert not other.lost.is_set()
    assert {tuple(asked) for asked in leases.asked} <= {(other.lease.claim.flow_id,)}


async def test_nothing_is_renewed_when_the_event_loop_does_not_answer() -> None:
    leases, seen = Separate(Renewal.RENEWED), Seen()
    keeper = keeper_of(leases, stall=timedelta(0))
    async with keeper:
        with keeper.hold(seen.lease):
            await seen.lost.wait()
    assert leases.asked == []


async def test_a_keeper_renews_as_long_as_anybody_uses_it() -> None:
    leases, seen = Separate(Renewal.RENEWED), Seen()
    keeper = keeper_of(leases)
    async with keeper:
        async with keeper:
            pass
        with keeper.hold(seen.lease):
            await asked_again(leases)


async def test_a_thread_renews_only_while_a_lease_is_held_and_the_loop_beats_without_one() -> None:
    beaten: list[asyncio.AbstractEventLoop] = []

    async def beat(_: object) -> None:
        beaten.append(asyncio.get_running_loop())

    async def beaten_in(*, other: bool) -> None:
        beaten.clear()
        while sum((loop is not here) == other for loop in beaten) < 2:
            await asyncio.sleep(0.005)

    here, leases = asyncio.get_running_loop(), Separate(Renewal.RENEWED)
    keeper = keeper_of(leases, beat=beat)
    async with keeper:
        await beaten_in(other=False)
        assert leases.opened == 0
        for count in (1, 2):
            seen = Seen()
            with keeper.hold(seen.lease):
                await asked_again(leases)
                await beaten_in(other=True)
                assert not seen.lost.is_set()
            while leases.closed < count:
                await asyncio.sleep(0.005)
            await beaten_in(other=False)
            assert leases.opened == count


async def test_a_lease_that_is_dropped_before_its_first_renewal_opens_no_connection() -> None:
    leases, seen, beaten = Separate(Renewal.RENEWED), Seen(), asyncio.Queue[None]()

    async def beat(_: object) -> None:
        beaten.put_nowait(None)

    keeper = keeper_of(leases, beat=beat)
    async with keeper:
        with keeper.hold(seen.lease):
            pass
        for _ in range(5):
            await beaten.get()
        assert leases.opened == 0
        with keeper.hold(seen.lease):
            await asked_again(leases)
    assert leases.opened == leases.closed == 1


async def test_the_event_loop_renews_while_the_thread_has_no_connection() -> None:
    class Exhausted(Separate):
        @asynccontextmanager
        async def _open(self) -> AsyncIterator[Any]:
            yield Answers(StoreUnavailable("too many connections"))

    leases, seen = Exhausted(Renewal.RENEWED), Seen()
    keeper = keeper_of(leases)
    async with keeper:
        with keeper.hold(seen.lease):
            await asked_again(leases)
            assert not seen.lost.is_set()
    assert leases.loops == {asyncio.get_running_loop()}

"""What a connection that listens knows of itself: whether hints are heard on it."""

import asyncio
from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from chem_persistence import PgLeases, PoolProvider, build_pool
from chem_persistence.store.leasing.hints import ANY_DEFINITION
from tests.support.leases.desk import HASH

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

MINUTE = timedelta(minutes=1)


class Ear:
    """What is told of flows that are due, and whether hints were heard at that time."""

    def __init__(self, leases: PgLeases) -> None:
        self._leases = leases
        self.heard: list[tuple[str, bool]] = []

    def told(self, definition: str) -> None:
        self.heard.append((definition, self._leases.hears))

    async def hears(self) -> None:
        while not self._leases.hears:
            await asyncio.sleep(0.005)

    async def times(self, count: int) -> None:
        while len(self.heard) < count:
            await asyncio.sleep(0.005)


async def test_it_is_heard_that_hints_are_heard(pool: "Pool") -> None:
    leases = PgLeases(PoolProvider(pool))
    ear = Ear(leases)
    assert not leases.hears
    async with leases.hear(ear.told):
        await ear.hears()
        await leases.hint([HASH])
        await ear.times(2)
    assert ear.heard == [(ANY_DEFINITION, False), (HASH, True), (ANY_DEFINITION, False)]
    assert not leases.hears


async def test_a_session_that_is_ended_hears_nothing_until_another_one_listens(
    pool: "Pool",
) -> None:
    leases = PgLeases(PoolProvider(pool))
    ear = Ear(leases)
    async with leases.hear(ear.told):
        await ear.hears()
        assert leases._listening is not None
        pid = await leases._listening.fetch("SELECT pg_backend_pid() AS pid")
        await pool.execute("SELECT pg_terminate_backend($1::integer)", pid[0]["pid"])
        await ear.times(2)
        assert ear.heard[1] == (ANY_DEFINITION, False)
        await ear.hears()


class Deaf(PgLeases):
    """Leases whose hints are all lost, as behind a pooler that nobody told of."""

    hints = 0

    async def hint(self, _: Collection[str]) -> None:
        self.hints += 1


async def test_a_session_on_which_no_probe_is_heard_does_not_hear(
    pool: "Pool", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chem_persistence.postgres.hints.FIRST_PROBE_PAUSE", 0.001)
    leases = Deaf(PoolProvider(pool))
    async with leases.hear(Ear(leases).told):
        while leases.hints < 3:
            await asyncio.sleep(0.001)
        assert leases._listening is not None
        assert not leases.hears


async def test_behind_a_pooler_nothing_is_heard(database_url: str) -> None:
    async with await build_pool(database_url, transaction_pooling=True) as pool:
        leases = PgLeases(PoolProvider(pool))
        async with leases.hear(Ear(leases).told):
            assert not leases.hears


async def test_a_look_goes_on_if_the_connection_that_listens_is_lost_by_it(pool: "Pool") -> None:
    leases = PgLeases(PoolProvider(pool))
    ear = Ear(leases)
    async with leases.hear(ear.told):
        await ear.hears()
        assert leases._listening is not None
        (row,) = await leases._listening.fetch("SELECT pg_backend_pid() AS pid")
        looked = asyncio.create_task(leases.next_due([HASH], MINUTE))
        await pool.execute("SELECT pg_terminate_backend($1::integer)", row["pid"])
        assert await looked is None
        assert await leases.next_due([HASH], MINUTE) is None

"""The rows of both stores agree after any sequence of appends, claims and ways back.

The rules are written twice: as the function `change_flow_run` of the database, and in Python for
the store in memory.
"""

import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from chem_persistence import (
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from tests.support.leases.desk import HOUR, NOW, Desk, failed, memory_desk, postgres_desk

if TYPE_CHECKING:
    import asyncpg

FACTS: list[Callable[[datetime], FlowEventKind]] = [
    lambda _: StepStarted(0, "acquire"),
    lambda _: StepFinished(0, "acquire", (), "f" * 64),
    lambda _: failed(),
    lambda _: StepSignal(0, "acquire", "progress"),
    lambda _: PropertyPreferenceAssigned("charge", "gasteiger", "c" * 64),
    lambda _: RetryScheduled("acquire", 1, "again"),
    lambda time: RetryScheduled("acquire", 1, "again", not_before=time),
    lambda _: StepWaits(0, "acquire", None),
    lambda time: StepWaits(0, "acquire", time),
    lambda _: UserInteractionRequested(0, "acquire"),
    lambda time: UserInteractionRequested(0, "acquire", until=time),
    lambda _: UserInteractionProvided(0, "acquire", "yes"),
]
LAST: list[FlowEventKind] = [FlowCompleted("e" * 64), FlowCancelled("no")]


@pytest.fixture
async def desks(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[tuple[Desk, Desk]]:
    async with postgres_desk(pool) as opened:
        yield memory_desk(), opened


class Twins:
    """One flow, and what a seed does to it, in both stores."""

    def __init__(self, desks: tuple[Desk, Desk], seed: int) -> None:
        self._desks = desks
        self._chance = random.Random(seed)
        self._flow_ids: list[UUID] = []
        self._tokens: list[UUID | None] = [None, None]
        self.told: list[str] = []

    async def begin(self) -> None:
        due_in = self._chance.choice([NOW, HOUR])
        more = self._facts() if self._chance.random() < 0.2 else []
        self._flow_ids = [await desk.submit(due_in, *more) for desk in self._desks]
        self.told = [f"begin {due_in} {more}"]

    async def act(self) -> None:
        """Do the same to both."""
        acts = [self._append, self._append, self._append, self._take, self._give_back]
        act = self._chance.choice([*acts, self._call, self._release, self._rebuild])
        self.told.append(act.__name__)
        await act()

    async def rows(self) -> list[tuple[str, bool, bool] | None]:
        """Return when each is due, whether it is held, and whether it was called."""
        rows = [
            await desk.row(flow_id)
            for desk, flow_id in zip(self._desks, self._flow_ids, strict=True)
        ]
        return [
            None if row is None else (row.due, row.lease is not None, row.called) for row in rows
        ]

    def _facts(self) -> list[FlowEventKind]:
        time = datetime.now(UTC) + self._chance.choice([-HOUR, 3 * HOUR])
        facts = [self._chance.choice(FACTS)(time) for _ in range(self._chance.choice([1, 1, 2, 3]))]
        if self._chance.random() < 0.05:
            facts.append(self._chance.choice(LAST))
        return facts

    async def _append(self) -> None:
        facts, leased = self._facts(), self._chance.random() < 0.5
        self.told.append(f"{facts} {leased}")
        for place, (desk, flow_id) in enumerate(zip(self._desks, self._flow_ids, strict=True)):
            token, row = self._tokens[place], await desk.row(flow_id)
            is_mine = leased and token is not None and row is not None and row.lease == token
            store = desk.store.leased(flow_id, token) if is_mine and token else desk.store
            await store.append_kinds(flow_id, facts)

    async def _take(self) -> None:
        duration = self._chance.choice([NOW, 2 * HOUR])
        for place, (desk, flow_id) in enumerate(zip(self._desks, self._flow_ids, strict=True)):
            if claim := await desk.leases.take(flow_id, UUID(int=7), duration):
                self._tokens[place] = claim.token

    async def _give_back(self) -> None:
        due_in: timedelta | None = self._chance.choice([None, NOW, HOUR])
        for place, (desk, flow_id) in enumerate(zip(self._desks, self._flow_ids, strict=True)):
            if token := self._tokens[place]:
                await desk.leases.give_back(flow_id, token, due_in)

    async def _call(self) -> None:
        for desk, flow_id in zip(self._desks, self._flow_ids, strict=True):
            await desk.leases.call([flow_id])

    async def _release(self) -> None:
        for place, (desk, flow_id) in enumerate(zip(self._desks, self._flow_ids, strict=True)):
            if token := self._tokens[place]:
                await desk.leases.release([(flow_id, token)])

    async def _rebuild(self) -> None:
        forgets = self._chance.random() < 0.5
        for desk, flow_id in zip(self._desks, self._flow_ids, strict=True):
            if forgets and await desk.row(flow_id):
                await desk.forget(flow_id)
            await desk.leases.rebuild()


@pytest.mark.parametrize("seed", range(12))
async def test_the_rows_of_both_stores_agree(desks: tuple[Desk, Desk], seed: int) -> None:
    twins = Twins(desks, seed)
    for _ in range(3):
        await twins.begin()
        for _ in range(15):
            memory, postgres = await twins.rows()
            assert memory == postgres, twins.told
            await twins.act()

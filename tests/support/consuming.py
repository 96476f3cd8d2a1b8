"""A log and a table of effects, with which the tests of durable consumers see what was done."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from chem_persistence import (
    Consumer,
    FlowEvent,
    FlowEventKind,
    PgEventStore,
    PgTransaction,
    PoolProvider,
    StepSignal,
)
from chem_persistence.feed.parts import HeldPart
from chem_persistence.postgres.consumers.parts import PgConsumerParts
from tests.support.flows.flows import new_flow_id

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

__all__ = ["CREATE_EFFECTS", "NAME", "SHORT", "ConsumingLab", "effect", "signal"]

NAME = "mirror"
SHORT = timedelta(milliseconds=100)
"""A lease that ends soon."""

CREATE_EFFECTS = """
    CREATE TABLE effects (id bigserial, seq bigint, flow_id uuid, version integer);
    GRANT ALL ON effects, effects_id_seq TO PUBLIC
"""
"""The table has no key, so that an effect that is stored twice shows."""

INSERT = "INSERT INTO effects (seq, flow_id, version) VALUES ($1, $2, $3)"


def signal(number: int = 0) -> StepSignal:
    return StepSignal(0, "acquire", "progress", number)


async def effect(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
    """Store a row for each event in the consumer's transaction."""
    for event in events:
        await transaction.connection.execute(INSERT, event.seq, event.flow_id, event.version)


class ConsumingLab:
    """The store, the consumer, and what it has done."""

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self.provider = PoolProvider(pool)
        self.store = PgEventStore(self.provider)
        self.events: list[FlowEvent] = []

    def consumer(
        self, *, parts: int = 2, kinds: Sequence[type[FlowEventKind]] | None = None
    ) -> Consumer[PgTransaction]:
        return self.store.consumer(NAME, parts=parts, kinds=kinds)

    def parts(self) -> PgConsumerParts:
        """Return the parts as a process of its own has them."""
        return PgConsumerParts(self.provider, self.store.transaction, NAME, None)

    async def created(self, *, parts: int = 2) -> Consumer[PgTransaction]:
        """Return the consumer, whose parts have consumed nothing."""
        consumer = self.consumer(parts=parts)
        await consumer._create()
        return consumer

    async def log(self, flows: int = 4, events: int = 3) -> list[UUID]:
        """Append to new flows in turn."""
        flow_ids = [new_flow_id() for _ in range(flows)]
        for number in range(events):
            for flow_id in flow_ids:
                await self.append(flow_id, number)
        return flow_ids

    async def append(self, flow_id: UUID, number: int = 0) -> FlowEvent:
        event = await self.store.append_kind(flow_id, signal(number))
        self.events.append(event)
        return event

    async def claimed(self, parts: PgConsumerParts, lease: timedelta = SHORT) -> HeldPart:
        """Claim a part as soon as one is due."""
        while (part := await parts.claim(await parts.feed_end(), lease)) is None:
            pass
        return part

    async def die(self, parts: PgConsumerParts, at: int) -> None:
        """Consume a part as a process does that dies when it is given the event of a seq."""
        part = await self.claimed(parts, timedelta(0))
        while page := await parts.next_page(part, await parts.feed_end(), 500):
            events = page.events()
            if any(event.seq == at for event in events):
                return
            async with parts.consuming(part, page, timedelta(0)) as transaction:
                await effect(events, transaction)
            part = page.then
        await parts.release(part, due_in=timedelta(0), tries=0, passed=await parts.feed_end())

    async def effects(self) -> list[tuple[UUID, int]]:
        """Return the flow and version of each effect, in the order in which they were stored."""
        rows = await self.pool.fetch("SELECT flow_id, version FROM effects ORDER BY id")
        return [(UUID(int=row["flow_id"].int), row["version"]) for row in rows]

    async def check(self, events: Sequence[FlowEvent] | None = None) -> None:
        """Check that each event has one effect, in the order of its flow."""
        wanted = self.events if events is None else events
        found = await self.effects()
        assert sorted(found) == sorted((event.flow_id, event.version) for event in wanted)
        versions: dict[UUID, list[int]] = {}
        for flow_id, version in found:
            versions.setdefault(flow_id, []).append(version)
        assert all(own == sorted(own) for own in versions.values())

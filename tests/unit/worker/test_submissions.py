"""How many flows are submitted at the same time."""

import asyncio
from typing import Any

from chem_persistence import FlowClient, FlowEvent, InMemoryEventStore, InMemoryFlowRepository
from tests.support.leases.staff import Act, Acts, Number, chain


class Counting(InMemoryEventStore):
    """A store that notes how many appends were under way when each began."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = 0
        self.seen: list[int] = []

    async def append_kinds(self, *arguments: Any, **options: Any) -> list[FlowEvent]:
        self.under_way += 1
        self.seen.append(self.under_way)
        await asyncio.sleep(0)
        try:
            return await super().append_kinds(*arguments, **options)
        finally:
            self.under_way -= 1


async def test_a_flow_is_submitted_before_the_others_only_to_store_the_definition() -> None:
    store, flow = Counting(), chain(Act(Acts()))
    client = FlowClient(store, InMemoryFlowRepository(store))
    await client.submit_many(flow, [Number(n) for n in range(4)])
    assert store.seen == [1, 1, 2, 3]
    store.seen.clear()
    await client.submit_many(flow, [Number(n) for n in range(4)])
    assert store.seen == [1, 2, 3, 4]

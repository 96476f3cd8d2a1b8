"""How many flows are submitted by one call of the store."""

from collections.abc import Sequence
from typing import Any

from chem_persistence import FlowAnswer, FlowClient, InMemoryEventStore, InMemoryFlowRepository
from tests.support.leases.staff import Act, Acts, Number, chain


class Counting(InMemoryEventStore):
    """A store that notes how many appends each call of `append_many` has."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    async def append_many(self, appends: Sequence[Any]) -> list[FlowAnswer]:
        self.seen.append(len(appends))
        return await super().append_many(appends)


async def test_a_flow_is_submitted_before_the_others_only_to_store_the_definition() -> None:
    store, flow = Counting(), chain(Act(Acts()))
    client = FlowClient(store, InMemoryFlowRepository(store))
    await client.submit_many(flow, [Number(n) for n in range(4)])
    assert store.seen == [3]  # the first one by itself
    store.seen.clear()
    await client.submit_many(flow, [Number(n) for n in range(4)])
    assert store.seen == [4]

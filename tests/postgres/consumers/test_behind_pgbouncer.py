"""A consumer behind PgBouncer in transaction mode: its settings last for its transaction alone."""

import asyncio
from collections.abc import Sequence

import pytest

from chem_persistence import FlowEvent, PgTransaction, build_pool
from tests.support.consuming import SHORT, ConsumingLab, effect
from tests.support.servers.pgbouncer import pgbouncer_before

pytestmark = pytest.mark.pgbouncer


async def test_events_are_consumed_once_and_an_idle_transaction_is_ended(
    lab: ConsumingLab, admin_url: str
) -> None:
    flow_ids = await lab.log(flows=4)

    async def hanging(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        await effect(events, transaction)
        if any(event.flow_id == flow_ids[0] for event in events):
            await asyncio.sleep(1_000)

    async with (
        pgbouncer_before(admin_url) as url,
        await build_pool(url, max_size=4, transaction_pooling=True) as pool,
    ):
        behind = ConsumingLab(pool)
        consumer = behind.consumer(parts=2)
        await consumer.run_to_end(hanging, tries=2, lease=SHORT, poll_interval=0.01)
        (parked,) = (await consumer.status()).parked
        assert parked.flow_id == flow_ids[0]
        await lab.check([event for event in lab.events if event.flow_id != flow_ids[0]])
        await consumer.release(flow_ids[0])
        await consumer.run_to_end(effect)
        await lab.check()
        await behind.store.aclose()

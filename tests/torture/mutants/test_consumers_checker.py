"""The checker of consumers finds what they can break, and consumers without the fence."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from chem_persistence import FlowEvent, PgTransaction
from chem_persistence.postgres.consumers import parts as fenced
from tests.support.consuming import CREATE_EFFECTS, ConsumingLab, effect
from tests.torture.consumers.checker import check, count_beyond_parked

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

PARTS = 2
PARK = """
    INSERT INTO feed_parked (name, flow_id, seq, event_id, error)
    SELECT 'mirror', flow_id, seq, event_id, '' FROM event_log WHERE {chosen}
"""


@pytest.fixture
async def lab(pool: "Pool", admin_url: str) -> AsyncIterator[ConsumingLab]:
    administrator = await asyncpg.connect(admin_url)
    await administrator.execute(CREATE_EFFECTS)
    await administrator.execute("ALTER TABLE effects ADD COLUMN pid integer DEFAULT 1")
    await administrator.close()
    lab = ConsumingLab(pool)
    await lab.log(flows=8)
    yield lab
    await lab.store.aclose()


async def consumed(lab: ConsumingLab) -> None:
    await lab.consumer(parts=PARTS).run_to_end(effect)


async def test_nothing_is_found_in_what_a_sound_consumer_did(lab: ConsumingLab) -> None:
    await consumed(lab)
    verdict = await check(lab.pool, PARTS)
    assert (verdict.findings, verdict.counted["effects"]) == ([], 24)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        ("DELETE FROM effects WHERE version = 2 AND seq = 17", "1 lost"),
        ("INSERT INTO effects SELECT * FROM effects WHERE seq = 17", "1 doubled"),
        (
            "INSERT INTO effects (seq, flow_id, version) VALUES (99, gen_random_uuid(), 0)",
            "1 foreign_effects",
        ),
        ("UPDATE effects SET id = id + 1000 WHERE version = 1", "16 out_of_order"),
        (PARK.format(chosen="seq = 17"), "1 parked"),
        ("UPDATE feed_consumers SET seq = 23 WHERE part = 1", "a part is behind"),
    ],
)
async def test_each_flaw_is_found(lab: ConsumingLab, plant: str, found: str) -> None:
    await consumed(lab)
    await lab.pool.execute(plant)
    assert any(found in finding for finding in (await check(lab.pool, PARTS)).findings)


async def test_an_effect_after_a_parked_event_is_counted(lab: ConsumingLab) -> None:
    await consumed(lab)
    await lab.pool.execute(PARK.format(chosen="version = 1"))
    assert await count_beyond_parked(lab.pool) == 16


@pytest.mark.parametrize("is_fenced", [True, False])
async def test_without_the_fence_a_process_that_has_lost_its_part_does_events_twice(
    lab: ConsumingLab, monkeypatch: pytest.MonkeyPatch, *, is_fenced: bool
) -> None:
    if not is_fenced:
        fence, nothing = "own.seq = $3 AND own.lease = $4", "($3::bigint, $4::uuid) IS NOT NULL"
        assert fence in fenced.MOVE_PART
        monkeypatch.setattr(fenced, "MOVE_PART", fenced.MOVE_PART.replace(fence, nothing))
    consumer = await lab.created(parts=1)
    is_first = True

    async def slow(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        nonlocal is_first
        await effect(events, transaction)
        if is_first:
            is_first = False
            await lab.pool.execute("UPDATE feed_consumers SET due_at = '-infinity'")
            await lab.consumer().run_to_end(effect)

    await consumer.run_to_end(slow, lease=timedelta(minutes=1))
    findings = (await check(lab.pool, 1)).findings
    assert ("24 doubled" in findings) is not is_fenced

"""Durable consumers: each event once, in order; parked flows, positions, parts, filters."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from chem_persistence import (
    FlowEvent,
    FlowEventKind,
    HistoryLost,
    InvalidArgument,
    PgTransaction,
    StepFinished,
    StepSignal,
    StoreClosed,
    StoreUnavailable,
)
from chem_persistence.feed.consumer import MOST_PARTS
from chem_persistence.postgres.admin.doctor.commands import Commands
from chem_persistence.postgres.admin.doctor.feed import check_consumers
from chem_persistence.postgres.admin.doctor.result import Severity
from tests.support.consuming import NAME, SHORT, ConsumingLab, effect
from tests.support.faults.watching import watching
from tests.support.flows.flows import new_flow_id


async def test_each_event_is_consumed_once_and_in_the_order_of_its_flow(lab: ConsumingLab) -> None:
    await lab.log(flows=10)
    consumer = lab.consumer(parts=4)
    assert await consumer.run_to_end(effect, page=3) == len(lab.events)
    await lab.check()
    assert await consumer.run_to_end(effect) == 0
    await lab.log(flows=2)
    assert await lab.consumer().run_to_end(effect) == 6
    await lab.check()
    status = await consumer.status()
    assert [(part.part, part.lag, part.holder) for part in status.parts] == [
        (part, 0, None) for part in range(4)
    ]


async def test_several_processes_share_the_parts(lab: ConsumingLab) -> None:
    await lab.log(flows=10)
    consumers = [lab.consumer(parts=5) for _ in range(3)]
    counts = await asyncio.gather(
        *(consumer.run_to_end(effect, page=2, poll_interval=0.01) for consumer in consumers)
    )
    assert sum(counts) == len(lab.events)
    await lab.check()


async def test_run_goes_on_until_it_is_cancelled_and_releases_its_part(lab: ConsumingLab) -> None:
    consumer, seen = lab.consumer(parts=1), asyncio.Event()

    async def look(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        await effect(events, transaction)
        seen.set()
        await asyncio.sleep(1_000)  # until it is cancelled

    running = asyncio.create_task(consumer.run(look, poll_interval=0.01))
    await lab.log(flows=1, events=1)
    await seen.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await lab.effects() == []
    (part,) = (await consumer.status()).parts
    assert (part.holder, part.tries, part.seq) == (None, 0, 0)
    assert await consumer.run_to_end(effect) == 1
    await lab.check()


async def test_the_lag_is_shown_while_a_consumer_runs(lab: ConsumingLab) -> None:
    await lab.log(flows=2, events=3)
    consumer, consumes = lab.consumer(parts=1), asyncio.Event()

    async def wait(_events: Sequence[FlowEvent], _transaction: PgTransaction) -> None:
        consumes.set()
        await asyncio.sleep(1_000)  # until it is cancelled

    with watching() as heard:
        running = asyncio.create_task(consumer.run(wait, poll_interval=0.01))
        await consumes.wait()
        assert heard.values("chem_persistence.consumer.lag") == {(NAME,): len(lab.events)}
        assert heard.values("chem_persistence.consumer.parked") == {(NAME,): 0}
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert heard.values("chem_persistence.consumer.lag") == {}


async def test_a_consumer_that_is_cancelled_at_any_moment_holds_no_part(lab: ConsumingLab) -> None:
    await lab.log(flows=3)
    consumer = lab.consumer(parts=2)
    for moment in range(60):
        running = asyncio.create_task(consumer.run(effect, page=2, poll_interval=0.01))
        for _ in range(moment):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        held = "SELECT count(*) FROM feed_consumers WHERE lease IS NOT NULL OR tries > 0"
        assert await lab.pool.fetchval(held) == 0
    await consumer.run_to_end(effect)
    await lab.check()


async def test_the_part_of_a_flow_follows_from_the_hash_of_its_id(lab: ConsumingLab) -> None:
    flow_ids = await lab.log(flows=8, events=1)
    await lab.created(parts=3)
    parts = lab.parts()
    found: dict[UUID, int] = {}
    for _ in range(3):
        part = await lab.claimed(parts, timedelta(minutes=1))
        page = await parts.next_page(part, await parts.feed_end(), 500)
        assert page is not None
        found |= {event.flow_id: part.part for event in page.events()}
    assert found == {flow_id: hashlib.sha256(flow_id.bytes).digest()[0] % 3 for flow_id in flow_ids}


async def test_a_consumer_begins_after_a_position_and_gets_the_kinds_it_asks_for(
    lab: ConsumingLab,
) -> None:
    await lab.log(flows=2, events=1)
    position = await lab.store.position()
    kinds: list[FlowEventKind] = [
        StepFinished(0, "acquire", (), "f" * 64),
        StepSignal(0, "acquire", "done"),
    ]
    later = await lab.store.append_kinds(new_flow_id(), kinds)
    consumer = lab.store.consumer(NAME, parts=2, after_seq=position, kinds=[StepFinished])
    assert await consumer.run_to_end(effect) == 1
    await lab.check(later[:1])
    assert (await consumer.status()).lag == 0


async def test_a_flow_is_parked_with_what_follows_and_the_others_go_on(lab: ConsumingLab) -> None:
    flow_ids = await lab.log(flows=6)
    poison = next(event for event in lab.events if event.flow_id == flow_ids[2] and event.version)
    pages, is_mended = [], False

    async def careful(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        pages.append([event.seq for event in events])
        await effect(events, transaction)
        if poison in events and not is_mended:
            raise ValueError("no such molecule")

    consumer = lab.consumer(parts=2)
    await consumer.run_to_end(careful, tries=2, poll_interval=0.01)
    held_back = [event for event in lab.events if event.flow_id == poison.flow_id][1:]
    await lab.check([event for event in lab.events if event not in held_back])
    assert [poison.seq] in pages  # alone, so that it is the one that is parked
    (parked,) = (await consumer.status()).parked
    assert (parked.flow_id, parked.seq, parked.event_id, parked.is_released) == (
        poison.flow_id,
        poison.seq,
        poison.event_id,
        False,
    )
    assert parked.error == "ValueError: no such molecule"
    assert (await consumer.status()).lag == 0
    async with lab.provider.acquire() as connection:
        (warning,) = await check_consumers(connection, Commands())
    assert (warning.severity, warning.finding, warning.remedy) == (
        Severity.WARNING,
        "1 flow is parked of consumer mirror: ValueError: no such molecule",
        "chem-persistence consumers list",
    )

    await lab.append(poison.flow_id)
    await consumer.run_to_end(careful)  # its later events wait, too
    await consumer.release(poison.flow_id)
    await consumer.run_to_end(careful, tries=2, poll_interval=0.01)  # it is not mended
    (parked,) = (await consumer.status()).parked
    assert (parked.seq, parked.is_released) == (poison.seq, False)

    is_mended = True
    await consumer.release(poison.flow_id)
    await lab.append(poison.flow_id)
    await consumer.run_to_end(careful, page=2)
    assert (await consumer.status()).parked == []
    await lab.check()


async def test_what_passes_by_itself_parks_nothing(lab: ConsumingLab) -> None:
    await lab.log(flows=1, events=1)
    consumer, failures = lab.consumer(), [StoreUnavailable("later"), ConnectionResetError()]

    async def failing(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        if failures:
            raise failures.pop()
        await effect(events, transaction)

    assert await consumer.run_to_end(failing, tries=2, poll_interval=0.01) == 1
    assert (await consumer.status()).parked == []
    await lab.check()


async def test_an_event_that_does_not_decode_is_parked(
    lab: ConsumingLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow_ids = await lab.log(flows=3, events=2)
    monkeypatch.setattr(
        "chem_persistence.postgres.consumers.parts.decode_event", damaged(flow_ids[0])
    )
    consumer = lab.consumer()
    await consumer.run_to_end(effect, tries=2, poll_interval=0.01)
    (parked,) = (await consumer.status()).parked
    assert (parked.flow_id, parked.error) == (flow_ids[0], "ValueError: damaged")
    await lab.check([event for event in lab.events if event.flow_id != flow_ids[0]])


def damaged(flow_id: object) -> object:
    """Return a decoder that fails for the events of one flow."""
    from chem_persistence.store.codec import StoredEvent, decode_event

    def decode(stored: StoredEvent) -> FlowEvent:
        if stored.flow_id == flow_id:
            raise ValueError("damaged")
        return decode_event(stored)

    return decode


async def test_a_handler_that_leaves_its_transaction_idle_is_ended_and_counted(
    lab: ConsumingLab,
) -> None:
    await lab.log(flows=1, events=1)
    consumer = lab.consumer()

    async def hanging(_: Sequence[FlowEvent], __: PgTransaction) -> None:
        await asyncio.sleep(1_000)

    await consumer.run_to_end(hanging, tries=2, lease=SHORT, poll_interval=0.01)
    (parked,) = (await consumer.status()).parked
    assert "idle for longer than the lease" in parked.error


async def test_a_store_that_is_closed_ends_a_consumer_and_parks_nothing(
    lab: ConsumingLab,
) -> None:
    await lab.log(flows=1, events=2)
    consumer = lab.consumer(parts=1)

    async def closing(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        await effect(events, transaction)
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, lab.store.aclose())

    with pytest.raises(StoreClosed):
        await consumer.run_to_end(closing, page=1)
    status = await consumer.status()
    assert (status.parked, status.parts[0].tries, status.parts[0].holder) == ([], 0, None)
    await lab.check(lab.events[:1])


async def test_a_position_that_the_log_does_not_hold_is_lost(lab: ConsumingLab) -> None:
    await lab.log(flows=1)
    consumer = lab.consumer(parts=1)
    await consumer.run_to_end(effect)
    await lab.pool.execute("UPDATE feed_consumers SET link = sha256('another log')")
    await lab.log(flows=1)
    with pytest.raises(HistoryLost, match="the log does not hold event 3") as caught:
        await consumer.run_to_end(effect)
    assert caught.value.known == 3


async def test_a_reset_consumes_again_what_follows(lab: ConsumingLab) -> None:
    await lab.log(flows=3)
    consumer = lab.consumer()
    await consumer.run_to_end(effect)
    after = lab.events[5].seq
    await lab.pool.execute("DELETE FROM effects WHERE seq > $1", after)
    await consumer.reset(after)
    assert await consumer.run_to_end(effect) == len(lab.events) - 6
    await lab.check()
    await lab.pool.execute("DELETE FROM effects")
    await consumer.reset(0)
    assert await consumer.run_to_end(effect) == len(lab.events)
    await lab.check()


async def test_a_reset_forgets_the_flows_that_were_parked_after_it(lab: ConsumingLab) -> None:
    flow_ids = await lab.log(flows=2)

    async def failing(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        await effect(events, transaction)
        if events[0].version == 1:
            raise ValueError

    consumer = lab.consumer()
    await consumer.run_to_end(failing, tries=2, page=1, poll_interval=0.01)
    assert {parked.flow_id for parked in (await consumer.status()).parked} == set(flow_ids)
    parked_first = next(event for event in lab.events if event.version == 1)
    await consumer.reset(parked_first.seq)  # the other flow is parked after it
    (parked,) = (await consumer.status()).parked
    assert parked.flow_id == parked_first.flow_id
    await consumer.release(parked.flow_id)
    await consumer.run_to_end(effect)
    await lab.check()


async def test_a_consumer_that_was_removed_begins_anew(lab: ConsumingLab) -> None:
    await lab.log(flows=2)
    consumer = lab.consumer()
    await consumer.run_to_end(effect)
    await consumer.remove()
    with pytest.raises(InvalidArgument, match="there is no consumer 'mirror'"):
        await consumer.status()
    await lab.pool.execute("DELETE FROM effects")
    await consumer.run_to_end(effect)
    await lab.check()


async def test_arguments_that_no_consumer_can_have_are_refused(lab: ConsumingLab) -> None:
    for name, parts in (("", 8), ("a\nb", 8), ("a" * 101, 8), (NAME, 0), (NAME, MOST_PARTS + 1)):
        with pytest.raises(InvalidArgument):
            lab.store.consumer(name, parts=parts)
    for kinds in ([], [FlowEvent]):
        with pytest.raises(InvalidArgument, match="classes of FlowEventKind"):
            lab.store.consumer(NAME, kinds=kinds)  # type: ignore[arg-type]
    consumer = lab.consumer()
    for options in ({"page": 0}, {"tries": 1}, {"lease": timedelta(0)}, {"poll_interval": 0}):
        with pytest.raises(InvalidArgument):
            await consumer.run_to_end(effect, **options)
    for wrong in (consumer.reset(0), consumer.resize(4), consumer.remove(), consumer.status()):
        with pytest.raises(InvalidArgument, match="there is no consumer"):
            await wrong
    with pytest.raises(InvalidArgument, match="has not parked"):
        await consumer.release(new_flow_id())

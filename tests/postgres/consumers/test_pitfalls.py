"""The interleavings in which a consumer could lose an event, do it twice, or stand still."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from chem_persistence import (
    Consumer,
    FlowEvent,
    PgTransaction,
    StepFinished,
    StepSignal,
    StoreUnavailable,
)
from chem_persistence.feed.parts import HeldPart, PartLost
from chem_persistence.postgres.admin.doctor.feed import check_feed
from chem_persistence.postgres.admin.doctor.result import Severity
from chem_persistence.postgres.consumers.parts import PgConsumerParts, PgPartPage
from tests.support.consuming import NAME, SHORT, ConsumingLab, effect, signal
from tests.support.flows.flows import new_flow_id
from tests.support.servers.waiting import until_blocked

MINUTE = timedelta(minutes=1)


class StoppedParts:
    """The parts of a process that stops between the fence and the commit of its transaction."""

    def __init__(self, lab: ConsumingLab) -> None:
        self._lab = lab
        self.is_stopped, self.goes_on = asyncio.Event(), asyncio.Event()
        self.parts = PgConsumerParts(lab.provider, self._transaction, NAME, None)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[PgTransaction]:
        async with self._lab.store.transaction() as transaction:
            yield transaction
            self.is_stopped.set()
            await self.goes_on.wait()


async def consume(
    parts: PgConsumerParts,
    part: HeldPart,
    page: PgPartPage,
    lease: timedelta = MINUTE,
    *,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Consume a page; `meanwhile` is awaited when its effects are stored, before the fence."""
    async with parts.consuming(part, page, lease) as transaction:
        await effect(page.events(), transaction)
        if meanwhile is not None:
            await meanwhile()


async def next_page(parts: PgConsumerParts, part: HeldPart) -> PgPartPage:
    page = await parts.next_page(part, await parts.feed_end(), 500)
    assert page is not None
    return page


async def test_a_second_attempt_beside_one_whose_reply_was_lost_stores_nothing(
    lab: ConsumingLab,
) -> None:
    await lab.log(flows=2)
    await lab.created(parts=1)
    stopped = StoppedParts(lab)
    part = await lab.claimed(stopped.parts, MINUTE)
    page = await next_page(stopped.parts, part)
    first = asyncio.create_task(consume(stopped.parts, part, page))
    await stopped.is_stopped.wait()
    second = asyncio.create_task(consume(lab.parts(), part, page))
    await until_blocked(lab.pool)
    stopped.goes_on.set()
    await first
    with pytest.raises(PartLost):
        await second
    await lab.check()
    assert await lab.parts().find(part) == page.then


async def test_the_reply_of_a_release_that_was_lost_does_not_release_a_flow_twice(
    lab: ConsumingLab,
) -> None:
    """Its part does not move, so the part's own fence would let both attempts pass."""
    consumer = await parked(lab)
    stopped = StoppedParts(lab)
    part = await lab.claimed(stopped.parts, MINUTE)
    page = await next_page(stopped.parts, part)
    assert page.released is not None
    first = asyncio.create_task(consume(stopped.parts, part, page))
    await stopped.is_stopped.wait()
    second = asyncio.create_task(consume(lab.parts(), part, page))
    await until_blocked(lab.pool)
    stopped.goes_on.set()
    await first
    with pytest.raises(PartLost):
        await second
    await lab.parts().release(page.then, due_in=timedelta(0), tries=0)
    await consumer.run_to_end(effect)
    await lab.check()


async def parked(lab: ConsumingLab) -> Consumer[PgTransaction]:
    """Return a consumer of one part, with a flow that was parked and released."""
    (flow_id,) = await lab.log(flows=1)

    async def failing(_: Sequence[FlowEvent], __: PgTransaction) -> None:
        raise ValueError

    consumer = lab.consumer(parts=1)
    await consumer.run_to_end(failing, tries=2, poll_interval=0.01)
    await consumer.release(flow_id)
    return consumer


async def test_a_process_that_is_stopped_before_its_commit_does_not_keep_the_part(
    lab: ConsumingLab,
) -> None:
    await lab.log(flows=2)
    consumer = await lab.created(parts=1)
    stopped = StoppedParts(lab)
    part = await lab.claimed(stopped.parts)
    page = await next_page(stopped.parts, part)
    first = asyncio.create_task(consume(stopped.parts, part, page, SHORT))
    await stopped.is_stopped.wait()  # from here on the part's row is locked
    await consumer.run_to_end(effect, poll_interval=0.01)
    await lab.check()
    stopped.goes_on.set()
    with pytest.raises(StoreUnavailable, match="idle-in-transaction"):
        await first
    await lab.check()


async def test_the_lease_is_renewed_while_the_handler_is_at_work(lab: ConsumingLab) -> None:
    await lab.log(flows=1)
    await lab.created(parts=1)
    parts = lab.parts()
    part = await lab.claimed(parts, MINUTE)
    page = await next_page(parts, part)

    async def renew() -> None:
        async with asyncio.timeout(30):  # the fence, which locks the row, comes after the handler
            assert await parts.renew(part, MINUTE)

    await consume(parts, part, page, meanwhile=renew)
    await lab.check()


async def test_a_process_whose_part_was_claimed_by_another_stores_nothing(
    lab: ConsumingLab,
) -> None:
    await lab.log(flows=2)
    consumer = await lab.created(parts=1)
    parts = lab.parts()
    part = await lab.claimed(parts)
    page = await next_page(parts, part)
    with pytest.raises(PartLost):
        await consume(parts, part, page, meanwhile=lambda: consumer.run_to_end(effect))
    assert not await parts.renew(part, MINUTE)
    await lab.check()


async def test_a_reset_to_the_same_position_takes_the_part_from_its_holder(
    lab: ConsumingLab,
) -> None:
    await lab.log(flows=2)
    consumer = await lab.created(parts=1)
    parts = lab.parts()
    part = await lab.claimed(parts, MINUTE)
    page = await next_page(parts, part)
    with pytest.raises(PartLost):
        await consume(parts, part, page, meanwhile=lambda: consumer.reset(0))  # where it is
    assert await lab.effects() == []
    await consumer.run_to_end(effect)
    await lab.check()


@pytest.mark.parametrize(("before", "after"), [(2, 5), (4, 1)])
async def test_the_number_of_parts_changes_without_a_loss_or_a_double(
    lab: ConsumingLab, before: int, after: int
) -> None:
    await lab.log(flows=12)
    consumer = await lab.created(parts=before)
    parts = lab.parts()
    part = await lab.claimed(parts, MINUTE)  # which is ahead of the others from now on
    await consume(parts, part, await next_page(parts, part))
    await consumer.resize(after)
    assert await parts.find(part) is None
    status = await consumer.status()
    assert (len(status.parts), status.next_parts) == (before, after)
    await lab.log(flows=2)
    await consumer.run_to_end(effect, page=5, poll_interval=0.01)
    status = await consumer.status()
    assert (len(status.parts), status.next_parts) == (after, None)
    await lab.check()


async def test_parts_that_all_stand_at_one_position_change_at_once(lab: ConsumingLab) -> None:
    consumer = await lab.created(parts=2)
    await consumer.resize(3)
    assert len((await consumer.status()).parts) == 3
    await lab.log()
    await consumer.run_to_end(effect)
    await lab.check()


async def test_an_event_that_kills_each_process_is_parked_alone(lab: ConsumingLab) -> None:
    flow_ids = await lab.log(flows=6)
    poison = next(event for event in lab.events if event.flow_id == flow_ids[3] and event.version)
    consumer = await lab.created(parts=1)
    for _ in range(20):  # more than it can take until it is the first event of a page of one
        await lab.die(lab.parts(), at=poison.seq)

    async def careful(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        assert poison not in events, "it would kill this process"
        await effect(events, transaction)

    await consumer.run_to_end(careful, tries=3)
    (parked,) = (await consumer.status()).parked
    assert (parked.flow_id, parked.seq) == (poison.flow_id, poison.seq)
    assert "no error is known" in parked.error
    held_back = [event for event in lab.events if event.flow_id == poison.flow_id][1:]
    await lab.check([event for event in lab.events if event not in held_back])


async def test_a_released_flow_that_kills_each_process_is_parked_again(lab: ConsumingLab) -> None:
    consumer = await parked(lab)
    for _ in range(4):
        await lab.die(lab.parts(), at=lab.events[0].seq)
    await lab.log(flows=1)

    async def careful(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        assert lab.events[0] not in events, "it would kill this process"
        await effect(events, transaction)

    await consumer.run_to_end(careful, tries=3)
    (found,) = (await consumer.status()).parked
    assert (found.flow_id, found.is_released) == (lab.events[0].flow_id, False)
    await lab.check(lab.events[3:])


async def test_a_rare_type_behind_many_events_and_a_gap_of_numbers_is_found(
    lab: ConsumingLab, administrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await lab.store.append_kinds(new_flow_id(), [signal(number) for number in range(2_500)])
    await administrator.execute("SELECT setval('event_log_seq_seq', 1000000000)")
    rare = await lab.store.append_kind(new_flow_id(), StepFinished(0, "acquire", (), "f" * 64))
    consumer = lab.consumer(parts=1, kinds=[StepFinished])
    assert await consumer.run_to_end(effect) == 1
    await lab.check([rare])
    (part,) = (await consumer.status()).parts
    assert (part.seq, part.lag) == (rare.seq, 0)


async def test_a_handler_that_has_appended_holds_back_the_feed_and_doctor_names_it(
    lab: ConsumingLab, administrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await lab.log(flows=1)
    await lab.created(parts=1)
    parts, flow_id = lab.parts(), new_flow_id()
    part = await lab.claimed(parts, MINUTE)
    page = await next_page(parts, part)
    async with parts.consuming(part, page, MINUTE) as transaction:
        await effect(page.events(), transaction)
        await transaction.append_kind(flow_id, signal())
        own = await transaction.connection.fetch("SELECT pg_backend_pid() AS pid")
        end = await parts.feed_end()
        await lab.store.append_kind(new_flow_id(), signal())
        assert await parts.feed_end() == end  # for everybody
        found = await check_feed(administrator, longest=timedelta(0))
        assert [result.severity for result in found] == [Severity.WARNING]
        assert f"session {own[0]['pid']} " in found[0].finding
    assert await parts.feed_end() > end
    found = await check_feed(administrator, longest=timedelta(0))
    assert [result.severity for result in found] == [Severity.OK]


async def test_appends_of_a_handler_are_stored_with_the_position_or_not_at_all(
    lab: ConsumingLab,
) -> None:
    await lab.log(flows=1, events=1)
    consumer, flow_id, failures = lab.consumer(parts=1), new_flow_id(), [ValueError()]

    async def answer(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        if events[0].flow_id != flow_id:
            await transaction.append_kind(flow_id, StepSignal(0, "acquire", "seen"))
        if failures:
            raise failures.pop()

    await consumer.run_to_end(answer, poll_interval=0.01)
    assert [event.version for event in await lab.store.list(flow_id)] == [0]


async def test_a_handler_that_swallows_a_failed_statement_stores_nothing(
    lab: ConsumingLab,
) -> None:
    await lab.log(flows=1, events=1)
    consumer = lab.consumer(parts=1)

    async def swallowing(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        await effect(events, transaction)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await transaction.connection.execute("SELECT 1 / 0")

    await consumer.run_to_end(swallowing, tries=2, poll_interval=0.01)
    (parked,) = (await consumer.status()).parked
    assert "InFailedSQLTransactionError" in parked.error
    assert await lab.effects() == []

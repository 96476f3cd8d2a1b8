"""Claims, renewals, give-backs and leased appends whose reply is lost after the commit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from chem_persistence import (
    FlowClient,
    InMemoryFlowRepository,
    PgEventStore,
    PgLeases,
    PoolProvider,
    Renewal,
    StepStarted,
    build_pool,
)
from tests.support.faults.proxy import Fault, Message, Proxy, Strike, proxied
from tests.support.flows.messages import executes, gives_a_stored_event, sends_an_append
from tests.support.leases.desk import HASH, HOUR, NOW, Desk, postgres_desk
from tests.support.leases.staff import (
    Act,
    Acts,
    Number,
    chain,
    submit,
    trace,
    until,
    working,
)

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

STARTED = StepStarted(0, "acquire")


@pytest.fixture
async def desk(pool: Pool) -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: Proxy) -> AsyncIterator[PoolProvider]:
    """Yield a provider of connections through the proxy, whose session has been set up."""
    async with await build_pool(proxy.url, max_size=1) as pool:
        yield PoolProvider(pool)


def answer_to(words: bytes) -> Callable[[Message], bool]:
    """Match the first row that answers a statement with these words."""
    state = "unknown"

    def matches(message: Message) -> bool:
        nonlocal state
        if message.from_client and message.type == "P" and words in message.data:
            state = "parsed"
        elif state == "parsed" and executes(message):
            state = "executed"
        return state == "executed" and not message.from_client and message.type == "D"

    return matches


def then_arm(
    proxy: Proxy, fault: Fault, matches: Callable[[Message], bool]
) -> Callable[[Message], bool]:
    """Match as `matches` does, and make `fault` the next one after that."""

    def arms(message: Message) -> bool:
        if matches(message):
            proxy.arm(fault)
            return True
        return False

    return arms


async def test_a_claim_whose_reply_is_lost_is_returned_by_the_retry(
    desk: Desk, proxy: Proxy, behind: PoolProvider
) -> None:
    flow_ids = {await desk.submit() for _ in range(6)}
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, answer_to(b"claim_flow_runs")))
    claims = await PgLeases(behind).claim([HASH], uuid4(), 4, HOUR)
    assert fault.struck.is_set()
    assert (len(claims), len({claim.token for claim in claims})) == (4, 1)
    assert {(await desk.seen(claim.flow_id)).lease for claim in claims} == {claims[0].token}
    rest = await desk.leases.claim([HASH], uuid4(), 10, HOUR)
    assert {claim.flow_id for claim in [*claims, *rest]} == flow_ids
    assert len(rest) == 2


async def test_a_flow_that_was_taken_is_returned_by_the_retry(
    desk: Desk, proxy: Proxy, behind: PoolProvider
) -> None:
    flow_id = await desk.submit()
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, answer_to(b"take_flow_run")))
    claim = await PgLeases(behind).take(flow_id, uuid4(), HOUR)
    assert fault.struck.is_set()
    assert claim is not None
    assert (await desk.seen(flow_id)).lease == claim.token


async def test_a_renewal_is_repeated(desk: Desk, proxy: Proxy, behind: PoolProvider) -> None:
    flow_id = await desk.submit()
    held = [(flow_id, await desk.take(flow_id, NOW))]
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, answer_to(b"renew_flow_runs")))
    assert await PgLeases(behind).renew(held, HOUR) == {flow_id: Renewal.RENEWED}
    assert fault.struck.is_set()
    assert (await desk.seen(flow_id)).due == "in 1 h"


@pytest.mark.parametrize("due_in", [None, HOUR])
async def test_a_flow_is_given_back_once_and_the_retry_harms_nobody(
    desk: Desk, proxy: Proxy, behind: PoolProvider, due_in: timedelta | None
) -> None:
    flow_id = await desk.submit()
    token = await desk.take(flow_id)
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, answer_to(b"give_back_flow_run")))
    assert not await PgLeases(behind).give_back(flow_id, token, due_in)
    assert fault.struck.is_set()
    assert (await desk.seen(flow_id)).lease is None


async def test_an_append_whose_reply_is_lost_is_returned_although_another_claims_before_the_retry(
    desk: Desk, proxy: Proxy, behind: PoolProvider
) -> None:
    flow_id = await desk.submit()
    store = PgEventStore(behind)
    mine = store.leased(flow_id, await desk.take(flow_id, NOW))
    stalled = Fault(Strike.STALL, sends_an_append)
    lost = Fault(Strike.CUT_BEFORE, then_arm(proxy, stalled, gives_a_stored_event))
    proxy.arm(lost)
    appending = asyncio.create_task(mine.append_kind(flow_id, STARTED, expected_version=1))
    await stalled.struck.wait()
    assert lost.struck.is_set()
    token = await desk.take(flow_id)
    stalled.release()
    event = await appending
    assert await desk.store.list(flow_id, after_version=0) == [event]
    assert (await desk.seen(flow_id)).lease == token
    await store.aclose()


@pytest.mark.parametrize("again", [False, True])
async def test_a_submission_whose_reply_is_lost_is_one_submission(
    desk: Desk,
    proxy: Proxy,
    behind: PoolProvider,
    again: bool,  # noqa: FBT001
) -> None:
    flow, flow_id, store = chain(Act(Acts())), uuid4(), PgEventStore(behind)
    client = FlowClient(store, InMemoryFlowRepository(store))
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, gives_a_stored_event))
    assert await client.submit(flow, Number(0), flow_id=flow_id) == flow_id
    assert fault.struck.is_set()
    if again:  # as by a caller who has not had the answer
        await client.submit(flow, Number(0), flow_id=flow_id)
    assert await trace(desk, flow_id) == "I"
    assert (await desk.seen(flow_id)).due == "now"
    await store.aclose()


LOST = {
    "a claim": b"claim_flow_runs",
    "a start": b"",
    "a release": b"give_back_flow_run",
    "a renewal": b"renew_flow_runs",
}


@pytest.mark.parametrize("what", LOST)
async def test_a_worker_that_loses_a_reply_runs_each_step_once(
    desk: Desk, proxy: Proxy, what: str
) -> None:
    acts, words = Acts(), LOST[what]
    flow = chain(Act(acts, "one"), Act(acts, "two"))
    flow_id = await submit(desk, flow)
    async with await build_pool(proxy.url, max_size=2) as pool:
        store = PgEventStore(PoolProvider(pool))
        there = msgspec.structs.replace(desk, store=store)
        acts.held = frozenset({"two"}) if what in {"a renewal", "a release"} else frozenset()
        reply = answer_to(words) if words else gives_a_stored_event
        fault = proxy.arm(Fault(Strike.CUT_BEFORE, reply))
        async with working(there, [flow], lease=timedelta(seconds=6), grace=timedelta(0)):
            if what == "a renewal":
                await fault.struck.wait()
                acts.may_end.set()
            if what == "a release":
                await acts.begun.wait()
            else:
                await until(desk, flow_id, lambda events: events[-1].variant == "C")
        assert fault.struck.is_set()
        await store.aclose()
    runs = [step_id for step_id, _ in acts.runs]
    assert runs == ["one", "two"]
    if what == "a release":
        row = await desk.seen(flow_id)
        assert (row.lease, row.due) == (None, "now")
        assert await trace(desk, flow_id) == "ISFSG"
    else:
        assert await trace(desk, flow_id) == "ISFSFC"

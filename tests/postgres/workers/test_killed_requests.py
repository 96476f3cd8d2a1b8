"""A process is killed at each statement of a request to a flow: it was made once, or not at all.

To the server a process that is killed is a client whose connections end, and of which no message
comes any more. The request is then made again, by another process.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import msgspec
import pytest

from chem_persistence import (
    BranchCreated,
    ChemPersistenceError,
    ConcurrencyConflict,
    Flow,
    FlowAlreadyCompleted,
    FlowClient,
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    NotWaiting,
    PgEventStore,
    PoolProvider,
    audit_flow,
    build_pool,
    record_audit,
)
from tests.contract.people.test_questions_to_people import Verdict, asked, reviewed
from tests.support.faults.proxy import Fault, Message, Proxy, Strike, proxied
from tests.support.flows.flows import new_flow_id
from tests.support.flows.messages import ends_a_statement
from tests.support.leases.desk import Desk, postgres_desk
from tests.support.leases.families import Add
from tests.support.leases.staff import Number, chain, client_of, submit, trace, working

if TYPE_CHECKING:
    import asyncpg

MOST_STATEMENTS = 60
BEFORE_OR_AFTER = pytest.mark.parametrize("strike", [Strike.CUT_BEFORE, Strike.CUT_AFTER])

Store: TypeAlias = InMemoryEventStore | PgEventStore
Request: TypeAlias = Callable[[Store], Awaitable[object]]


def is_sent(message: Message) -> bool:
    return ends_a_statement(message) or message.type == "Q"


class Killer(msgspec.Struct):
    """Makes requests through a proxy, and kills the process that makes them at a statement."""

    proxy: Proxy
    strike: Strike

    async def killed(self, request: Request, statement: int) -> bool:
        """Make the request until that statement is sent; return whether it came so far."""
        async with await build_pool(self.proxy.url, max_size=1) as pool:
            fault = self.proxy.arm(Fault(self.strike, is_sent, nth=statement, always=True))
            work = asyncio.ensure_future(request(PgEventStore(PoolProvider(pool))))
            struck = asyncio.create_task(fault.struck.wait())
            await asyncio.wait([work, struck], return_when=asyncio.FIRST_COMPLETED)
            for task in (work, struck):
                task.cancel()
            await asyncio.wait([work, struck])
            with suppress(asyncio.CancelledError, ChemPersistenceError):
                work.result()
            self.proxy.arm(Fault(self.strike, lambda _: False))
            return fault.struck.is_set()


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


def client_at(store: Store) -> FlowClient:
    return FlowClient(store, InMemoryFlowRepository(store))


def adding(*amounts: int) -> Flow[Number, Number]:
    return chain(*(Add(amount, f"step {index}") for index, amount in enumerate(amounts)))


async def completed(desk: Desk) -> UUID:
    flow_id = await submit(desk, adding(1, 2), 1)
    async with working(desk, [adding(1, 2)]):
        await client_of(desk).result(adding(1, 2), flow_id)
    return flow_id


@BEFORE_OR_AFTER
async def test_an_answer(desk: Desk, proxy: Proxy, strike: Strike) -> None:
    gate, yes = reviewed(), Verdict(accept=True, more=5)
    flow_ids = [await submit(desk, gate, 1) for _ in range(MOST_STATEMENTS)]
    left = iter(flow_ids)
    async with working(desk, [gate]):
        for flow_id in flow_ids:
            await asked(desk, flow_id)

    async def answer_next(killer: Killer, statement: int) -> bool:
        flow_id = next(left)

        def answer(store: Store) -> Awaitable[object]:
            return client_at(store).answer(flow_id, "review", yes, actor="Ada")

        reached = await killer.killed(answer, statement)
        with suppress(NotWaiting):  # the answer is stored
            await answer(desk.store)
        assert await trace(desk, flow_id) == "ISFSUV"
        return reached

    answered = await each_statement(answer_next, Killer(proxy, strike))
    async with working(desk, [gate]):
        for flow_id in flow_ids[:answered]:
            assert await client_of(desk).result(gate, flow_id) == Number(7)


@BEFORE_OR_AFTER
async def test_an_invalidation(desk: Desk, proxy: Proxy, strike: Strike) -> None:
    flow_ids: list[UUID] = []

    async def invalidate_once(killer: Killer, statement: int) -> bool:
        flow_ids.append(flow_id := await completed(desk))

        def invalidate(store: Store) -> Awaitable[object]:
            return client_at(store).invalidate(flow_id, "step 0", reason="wrong", actor="Ada")

        reached = await killer.killed(invalidate, statement)
        await invalidate(desk.store)
        return reached

    await each_statement(invalidate_once, Killer(proxy, strike))
    assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"ISFSFCG"}


class Adding(Add):
    reuse = "any"


@BEFORE_OR_AFTER
async def test_a_run_that_takes_results_over(desk: Desk, proxy: Proxy, strike: Strike) -> None:
    flow, flow_ids = chain(Adding(1, "a"), Adding(2, "b")), list[UUID]()
    origin = new_flow_id()
    await engine_at(desk.store, flow).run_to_end(origin, Number(1))

    async def run_once(killer: Killer, statement: int) -> bool:
        flow_ids.append(flow_id := new_flow_id())

        async def run(store: Store) -> object:
            with suppress(FlowAlreadyCompleted):
                while True:
                    with suppress(ConcurrencyConflict):  # what the other one has sent arrives late
                        return await engine_at(store, flow).run_to_end(flow_id, Number(1))
            return flow_id

        reached = await killer.killed(run, statement)
        await run(desk.store)
        return reached

    await each_statement(run_once, Killer(proxy, strike))
    assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"IFFC"}
    taken = Counter(each.flow_id for each in await desk.store.taken_over(origin))
    assert taken == dict.fromkeys(flow_ids, 2)


def engine_at(store: Store, flow: Flow[Number, Number]) -> FlowEngine[Number]:
    return FlowEngine(store, InMemoryFlowRepository(store), flow)


@BEFORE_OR_AFTER
async def test_a_branch(desk: Desk, proxy: Proxy, strike: Strike) -> None:
    parent, new = await completed(desk), adding(1, 5)
    branch_ids: list[UUID] = []

    async def branch_once(killer: Killer, statement: int) -> bool:
        branch_ids.append(new_flow_id())

        def branch(store: Store) -> Awaitable[object]:
            return client_at(store).branch(
                parent, new, Number(1), reason="larger", branch_id=branch_ids[-1]
            )

        reached = await killer.killed(branch, statement)
        await branch(desk.store)
        return reached

    await each_statement(branch_once, Killer(proxy, strike))
    facts = [event.kind for event in await desk.store.list(parent)]
    made = Counter(fact.branch_id for fact in facts if isinstance(fact, BranchCreated))
    assert made == dict.fromkeys(branch_ids, 1)
    assert {await trace(desk, branch_id) for branch_id in branch_ids} == {"IF"}


@BEFORE_OR_AFTER
async def test_the_record_of_an_audit(desk: Desk, proxy: Proxy, strike: Strike) -> None:
    flow_id = await completed(desk)
    audit = await audit_flow(desk.store, adding(1, 2), flow_id)

    async def record_once(killer: Killer, statement: int) -> bool:
        def record(store: Store) -> Awaitable[object]:
            return record_audit(store, audit, actor=f"auditor {statement}")

        return await killer.killed(record, statement)

    last = await each_statement(record_once, Killer(proxy, strike))
    events = await desk.store.list(flow_id)
    records = Counter(event.metadata["actor"] for event in events if event.variant == "G")
    assert set(records.values()) == {1}
    assert f"auditor {last}" in records


async def each_statement(make: Callable[[Killer, int], Awaitable[bool]], killer: Killer) -> int:
    """Make a request again and again, killed one statement later each time; return how often."""
    for statement in range(1, MOST_STATEMENTS + 1):
        if not await make(killer, statement):
            assert statement > 1
            return statement
    pytest.fail("the request always had another statement")

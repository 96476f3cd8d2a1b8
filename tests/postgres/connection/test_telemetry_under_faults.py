"""Telemetry about the database: disconnects, shared transactions, queues and pools."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from chem_persistence import (
    FlowAppend,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepContext,
    StepRaised,
    StepSignal,
    StoreError,
    StoreUnavailable,
    build_pool,
)
from chem_persistence.postgres.append.queue import MIN_SHARE
from tests.support.faults.gate import gate
from tests.support.faults.proxy import Fault, Proxy, Strike, proxied
from tests.support.faults.watching import Heard, attributes_of, context_of, watching
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.messages import answers_an_append, executes, sends_an_append
from tests.support.flows.steps import Mixture, engine_of
from tests.support.servers.backends import Backend, postgres_backend

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def heard() -> Iterator[Heard]:
    with watching() as heard:
        yield heard


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


# ---- faults


async def test_a_flow_with_two_disconnects_and_a_retry_is_told_with_each_counted_once(
    database_url: str, proxy: Proxy, heard: Heard
) -> None:
    """Lose an append before the server gets it, and the answer of one after a step's retry."""
    faults = iter(
        [
            Fault(Strike.CUT_BEFORE, sends_an_append),
            Fault(Strike.CUT_BEFORE, answers_an_append()),
        ]
    )
    armed: list[Fault] = []

    def act(context: StepContext) -> None:
        armed.append(proxy.arm(next(faults)))
        if context.attempt == 1:
            raise ValueError

    async with await build_pool(proxy.url, max_size=1) as pool:
        provider = PoolProvider(pool)
        store = PgEventStore(provider)
        backend = Backend(
            "proxied", store, PgFlowRepository(provider), lambda: postgres_backend(database_url)
        )
        engine = engine_of(backend, act)
        with pytest.raises(StepRaised) as caught:
            await engine.run_to_end(input=Mixture("CCO.O"))
        flow_id = caught.value.flow_id
        await engine.schedule_retry(flow_id, reason="again")
        await engine.run_to_end(flow_id)
        assert await engine.event_trace(flow_id) == ["I", "S", "F", "S", "X", "R", "S", "F", "C"]
        await store.aclose()

    assert [fault.struck.is_set() for fault in armed] == [True, True]
    retries = heard.points("chem_persistence.retries")
    assert sum(point.value for point in retries) == 2
    assert {point.attributes["chem_persistence.retry.number"] for point in retries} == {1}
    assert heard.values("chem_persistence.step.retries") == {(1, "count", "ValueError"): 1}
    assert heard.points("chem_persistence.conflicts") == []

    assert [heard.ancestry(span) for span in heard.spans("retry")] == [
        ["retry", "append_batch", "append", "step", "flow"]
    ] * 2
    assert [heard.ancestry(span) for span in heard.spans("append")] == [
        ["append", "step", "flow"],  # I, S
        ["append", "step", "flow"],  # F, S
        ["append", "step", "flow"],  # X: cut
        ["append", "schedule_retry"],  # R
        ["append", "step", "flow"],  # S
        ["append", "step", "flow"],  # F, C: its answer was lost
    ]
    assert [
        attributes_of(span)["chem_persistence.step.attempt"] for span in heard.spans("step")
    ] == [1, 1, 2]
    assert [heard.ancestry(span)[1:] for span in heard.spans("append_batch")] == [
        heard.ancestry(span) for span in heard.spans("append")
    ]
    first, resumed = heard.spans("flow")
    assert [link.context.trace_id for link in resumed.links] == [context_of(first).trace_id]
    assert heard.values("chem_persistence.append.duration") == {(): 6}
    assert heard.values("chem_persistence.append.batch.size") == {(): 6}


async def test_retries_are_told_by_cause_and_number_until_they_are_used_up(
    provider: PoolProvider, owner: Connection, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    store = PgEventStore(provider)
    await store.append_kind(new_flow_id(), initialized())
    await owner.execute("""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '40001'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON event_log FOR EACH ROW EXECUTE FUNCTION fail()
    """)
    with caplog.at_level(logging.INFO, "chem_persistence.retries"), pytest.raises(StoreUnavailable):
        await store.append_kind(new_flow_id(), initialized())
    await store.aclose()
    assert heard.values("chem_persistence.retries") == {
        (number, "40001"): 1 for number in (1, 2, 3)
    }
    told = [attributes_of(span) for span in heard.spans("retry")]
    assert [attributes["chem_persistence.retry.number"] for attributes in told] == [1, 2, 3]
    assert {attributes["chem_persistence.retry.cause"] for attributes in told} == {"40001"}
    stored, failed = heard.spans("append_batch")
    assert stored.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes_of(failed)["error.type"] == "StoreUnavailable"
    assert attributes_of(failed)["db.response.status_code"] == "40001"
    assert heard.values("chem_persistence.append.duration") == {(): 1, ("StoreUnavailable",): 1}
    records = [record for record in caplog.records if record.name == "chem_persistence.retries"]
    assert [(record.levelname, getattr(record, "error_type", None)) for record in records] == [
        *[("INFO", "40001")] * 3,
        ("WARNING", "40001"),
    ]


async def test_a_read_that_is_tried_again_is_told_inside_its_page(
    proxy: Proxy, heard: Heard
) -> None:
    flow_id = new_flow_id()
    async with await build_pool(proxy.url, max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))
        await store.append_kind(flow_id, initialized())
        await store.aclose()
        proxy.arm(Fault(Strike.CUT_BEFORE, executes))
        assert len(await store.list(flow_id)) == 1
    assert [heard.ancestry(span) for span in heard.spans("retry")] == [["retry", "list"]]
    (page,) = heard.spans("list")
    assert page.kind is SpanKind.CLIENT
    assert attributes_of(page)["db.system.name"] == "postgresql"


async def test_what_the_database_quotes_when_it_refuses_is_not_told(
    pool: Pool,
    provider: PoolProvider,
    owner: Connection,
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = f"secret-{uuid4().hex}"
    await owner.execute("ALTER TABLE event_log ADD CHECK (payload ->> 'signal' <> 'forbidden')")
    store = PgEventStore(provider)
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreError) as caught:
        await store.append_kind(new_flow_id(), StepSignal(0, "acquire", "forbidden", secret))
    assert secret in str(caught.value)  # the caller sees it
    told = "".join(span.to_json() for span in heard.spans()) + heard.metrics_json()
    assert "23514" in told
    assert secret not in told
    assert secret not in caplog.text
    await store.aclose()
    assert pool.get_size() > 0


# ---- appends that share a transaction


WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'
"""


async def until_waiting(pool: Pool, sessions: int) -> None:
    async with asyncio.timeout(60):
        while await pool.fetchval(WAITING) < sessions:
            pass


async def test_appends_of_one_call_are_one_span_and_are_counted_each(
    provider: PoolProvider, heard: Heard
) -> None:
    store, taken = PgEventStore(provider), new_flow_id()
    await store.append_kind(taken, initialized())
    flow_ids = [new_flow_id(), taken, new_flow_id()]
    await store.append_many([FlowAppend(each, [initialized()], (), 0) for each in flow_ids])
    await store.aclose()
    (call,) = heard.spans("append_many")
    told = attributes_of(call)
    assert (told["chem_persistence.appends"], told["chem_persistence.events"]) == (3, 3)
    assert heard.ancestry(heard.spans("append_batch")[1]) == ["append_batch", "append_many"]
    assert heard.values("chem_persistence.append.duration") == {
        (): 3,
        ("ConcurrencyConflict",): 1,
    }
    assert heard.values("chem_persistence.conflicts") == {(): 1}


async def test_a_shared_transaction_is_a_trace_of_its_own_linked_to_its_callers(
    pool: Pool, provider: PoolProvider, owner: Connection, heard: Heard
) -> None:
    """Block both writers until others wait; then check the queue, and the batch they share."""
    store = PgEventStore(provider)
    busy, flow_ids = [new_flow_id(), new_flow_id()], [new_flow_id() for _ in range(MIN_SHARE)]
    async with gate(owner, "event_log", f"NEW.flow_id IN ('{busy[0]}', '{busy[1]}')"):
        holding = []
        for number, flow_id in enumerate(busy):
            holding.append(asyncio.create_task(store.append_kind(flow_id, initialized())))
            await until_waiting(pool, number + 1)
        waiting = [
            asyncio.create_task(store.append_kind(flow_id, initialized())) for flow_id in flow_ids
        ]
        await asyncio.sleep(0)
        depth = heard.values("chem_persistence.append.queue.depth")
        assert depth == {("accepted",): MIN_SHARE + 2, ("held_back",): 0}
    await asyncio.gather(*holding, *waiting)
    assert heard.values("chem_persistence.append.queue.depth")["accepted",] == 0
    (shared,) = (span for span in heard.spans("append_batch") if len(span.links) > 1)
    callers = [span for span in heard.spans("append") if span not in heard.spans("append")[:2]]
    assert shared.parent is None
    assert {link.context.span_id for link in shared.links} == {
        context_of(span).span_id for span in callers
    }
    assert attributes_of(shared)["db.operation.batch.size"] == MIN_SHARE
    assert shared.kind is SpanKind.CLIENT
    alone = [span for span in heard.spans("append_batch") if span is not shared]
    assert [heard.ancestry(span) for span in alone] == [["append_batch", "append"]] * 2
    sizes = heard.points("chem_persistence.append.batch.size")
    assert [(point.count, point.sum, point.max) for point in sizes] == [
        (3, MIN_SHARE + 2, MIN_SHARE)
    ]
    await store.aclose()


async def test_appends_above_the_limit_are_held_back(
    pool: Pool, provider: PoolProvider, owner: Connection, heard: Heard
) -> None:
    store = PgEventStore(provider, max_waiting=1)
    first = new_flow_id()
    async with gate(owner, "event_log", f"NEW.flow_id = '{first}'"):
        appends = [asyncio.create_task(store.append_kind(first, initialized()))]
        await until_waiting(pool, 1)
        appends += [
            asyncio.create_task(store.append_kind(new_flow_id(), initialized())) for _ in range(3)
        ]
        await asyncio.sleep(0)
        depth = heard.values("chem_persistence.append.queue.depth")
        assert depth == {("accepted",): 1, ("held_back",): 3}
    await asyncio.gather(*appends)
    await store.aclose()


async def test_an_append_that_is_cancelled_is_told_but_has_not_gone_wrong(
    pool: Pool, provider: PoolProvider, owner: Connection, heard: Heard
) -> None:
    store = PgEventStore(provider)
    flow_id = new_flow_id()
    async with gate(owner, "event_log", f"NEW.flow_id = '{flow_id}'"):
        append = asyncio.create_task(store.append_kind(flow_id, initialized()))
        await until_waiting(pool, 1)
        append.cancel()
        with pytest.raises(asyncio.CancelledError):
            await append
    (cancelled,) = heard.spans("append")
    assert cancelled.status.status_code is StatusCode.UNSET
    assert attributes_of(cancelled)["error.type"] == "asyncio.exceptions.CancelledError"
    await store.aclose()


# ---- pools


async def test_the_connections_of_a_pool_are_counted_once_however_often_it_is_lent(
    database_url: str, heard: Heard
) -> None:
    async with await build_pool(database_url, min_size=3, max_size=5) as pool:
        lenders = [PoolProvider(pool), PoolProvider(pool)]
        name = lenders[0]._name
        async with lenders[0].acquire(), lenders[1].acquire():
            counts = heard.values("db.client.connection.count")
            assert (counts[name, "used"], counts[name, "idle"]) == (2, 1)
        counts = heard.values("db.client.connection.count")
        assert (counts[name, "used"], counts[name, "idle"]) == (0, 3)
        assert heard.values("db.client.connection.max")[name,] == 5
        assert heard.values("db.client.connection.wait_time") == {(name,): 2}


async def test_a_pool_that_nobody_lends_any_more_is_forgotten(
    database_url: str, heard: Heard
) -> None:
    async with await build_pool(database_url) as pool:
        lender = PoolProvider(pool)
        name = lender._name
        assert (name,) in heard.values("db.client.connection.max")
        del lender
        assert (name,) not in heard.values("db.client.connection.max")


async def test_pools_have_names_of_their_own(database_url: str) -> None:
    async with await build_pool(database_url) as one, await build_pool(database_url) as other:
        lenders = [PoolProvider(one), PoolProvider(other), PoolProvider(one)]
        assert Counter(lender._name for lender in lenders).most_common(1)[0][1] == 2
        assert lenders[0]._name == lenders[2]._name

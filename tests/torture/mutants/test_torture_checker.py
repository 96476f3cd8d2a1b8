"""The torture's checker finds every planted flaw, and what broken variants of the store do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import asyncpg
import pytest

from chem_persistence import ConcurrencyConflict, PgEventStore, PoolProvider, build_pool
from chem_persistence.postgres.append import batch as store_batch
from chem_persistence.postgres.append import place_events as write_path
from tests.support.faults.gate import gate
from tests.support.faults.proxy import Fault, Proxy, Strike, proxied
from tests.support.flows.flows import initialized
from tests.support.flows.messages import gives_a_stored_event, sends_an_append
from tests.torture.checker.check import Verdict, check
from tests.torture.checker.findings import Flaw
from tests.torture.faults.schedule import FAULTS, schedule
from tests.torture.mutants.broken_stores import artifacts_afterwards, stores_artifacts, with_new_ids
from tests.torture.mutants.plants import PLANTS
from tests.torture.mutants.written_log import (
    FLOW,
    OWN,
    UNANSWERED,
    Noted,
    finished,
    said,
    write_log,
)
from tests.torture.writers.recording import TOKEN, RecordingStore
from tests.torture.writers.records import Refused, Sent, Unexpected, now


@pytest.fixture
def writer(provider: PoolProvider, tmp_path: Path) -> Noted:
    return Noted(PgEventStore(provider), tmp_path / "records.jsonl")


@pytest.fixture
async def written(writer: Noted, provider: PoolProvider) -> Noted:
    """Write flows: single events, batches, an append without an answer, a flow of an engine."""
    await write_log(writer, provider)
    return writer


@pytest.fixture
async def intruder(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Connect as a superuser without triggers, foreign keys and unique versions."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("ALTER TABLE event_log DROP CONSTRAINT event_log_flow_version_key")
    await connection.execute("ALTER TABLE event_log DROP CONSTRAINT event_log_pkey CASCADE")
    yield connection
    await connection.close()


def flaws_of(verdict: Verdict, token: str | None) -> set[Flaw]:
    return {finding.flaw for finding in verdict.findings if token is None or finding.token == token}


async def test_a_sound_log_is_found_sound(written: Noted, provider: PoolProvider) -> None:
    verdict = await check(provider, written.ledger())
    assert verdict.findings == []
    assert (verdict.flows, verdict.engine_flows, verdict.stored_unanswered) == (4, 1, 1)


@pytest.mark.parametrize("plant", PLANTS)
async def test_what_was_planted_is_found(
    written: Noted,
    provider: PoolProvider,
    intruder: "asyncpg.Connection[asyncpg.Record]",
    plant: str,
) -> None:
    planted = PLANTS[plant]
    await intruder.execute(planted.statement, planted.flow_id)
    verdict = await check(provider, written.ledger())
    assert planted.flaws <= verdict.flaws()
    assert planted.token is None or flaws_of(verdict, planted.token)


async def test_an_append_that_was_refused_and_stored_is_found(
    written: Noted, provider: PoolProvider
) -> None:
    written.records.write(Refused("unanswered", "StoreError", now(), "25006"))
    verdict = await check(provider, written.ledger())
    assert flaws_of(verdict, "unanswered") == {Flaw.REFUSED, Flaw.UNCAUSED}


async def test_what_a_writer_did_not_expect_is_found(
    written: Noted, provider: PoolProvider
) -> None:
    written.records.write(Unexpected("InterfaceError", now()))
    assert (await check(provider, written.ledger())).flaws() == {Flaw.UNEXPECTED}


async def test_an_append_that_nobody_answered_may_be_lost(
    written: Noted, provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await intruder.execute("DELETE FROM event_log WHERE flow_id = $1", UNANSWERED)
    assert (await check(provider, written.ledger())).findings == []


async def test_what_an_engine_appended_can_be_sent_again_from_its_record(written: Noted) -> None:
    sent = [record for record in written.read() if isinstance(record, Sent) and record.by_engine]
    answers = [await written.store.send(append) for append in sent]
    assert len(sent) > 1
    assert [[event.event_id for event in events] for events in answers] == [
        append.event_ids for append in sent
    ]


# ---- broken variants of the store, each under one small fault

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@asynccontextmanager
async def connected(url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def troubled(proxy: Proxy, tmp_path: Path) -> AsyncIterator[Noted]:
    """Yield a writer whose only connection goes through the proxy; it has begun the flow."""
    async with await build_pool(proxy.url, max_size=1) as pool:
        writer = Noted(PgEventStore(PoolProvider(pool)), tmp_path / "troubled.jsonl")
        await writer.append("first", FLOW, [initialized()])
        yield writer


@pytest.mark.parametrize(
    ("sound", "expected_version", "flaw"),
    [(True, None, None), (True, 1, None), (False, None, Flaw.DOUBLED), (False, 1, Flaw.REFUSED)],
)
async def test_a_store_without_idempotency_is_found_out_by_a_lost_reply(
    *,
    monkeypatch: pytest.MonkeyPatch,
    proxy: Proxy,
    troubled: Noted,
    provider: PoolProvider,
    sound: bool,
    expected_version: int | None,
    flaw: Flaw | None,
) -> None:
    if not sound:
        monkeypatch.setattr(store_batch, "append_batch", with_new_ids)
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, gives_a_stored_event))
    try:
        await troubled.append(
            "victim", FLOW, [finished(OWN)], artifacts=[OWN], expected_version=expected_version
        )
    except ConcurrencyConflict:
        assert flaw is Flaw.REFUSED
    assert fault.struck.is_set()
    verdict = await check(provider, troubled.ledger())
    assert flaws_of(verdict, "victim") >= (set() if flaw is None else {flaw})
    assert bool(verdict.findings) is (flaw is not None)


@pytest.mark.parametrize("sound", [True, False])
async def test_a_log_without_the_version_key_is_found_out_by_two_writers(
    *, database_url: str, writer: Noted, provider: PoolProvider, sound: bool
) -> None:
    await writer.append("first", FLOW, [initialized()], expected_version=0)
    rival = RecordingStore(PgEventStore(provider), writer.records, "rival")

    async def race(store: RecordingStore, number: int) -> None:
        metadata = {TOKEN: f"racer {number}"}
        try:
            await store.append_kinds(FLOW, [said(number)], expected_version=1, metadata=metadata)
        except ConcurrencyConflict:
            assert sound

    async with connected(database_url) as owner, connected(database_url) as witness:
        if not sound:
            await owner.execute("ALTER TABLE event_log DROP CONSTRAINT event_log_flow_version_key")
        async with gate(owner, "event_log", "true"):
            racing = asyncio.gather(race(writer.store, 1), race(rival, 2))
            while await witness.fetchval(WAITING) < 2:
                pass
        await racing
    verdict = await check(provider, writer.ledger())
    assert verdict.flaws() >= (set() if sound else {Flaw.FORKED})
    assert bool(verdict.findings) is not sound


@pytest.mark.parametrize("sound", [True, False])
async def test_a_store_with_two_transactions_is_found_out_by_a_cut_between_them(
    *,
    monkeypatch: pytest.MonkeyPatch,
    proxy: Proxy,
    troubled: Noted,
    provider: PoolProvider,
    sound: bool,
) -> None:
    if not sound:
        monkeypatch.setattr(write_path, "_insert", artifacts_afterwards)
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, sends_an_append if sound else stores_artifacts))
    await troubled.append("victim", FLOW, [finished(OWN)], artifacts=[OWN])
    assert fault.struck.is_set()
    verdict = await check(provider, troubled.ledger())
    assert flaws_of(verdict, "victim") == (set() if sound else {Flaw.ARTIFACT_MISSING})


def test_a_seed_gives_one_schedule() -> None:
    def first(seed: int) -> list[tuple[str, float]]:
        return [(fault.name, dice.random()) for fault, dice in islice(schedule(seed), 100)]

    assert first(1) == first(1) != first(2)
    assert {name for name, _ in first(1)} == {fault.name for fault in FAULTS}

"""The checker finds each store that breaks a guarantee of DESIGN.md, and nothing in a sound one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import asyncpg
import pytest

from chem_persistence import PgEventStore, PoolProvider
from tests.torture.checker.check import Verdict, check
from tests.torture.checker.findings import Flaw
from tests.torture.checker.ledger import Ledger
from tests.torture.mutants.stores import APPENDS, MUTATIONS, Mutant, Mutate, SkippingStore
from tests.torture.mutants.written_log import Noted, write_log
from tests.torture.subscriber import Subscriber
from tests.torture.writers.appending import Appending
from tests.torture.writers.load import Load
from tests.torture.writers.recording import RecordingStore
from tests.torture.writers.records import RecordFile, now, read_records

pytestmark = pytest.mark.slow

SEED = 20261127
TASKS = 4
STRIKES = 5


@pytest.fixture
async def intruder(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Connect as a superuser to a log without triggers, foreign keys and unique versions."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("ALTER TABLE event_log DROP CONSTRAINT event_log_flow_version_key")
    yield connection
    await connection.close()


async def verdict_on(
    mutate: Mutate,
    strikes: int,
    provider: PoolProvider,
    intruder: "asyncpg.Connection[asyncpg.Record]",
    folder: Path,
) -> Verdict:
    """Run writers on a mutant until it has struck often enough, and check the log."""
    mutant = Mutant(PgEventStore(provider), intruder, mutate, strikes, Random(SEED))
    records = RecordFile(folder / "records.jsonl")
    store = RecordingStore(mutant, records, "mutant")
    began = now()
    writers = [
        Appending(store, provider, records, Load(SEED, slot, began, Random(slot)), Random(slot))
        for slot in range(TASKS)
    ]
    running = [asyncio.create_task(writer.run()) for writer in writers]
    await mutant.enough.wait()
    for writer in writers:
        writer.stop()
    await asyncio.gather(*running)
    records.close()
    assert mutant.struck >= strikes
    return await check(provider, Ledger(read_records(folder / "records.jsonl")[0]))


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_store_that_breaks_a_guarantee_is_found(
    provider: PoolProvider,
    intruder: "asyncpg.Connection[asyncpg.Record]",
    tmp_path: Path,
    name: str,
) -> None:
    mutation = MUTATIONS[name]
    verdict = await verdict_on(mutation.mutate, STRIKES, provider, intruder, tmp_path)
    assert mutation.flaws <= verdict.flaws()


async def test_nothing_is_found_in_a_sound_store(
    provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]", tmp_path: Path
) -> None:
    async def leave_alone(*_arguments: object) -> None:
        return None

    await intruder.execute(
        "ALTER TABLE event_log ADD CONSTRAINT event_log_flow_version_key UNIQUE (flow_id, version)"
    )
    verdict = await verdict_on(leave_alone, 0, provider, intruder, tmp_path)
    assert verdict.findings == []
    assert verdict.events >= APPENDS // 2


@pytest.mark.parametrize(
    ("open_store", "found"), [(PgEventStore, []), (SkippingStore, [Flaw.FEED])]
)
async def test_a_feed_that_skips_an_event_is_found(
    provider: PoolProvider,
    database_url: str,
    tmp_path: Path,
    open_store: type[PgEventStore],
    found: list[Flaw],
) -> None:
    await write_log(Noted(PgEventStore(provider), tmp_path / "records.jsonl"), provider)
    findings = await Subscriber(database_url, open_store).compare()
    assert [finding.flaw for finding in findings] == found

"""A long log is verified page by page: its length takes time, but no memory."""

import tracemalloc
from io import StringIO

import asyncpg
import pytest

from chem_persistence import PgEventStore, PoolProvider
from chem_persistence.cli.terminal.progress import Work
from chem_persistence.domain.tampering import Tampering
from chem_persistence.postgres.audit.verification import Extent, measure_log, verify_log
from tests.support.flows.long_log import write_long_log

SHORT, LONG = 20_000, 100_000
MOST_GROWTH = 1_000_000
"""A limit in bytes; keeping 80,000 more events would take some eighty times as many."""


async def peak_of_verifying(provider: PoolProvider, events: int) -> int:
    """Return the peak memory in bytes while this many events are verified."""
    tracemalloc.start()
    verification = await verify_log(provider)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (verification.findings, verification.progress.events) == ([], events)
    return peak


@pytest.mark.slow
async def test_a_log_of_100000_events_is_clean_and_takes_no_more_memory_than_20000(
    provider: PoolProvider,
) -> None:
    store = PgEventStore(provider)
    await write_long_log(store, SHORT)
    await verify_log(provider)  # prepares statements and fills caches
    short = await peak_of_verifying(provider, SHORT)
    await write_long_log(store, LONG - SHORT)
    assert await peak_of_verifying(provider, LONG) < short + MOST_GROWTH


@pytest.mark.slow
async def test_one_event_altered_among_100000_is_found(
    provider: PoolProvider, admin_url: str
) -> None:
    await write_long_log(PgEventStore(provider), LONG)
    intruder = await asyncpg.connect(admin_url)
    await intruder.execute("SET session_replication_role = replica")
    where = (
        "seq = (SELECT seq FROM event_log WHERE version = 617 ORDER BY flow_id OFFSET 61 LIMIT 1)"
    )
    await intruder.execute(f"UPDATE event_log SET ts = ts + interval '1 microsecond' WHERE {where}")
    await intruder.close()
    verification = await verify_log(provider)
    assert [(finding.tampering, finding.version) for finding in verification.findings] == [
        (Tampering.ALTERED, 617)
    ]
    assert verification.progress.events == LONG


async def test_progress_is_told_page_by_page_up_to_what_was_measured(
    provider: PoolProvider,
) -> None:
    await write_long_log(PgEventStore(provider), 5_000)
    extent, told = await measure_log(provider), list[tuple[int, int]]()
    await verify_log(
        provider, on_progress=lambda progress: told.append((progress.events, progress.artifacts))
    )
    assert told == [(2_000, 0), (4_000, 0), (5_000, 0), (5_000, 70)]
    assert (extent.events, extent.artifacts) == told[-1]


async def test_what_one_flow_holds_is_measured_without_artifacts(provider: PoolProvider) -> None:
    await write_long_log(PgEventStore(provider), 2_000)
    async with provider.acquire() as connection:
        (row,) = await connection.fetch("SELECT flow_id FROM event_log LIMIT 1")
    assert await measure_log(provider, flow_ids=[row["flow_id"]]) == Extent(1_000, 0)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def shown(output: StringIO) -> str:
    with Work("verified", "events and artifacts", 200_050, output=output) as work:
        for done in (60_000, 120_000, 130_000, 200_050):
            work.show(done)
    return output.getvalue()


def test_a_terminal_shows_a_bar_and_the_time_that_is_left() -> None:
    last = shown(Terminal()).rpartition("200,050 of 200,050 events and artifacts verified")
    assert last[1]
    assert "left" in last[2]


def test_a_file_gets_a_line_for_every_100000_rows() -> None:
    assert shown(StringIO()).splitlines() == [
        "120,000 of 200,050 events and artifacts verified, 80,050 left",
        "200,050 of 200,050 events and artifacts verified, 0 left",
    ]

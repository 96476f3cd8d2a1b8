"""The run: an earlier version fills a log, and writers of both versions see it migrated."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from benchmarks.against.checkout import check_out_tree
from chem_persistence import PgReadModels, PoolProvider, embedded_postgres
from chem_persistence.postgres.connection.pool import open_pool
from chem_persistence.postgres.read.rebuild import Projection
from chem_persistence.postgres.schema.describe import describe_schema
from chem_persistence.postgres.schema.migrations import known_migrations, validate_constraints
from chem_persistence.postgres.schema.statements import SCHEMA_SNAPSHOT
from tests.torture.checker.check import Verdict, check
from tests.torture.checker.ledger import Ledger
from tests.torture.upgrade.observed import Connection, Migrated, connected, migrate_observed
from tests.torture.writers.writers import Writers

__all__ = ["Form", "Outcome", "run"]

OLD_SLOTS = (0, 1)
NEW_SLOTS = (2, 3)

FINGERPRINT = """
    SELECT (SELECT row(count(*), sum(hashtextextended(row(seq, flow_id, version, event_id, ts,
            event_type, payload, metadata, chain_hash)::text, 0)::numeric))::text
        FROM event_log WHERE seq <= $1)
    || (SELECT row(count(*), sum(hashtextextended(row(artifact_hash, kind, payload, content,
            media_type, metadata, flow_id, produced_in_seq)::text, 0)::numeric))::text
        FROM workflow_step_artifacts WHERE produced_in_seq <= $1)
    || (SELECT row(count(*), sum(hashtextextended(row(flow_id, step_index, step_id, status,
            attempts, retry_count, fingerprint, started_at, finished_at, error)::text, 0)
            ::numeric))::text
        FROM workflow_step_executions AS step WHERE EXISTS (SELECT 1 FROM event_log AS event
            WHERE event.flow_id = step.flow_id AND event.seq <= $1))
"""
"""Hashes over all columns of the rows that the earlier version stored."""

POLL_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 300.0


class Form(msgspec.Struct, frozen=True):
    """The size of a run: the log's events, and the seconds of writing before and after."""

    revision: str
    events: int
    seconds: float = 3.0


class Outcome(msgspec.Struct):
    """What a run did, and what it found to be wrong."""

    migrations: int
    filled: int
    bytes: int
    migrated: Migrated
    verdict: Verdict
    acknowledged: dict[str, int]
    """By version and time, such as `old, after`: the appends that were acknowledged."""
    longest: dict[str, float]
    """By version and time: the seconds of the longest append, its retries included."""
    findings: list[str]


async def run(directory: Path, seed: int, form: Form, say: Callable[[str], None]) -> Outcome:
    """Fill, migrate under load, and check."""
    tree = check_out_tree(form.revision, say)
    async with embedded_postgres(directory / "server") as url:
        began = time.monotonic()
        await _fill(tree, url, form.events)
        async with connected(url) as connection:
            ((filled, last, size, pending),) = await connection.fetch(
                "SELECT count(*), max(seq), pg_database_size(current_database()),"
                " $1 - (SELECT count(*) FROM schema_migrations) FROM event_log",
                len(known_migrations()),
            )
            say(f"{time.monotonic() - began:6.1f} s: {filled:,} events stored by {form.revision}")
            before = await connection.fetchval(FINGERPRINT, last)
        ledger = Ledger()
        async with _writers(url, seed, directory, ledger, tree) as writers:
            migrated = await _upgrade(url, writers, form.seconds)
            say(
                f"{time.monotonic() - began:6.1f} s: migrated in {migrated.seconds:.2f} s; checking"
            )
            findings = [f"the writer in slot {slot} ended by itself" for slot in writers.dead()]
        async with connected(url) as connection, await open_pool(url) as pool:
            if before != await connection.fetchval(FINGERPRINT, last):
                findings.append("rows that the earlier version stored were lost or changed")
            findings += await _other_findings(connection, PoolProvider(pool))
            verdict = await check(PoolProvider(pool), ledger, after=last)
    findings += [str(finding) for finding in verdict.findings]
    acknowledged, longest = _figures(ledger, migrated)
    findings += [f"no append was acknowledged: {when}" for when, n in acknowledged.items() if not n]
    return Outcome(pending, filled, size, migrated, verdict, acknowledged, longest, findings)


async def _fill(tree: Path, url: str, events: int) -> None:
    """Run fill.py with the library of the checkout, and check that it was that one."""
    paths = [str(tree), *(path for path in sys.path if path)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, Path(__file__).with_name("fill.py"), url, str(events)),
        cwd=tree,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    library = said.decode().strip()
    if process.returncode != 0 or not library.startswith(str(tree)):
        raise RuntimeError(f"fill.py ended with {process.returncode} and used {library!r}")


@asynccontextmanager
async def _writers(
    url: str, seed: int, directory: Path, ledger: Ledger, tree: Path
) -> AsyncIterator[Writers]:
    slots, trees = len(OLD_SLOTS) + len(NEW_SLOTS), dict.fromkeys(OLD_SLOTS, tree)
    writers = Writers((url, url), seed, slots, directory, ledger, trees=trees)
    try:
        yield writers
        await writers.stop()
    finally:
        for slot in writers.dead_or_alive():
            await writers.kill(slot)


async def _upgrade(url: str, writers: Writers, seconds: float) -> Migrated:
    """Start old writers, migrate while they append, start new writers, and let all append."""
    for slot in OLD_SLOTS:
        await writers.start(slot)
    await _until_all_write(writers, OLD_SLOTS)
    await asyncio.sleep(seconds)
    migrating = asyncio.create_task(migrate_observed(url))
    for slot in NEW_SLOTS:
        await writers.start(slot)
    migrated = await migrating
    await _until_all_write(writers, OLD_SLOTS + NEW_SLOTS)
    await asyncio.sleep(seconds)
    return migrated


async def _until_all_write(writers: Writers, slots: tuple[int, ...]) -> None:
    """Wait until each slot got an append acknowledged that began after now."""
    since = time.monotonic()
    while writers.gather().recovered(since, slots) is None:
        if time.monotonic() > since + LONGEST_WAIT_SECONDS or writers.dead():
            raise RuntimeError(f"not all of the writers {slots} append; ended: {writers.dead()}")
        await asyncio.sleep(POLL_SECONDS)


async def _other_findings(connection: Connection, provider: PoolProvider) -> list[str]:
    """Return what is wrong with the schema and the step rows."""
    findings = [
        f"{name} was not validated" for name in await validate_constraints(connection, "public")
    ]
    described = await describe_schema(connection, "public")
    if not SCHEMA_SNAPSHOT.read_text(encoding="utf-8").endswith(described):
        findings.append("the schema is not the one of a new database")
    rebuilt = await PgReadModels(provider).rebuild(Projection.STEP_EXECUTIONS)
    if rebuilt.rebuilt:
        findings.append(f"the step rows of {rebuilt.rebuilt} flows were not those of their events")
    return findings


def _figures(ledger: Ledger, migrated: Migrated) -> tuple[dict[str, int], dict[str, float]]:
    """Return how many appends were acknowledged, and the longest, by version and time."""
    names = [f"old, {when}" for when in TIMES] + ["new, after"]
    acknowledged, longest = dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    for name, began, ended in _calls(ledger, migrated):
        acknowledged[name] = acknowledged.get(name, 0) + 1
        longest[name] = max(longest.get(name, 0.0), ended - began)
    return acknowledged, longest


TIMES = ("before", "meanwhile", "after")


def _calls(ledger: Ledger, migrated: Migrated) -> Iterator[tuple[str, float, float]]:
    for slot, calls in ledger.acknowledged_at.items():
        version = "old" if slot in OLD_SLOTS else "new"
        for began, ended in calls:
            if ended < migrated.began:
                yield f"{version}, before", began, ended
            elif began > migrated.ended:
                yield f"{version}, after", began, ended
            else:
                yield f"{version}, meanwhile", began, ended

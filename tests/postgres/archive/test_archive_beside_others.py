"""Flows are archived while others write, consume, follow, read and verify the log."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    FlowArchived,
    FlowEvent,
    PgEventStore,
    PgFlowRepository,
    PgTransaction,
    PoolProvider,
    StepSignal,
    archive_flows,
    build_pool,
    verify_bundle,
    verify_log,
)
from tests.postgres.archive.test_followers import Follower
from tests.support.archiving import ended_flow
from tests.support.flows.flows import DEFINITION

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BATCH = 50
AHEAD = 4 * BATCH
"""How many flows the writers store at most that are not archived yet."""

WRITERS, CONSUMERS, PARTS, READERS = 12, 3, 8, 4
LEASE = timedelta(seconds=30)
MORE = [StepSignal(0, "acquire", "progress", {"at": number}) for number in range(5)]
WRITTEN = 3 + len(MORE)
"""The events of a flow before its seal."""

EFFECTS = "CREATE TABLE effects (id bigserial, flow_id uuid, version integer)"
"""The table has no key, so that an effect that is stored twice shows."""

EFFECT = "INSERT INTO effects (flow_id, version) VALUES ($1, $2)"
READ_EFFECTS = """
    SELECT flow_id, array_agg(version ORDER BY id) AS versions FROM effects GROUP BY flow_id
"""
READ_LOG = """
    SELECT flow_id, array_agg(version ORDER BY version) AS versions FROM event_log GROUP BY flow_id
"""


class Log:
    """A log of flows that others write, of which the first are archived."""

    def __init__(self, provider: PoolProvider, count: int) -> None:
        self.provider = provider
        self.store = PgEventStore(provider)
        self.flows: list[UUID] = []
        self.is_over = asyncio.Event()
        self.whole = self.archived = 0
        """How many reads gave all of a flow, and how many said that it is archived."""
        self._count = count
        self._repository = PgFlowRepository(provider, snapshot_after=4)
        self._room = asyncio.Semaphore(AHEAD)

    async def write(self, number: int) -> None:
        """Store one flow after another, some artifacts of which others have, too."""
        while not self.is_over.is_set():
            await self._room.acquire()
            number += WRITERS
            values = (number % 7, f"of {number}")
            artifacts = [Artifact.from_payload(kind="Value", payload=value) for value in values]
            self.flows.append(await ended_flow(self.store, artifacts, MORE))

    async def archive(self, directory: Path) -> None:
        """Archive the first flows, and stop all others then."""
        for start in range(0, self._count, BATCH):
            while len(self.flows) < start + BATCH:
                await asyncio.sleep(0.01)
            some = self.flows[start : start + BATCH]
            await archive_flows(self.store, some, directory, actor="Ada", patience=120)
            for _ in some:
                self._room.release()
        self.is_over.set()
        for _ in range(WRITERS):
            self._room.release()

    async def consume(self, events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        rows = [(event.flow_id, event.version) for event in events]
        await transaction.connection.executemany(EFFECT, rows)  # type: ignore[attr-defined]

    async def follow(self, follower: Follower) -> None:
        while not self.is_over.is_set():
            if not await follower.read():
                await asyncio.sleep(0.01)

    async def read(self, random: Random) -> None:
        """Read flows by all ways, the newest and archived ones too."""
        ways: list[Callable[[UUID], Awaitable[int]]] = [self._listed, self._iterated, self._loaded]
        while not self.is_over.is_set():
            if not self.flows:
                await asyncio.sleep(0.01)
                continue
            flow_id = random.choice(self.flows[-2 * AHEAD :])
            try:
                assert await random.choice(ways)(flow_id) in {WRITTEN, WRITTEN + 1}
                self.whole += 1
            except FlowArchived:
                self.archived += 1

    async def _listed(self, flow_id: UUID) -> int:
        return len(await self.store.list(flow_id))

    async def _iterated(self, flow_id: UUID) -> int:
        return len([event async for event in self.store.iterate(flow_id)])

    async def _loaded(self, flow_id: UUID) -> int:
        return (await self._repository.load(flow_id, None, DEFINITION)).version

    async def verify(self) -> None:
        while not self.is_over.is_set():
            assert not (await verify_log(self.provider)).findings


async def archived_beside_others(
    owner: Connection, admin_url: str, directory: Path, count: int
) -> None:
    """Check that nobody sees less than whole flows, or twice the same, and everybody is told."""
    await owner.execute(EFFECTS)
    async with await build_pool(admin_url, max_size=16) as pool:
        log = Log(PoolProvider(pool), count)
        await ended_flow(log.store)
        follower = Follower(log.store, await log.store.position())
        assert not (await verify_log(log.provider)).findings
        consumers = [
            asyncio.create_task(
                log.store.consumer("mirror", parts=PARTS, after_seq=0).run(
                    log.consume, lease=LEASE, poll_interval=0.05
                )
            )
            for _ in range(CONSUMERS)
        ]
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(log.write(number))
            for number in range(READERS):
                group.create_task(log.read(Random(number)))
            group.create_task(log.follow(follower))
            group.create_task(log.verify())
            group.create_task(log.archive(directory))
        for consumer in consumers:
            assert not consumer.done()
            consumer.cancel()
            with suppress(asyncio.CancelledError):
                await consumer
        last = log.store.consumer("mirror", parts=PARTS, after_seq=0)
        await last.run_to_end(log.consume, lease=LEASE)
        assert (await last.status()).lag == 0
        await follower.read_to_end()
        assert not (await verify_log(log.provider)).findings
    gone, there = log.flows[:count], log.flows[count:]
    expected = {flow_id: list(range(WRITTEN + 1)) for flow_id in gone}
    expected |= {flow_id: list(range(WRITTEN)) for flow_id in there}
    effects = {row["flow_id"]: row["versions"] for row in await owner.fetch(READ_EFFECTS)}
    assert {flow_id: effects.get(flow_id) for flow_id in expected} == expected
    left = {row["flow_id"]: row["versions"] for row in await owner.fetch(READ_LOG)}
    assert len(left) == len(there) + 1
    assert {flow_id: left.get(flow_id) for flow_id in there} == {
        flow_id: list(range(WRITTEN)) for flow_id in there
    }
    seen: dict[UUID, list[int]] = {}
    for event in follower.seen:
        seen.setdefault(event.flow_id, []).append(event.version)
    for flow_id, versions in expected.items():
        assert seen.get(flow_id) == versions or flow_id in follower.told
    assert follower.told == list(dict.fromkeys(follower.told))
    assert set(follower.told) <= set(gone)
    assert log.whole > 0
    assert log.archived > 0
    register = await owner.fetch("SELECT flow_id, version, bundle_sha256 FROM archived_flows")
    assert {row["flow_id"] for row in register} == set(gone)
    assert len(register) == count
    assert {row["version"] for row in register} == {WRITTEN + 1}
    bundles = {row["bundle_sha256"] for row in register}
    reports = [verify_bundle(directory / f"{bundle}.zip") for bundle in bundles]
    assert sum(report.flows for report in reports) == count
    assert not any(report.findings for report in reports)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_1000_flows_are_archived_beside_writers_consumers_a_follower_and_readers(
    owner: Connection, admin_url: str, tmp_path: Path
) -> None:
    await archived_beside_others(owner, admin_url, tmp_path, 1_000)

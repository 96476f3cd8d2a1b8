"""An archive that is killed at any step leaves flows whole: in the log, or in a bundle."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StoreUnavailable,
    archive_flows,
    build_pool,
    verify_bundle,
    verify_log,
)
from tests.support.archiving import ended_flow
from tests.support.commands import command_environment
from tests.support.faults.proxy import Fault, Message, Strike, proxied
from tests.support.forks import ForkServer
from tests.support.servers.waiting import until_blocked
from tests.torture.servers.server import Server

pytestmark = pytest.mark.slow

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

FORKED = ForkServer(
    "tests.support.archive_process",
    *("postgresql://nobody@localhost:1/none", str(uuid4()), os.devnull, "0"),
    variables=command_environment(),
)
LARGE = Artifact.from_content(kind="Grid", content=bytes(3_000_000), media_type="x/y")
SMALL = Artifact.from_payload(kind="Value", payload={"n": 1.0})
OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND backend_type = 'client backend'
"""
EVENTS = "SELECT array_agg(version ORDER BY version) FROM event_log WHERE flow_id = $1"
ARTIFACTS = "SELECT count(*) FROM workflow_step_artifacts WHERE flow_id = $1"
REGISTERED = "SELECT version, bundle_sha256 FROM archived_flows WHERE flow_id = $1"
AT_THE_LAST_EVENT = "SELECT FROM event_log WHERE flow_id = $1 AND version = 3 FOR UPDATE"
AT_THE_ARTIFACT = "SELECT FROM workflow_step_artifacts WHERE flow_id = $1 FOR UPDATE"


async def new_flow(store: PgEventStore) -> UUID:
    own = Artifact.from_payload(kind="Value", payload=str(uuid4()))
    made = [own, LARGE, SMALL]
    finished = StepFinished(0, "acquire", tuple(each.hash for each in made), "f" * 64)
    return await ended_flow(store, made, [finished])


async def is_archived(owner: Connection, flow_id: UUID, directory: Path) -> bool:
    """Return whether a flow is archived, after checking that it is whole there, or in the log."""
    versions = await owner.fetchval(EVENTS, flow_id)
    registered = await owner.fetch(REGISTERED, flow_id)
    for bundle in directory.glob("[!.]*.zip"):
        report = verify_bundle(bundle)
        assert (report.findings, report.sha256) == ((), bundle.stem)
    if not registered:
        assert versions in ([0, 1, 2, 3], [0, 1, 2, 3, 4])
        assert await owner.fetchval(ARTIFACTS, flow_id) > 0
        return False
    assert versions is None
    assert await owner.fetchval(ARTIFACTS, flow_id) == 0
    (row,) = registered
    report = verify_bundle(directory / f"{row['bundle_sha256']}.zip")
    assert (report.flows, report.events, report.artifacts) == (1, row["version"], 3)
    return True


async def finish(store: PgEventStore, owner: Connection, flow_id: UUID, directory: Path) -> None:
    """Archive a flow again whose archive was killed, unless it had come to its end."""
    if not await is_archived(owner, flow_id, directory):
        await archive_flows(store, [flow_id], directory, actor="Ada", patience=0)
        assert await is_archived(owner, flow_id, directory)


async def test_its_process_is_killed_at_each_step(
    owner: Connection, admin_url: str, tmp_path: Path
) -> None:
    ends = []
    async with await build_pool(admin_url, max_size=2) as pool:
        keeper = PgEventStore(PoolProvider(pool))
        await ended_flow(keeper, [LARGE, SMALL])  # these stay: another flow uses them
        await keeper.aclose()
    for number in count(1):
        async with await build_pool(admin_url, max_size=2) as pool:
            store = PgEventStore(PoolProvider(pool))
            flow_id = await new_flow(store)
            await store.aclose()
        done = await asyncio.to_thread(
            FORKED.run,
            [admin_url, str(flow_id), str(tmp_path), str(number)],
            variables=command_environment(),
        )
        assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        async with asyncio.timeout(30):  # the server ends what was sent
            while await owner.fetchval(OTHERS):
                await asyncio.sleep(0.01)
        ends.append(await is_archived(owner, flow_id, tmp_path))
        async with await build_pool(admin_url, max_size=2) as pool:
            store = PgEventStore(PoolProvider(pool))
            await finish(store, owner, flow_id, tmp_path)
            if done.returncode == 0:
                assert not (await verify_log(PoolProvider(pool))).findings
                break
    assert len(ends) > 20
    assert ends[-1]
    assert not any(ends[:-2]), "the statement before the last step may have been done"


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "server")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def kill(server: Server) -> None:
    """Kill the postmaster, and all of its processes."""
    postmaster = str(server.postmaster)
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", postmaster], capture_output=True, text=True, check=True
    )
    server.signal(signal.SIGKILL)
    for pid in map(int, listed.stdout.split()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Archives:
    """Matches the call that archives flows, or what says that its transaction is over.

    The call is the message with the actor as a parameter; before it the driver asks for types.
    """

    def __init__(self, *, answered: bool) -> None:
        self._answered = answered
        self._begun = False

    def __call__(self, message: Message) -> bool:
        if message.type == "B" and b"\0\0\0\3Ada" in message.data:
            self._begun = True
            return not self._answered
        return self._begun and message.type == "Z"


async def test_its_server_is_killed_at_each_step(own_server: Server, tmp_path: Path) -> None:
    server, directory = own_server, tmp_path / "bundles"
    directory.mkdir()
    outcomes = []
    steps = ["seal", "read", "call", AT_THE_LAST_EVENT, AT_THE_ARTIFACT, "answer"]
    for step in steps:
        owner = await asyncpg.connect(server.writer_url)
        async with (
            proxied(server.writer_url) as proxy,
            await build_pool(proxy.url, min_size=1, max_size=1) as pool,
        ):
            store = PgEventStore(PoolProvider(pool))
            flow_id = await new_flow(store)
            fault = None
            if step == "seal":
                fault = Fault(
                    Strike.STALL, lambda message: b"chem_persistence.sealed" in message.data
                )
            elif step == "read":
                fault = Fault(Strike.STALL, lambda message: bytes(100_000) in message.data)
            elif step in {"call", "answer"}:
                fault = Fault(Strike.STALL, Archives(answered=step == "answer"))
            else:
                held = owner.transaction()
                await held.start()
                await owner.fetch(step, flow_id)
            if fault is not None:
                proxy.arm(fault)
            archiving = asyncio.create_task(
                archive_flows(store, [flow_id], directory, actor="Ada", patience=0)
            )
            if fault is None:
                watcher = await asyncpg.connect(server.url)
                await until_blocked(watcher)
                await watcher.close()
            else:
                await fault.struck.wait()
            kill(server)
            proxy.lead_to(server.writer_url)  # and what is held back is lost
            with pytest.raises(StoreUnavailable):
                await archiving
        owner.terminate()
        await server.revive()
        owner = await asyncpg.connect(server.writer_url)
        async with await build_pool(server.writer_url, max_size=2) as pool:
            outcomes.append(await is_archived(owner, flow_id, directory))
            store = PgEventStore(PoolProvider(pool))
            await finish(store, owner, flow_id, directory)
            assert not (await verify_log(PoolProvider(pool))).findings
        await owner.close()
    assert outcomes == [False] * (len(steps) - 1) + [True]

"""The run: workers screen molecules on a cluster whose nodes are killed, and the end is compared.

The flow is that of `examples/screen_nci.py`. Three workers are killed and stopped at random, and so
are the nodes of the cluster killed, one at a time; three consumers, which strike themselves, store
an effect for each event. Afterwards the results are compared with those of an undisturbed run in
memory.
"""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

import asyncpg
import msgspec

from chem_persistence import PgEventStore, PoolProvider, StoreError, build_pool
from chem_persistence.postgres.audit.verification import verify_log
from chem_persistence.store.leasing.children import ChildState
from tests.support.screening.results import IN_MEMORY, SUBMIT, results
from tests.torture.consumers.checker import Verdict, check, is_over
from tests.torture.consumers.crew import Crew
from tests.torture.consumers.process import EFFECTS, PARTS
from tests.torture.fleet.workers import Workers
from tests.torture.servers.cluster import COORDINATOR, WORKERS, Cluster

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

__all__ = ["Form", "Outcome", "run"]

EXAMPLES = Path(__file__).parents[3] / "examples"
SCREEN = uuid5(NAMESPACE_URL, "screen")
"""The flow that `SUBMIT` submits."""

CONSUMERS, FLEET = 3, 3
LEASE = 5.0
DISTRIBUTE = "SELECT create_distributed_table('effects', 'flow_id')"
SECONDS_WITHOUT_A_NODE = 1.0
SECONDS_TO_THE_END = 150.0
"""Citus commits for nodes that were killed within a minute; the feed waits for that."""

POLL_SECONDS = 0.2
SAID_EVERY = 25


class Form(msgspec.Struct, frozen=True):
    """How much is screened, and how many seconds pass between two kills of each kind."""

    molecules: int
    seconds_to_a_worker: float
    seconds_to_a_node: float


class Outcome(msgspec.Struct, frozen=True):
    """What a run did, and the result of the checks."""

    verdict: Verdict
    struck: Counter[str]
    seconds: float


async def run(
    directory: Path, seed: int, form: Form, program: str, say: Callable[[str], None]
) -> Outcome:
    """Screen under kills, and check the results, the log and the effects of the consumers."""
    cluster, mended = Cluster(program, directory / "server"), directory / "mended"
    mended.touch()  # no event is poison here
    try:
        await cluster.start()
        url = cluster.writer_url
        async with await build_pool(url) as pool:
            await pool.execute(EFFECTS)
            await pool.execute(DISTRIBUTE)
        crew = Crew(url, directory, mended)
        workers = Workers(url, directory, "nci.flow:SCREEN", lease=LEASE, PYTHONPATH=str(EXAMPLES))
        try:
            await crew.start("consume", CONSUMERS)
            for _ in range(FLEET):
                await workers.start()
            await workers.until_all_serve()
            struck, seconds = await _screen(
                cluster, workers, crew, _Strikes(Random(f"{seed}/screening"), form, say)
            )
            async with await build_pool(url, max_size=3) as pool:
                verdict = await _checked(pool, crew, form)
            await workers.end()
        finally:
            await workers.kill_all()
            await crew.end("consume")
    finally:
        await cluster.stop()
    verdict.findings += [*crew.unexpected, *workers.unexpected]
    return Outcome(verdict, struck + crew.struck, seconds)


class _Strikes(msgspec.Struct, frozen=True):
    dice: Random
    form: Form
    say: Callable[[str], None]


async def _screen(
    cluster: Cluster, workers: Workers, crew: Crew, strikes: _Strikes
) -> tuple[Counter[str], float]:
    """Submit the screen, and strike until it is over; return the faults, and the seconds."""
    clock = asyncio.get_running_loop().time
    began, struck, over = clock(), Counter[str](), asyncio.Event()
    while (await _program("-c", SUBMIT, strikes.form.molecules, cluster.writer_url))[0] != 0:
        await asyncio.sleep(POLL_SECONDS)
    striking = [
        asyncio.create_task(_strike_nodes(cluster, crew, strikes, struck, over)),
        asyncio.create_task(_strike_workers(workers, strikes, struck, over)),
    ]
    try:
        await _until_completed(cluster.writer_url, strikes.say)
    finally:
        over.set()
        await asyncio.gather(*striking)
    return struck, clock() - began


async def _until_completed(url: str, say: Callable[[str], None]) -> None:
    """Wait until the screen has completed, whatever becomes of the connections."""
    children = "SELECT count(DISTINCT flow_id) FROM event_log WHERE event_type = 'flowcompleted'"
    said = 0
    while True:
        with suppress(StoreError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            async with await build_pool(url, max_size=1) as pool:
                store = PgEventStore(PoolProvider(pool))
                while (state := (await store.child_states([SCREEN]))[SCREEN]) is ChildState.RUNNING:
                    done = await pool.fetchval(children)
                    if done >= said + SAID_EVERY:
                        said = done
                        say(f"{said} molecules")
                    await asyncio.sleep(POLL_SECONDS)
                if state is ChildState.COMPLETED:
                    return
                last = (await store.list(SCREEN))[-1]
                raise AssertionError(f"the screen is {state}: {last}")
        await asyncio.sleep(POLL_SECONDS)


async def _program(*arguments: object) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def _strike_nodes(
    cluster: Cluster, crew: Crew, strikes: _Strikes, struck: Counter[str], over: asyncio.Event
) -> None:
    """Kill a node each some seconds, and start it again; continue consumers that are stopped."""
    while not await _is_over(over, strikes.form.seconds_to_a_node):
        node = strikes.dice.choice((COORDINATOR, *WORKERS))
        struck[f"kill of node {node}"] += 1
        await cluster.kill(node)
        await asyncio.sleep(SECONDS_WITHOUT_A_NODE)
        await cluster.revive()
        crew.go_on()


async def _strike_workers(
    workers: Workers, strikes: _Strikes, struck: Counter[str], over: asyncio.Event
) -> None:
    """Kill or stop a worker each some seconds."""
    while not await _is_over(over, strikes.form.seconds_to_a_worker):
        if workers.up:
            number = strikes.dice.choice(workers.up)
            if strikes.dice.random() < 0.3 and not workers.stopped:
                struck[f"{signal.SIGSTOP.name} of a worker"] += 1
                workers.stop_for(number, LEASE * strikes.dice.uniform(1.2, 2.0))
            else:
                struck[f"{signal.SIGKILL.name} of a worker"] += 1
                workers.kill(number)
    workers.go_on()


async def _is_over(over: asyncio.Event, seconds: float) -> bool:
    """Wait for the end, so many seconds at most; return whether it came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await over.wait()
    return False


async def _checked(pool: "Pool", crew: Crew, form: Form) -> Verdict:
    async with asyncio.timeout(SECONDS_TO_THE_END):
        while not await is_over(pool):
            await asyncio.sleep(POLL_SECONDS)
            crew.go_on()
    await crew.end("consume")
    provider = PoolProvider(pool)
    verdict = await check(pool, PARTS)
    verdict.findings += map(str, (await verify_log(provider)).findings)
    code, undisturbed = await _program("-c", IN_MEMORY, form.molecules)
    if code != 0 or await results(provider) != undisturbed:
        verdict.findings.append(f"the results differ from those in memory: {undisturbed[:200]}")
    return verdict

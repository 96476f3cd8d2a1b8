"""The run: the example screens molecules on a cluster whose nodes are killed, and is compared.

Three workers of `examples/screen_nci.py` are killed at random, and so are the nodes of the cluster;
three consumers, which strike themselves, store an effect for each event. The program ends when it
loses the coordinator, and is run again, as its user would. Afterwards its results are compared with
those of an undisturbed run in memory.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from chem_persistence import PoolProvider, build_pool
from chem_persistence.postgres.audit.verification import verify_log
from tests.support.screening.results import IN_MEMORY, results
from tests.torture.consumers.checker import Verdict, check, is_over
from tests.torture.consumers.crew import Crew
from tests.torture.consumers.process import EFFECTS, PARTS
from tests.torture.servers.cluster import COORDINATOR, WORKERS, Cluster

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

__all__ = ["Form", "Outcome", "run"]

EXAMPLES = Path(__file__).parents[3] / "examples"
SCREENING = EXAMPLES / "screen_nci.py"

CONSUMERS = 3
DISTRIBUTE = "SELECT create_distributed_table('effects', 'flow_id')"
SECONDS_WITHOUT_A_NODE = 1.0
SECONDS_TO_THE_END = 150.0
"""Citus commits for nodes that were killed within a minute; the feed waits for that."""

POLL_SECONDS = 0.1


class Form(msgspec.Struct, frozen=True):
    """How much is screened, and how many seconds pass between two kills of each kind."""

    molecules: int
    seconds_to_a_worker: float
    seconds_to_a_node: float


class Outcome(msgspec.Struct):
    """What a run did, and the result of the checks."""

    verdict: Verdict
    struck: Counter[str]
    runs: int
    report: str


async def run(
    directory: Path, seed: int, form: Form, program: str, say: Callable[[str], None]
) -> Outcome:
    """Screen under kills, and check the results, the log and the effects of the consumers."""
    cluster = Cluster(program, directory / "server")
    mended = directory / "mended"
    mended.touch()  # no event is poison here
    try:
        await cluster.start()
        async with await build_pool(cluster.writer_url) as pool:
            await pool.execute(EFFECTS)
            await pool.execute(DISTRIBUTE)
        crew = Crew(cluster.writer_url, directory, mended)
        try:
            await crew.start("consume", CONSUMERS)
            screened = await _screen(cluster, crew, Random(f"{seed}/screening"), form, say)
            async with await build_pool(cluster.writer_url, max_size=3) as pool:
                outcome = await _checked(pool, crew, form, screened)
        finally:
            await crew.end("consume")
    finally:
        await cluster.stop()
    outcome.verdict.findings += crew.unexpected
    return outcome


class _Screened(msgspec.Struct):
    """What the program printed at its end, and how often it was run."""

    report: str
    runs: int
    struck: Counter[str]
    over: asyncio.Event


async def _screen(
    cluster: Cluster, crew: Crew, dice: Random, form: Form, say: Callable[[str], None]
) -> _Screened:
    """Run the program until it reports all molecules, while nodes are killed."""
    screened = _Screened("", 0, Counter(), asyncio.Event())
    striking = asyncio.create_task(_strike(cluster, crew, dice, form, screened))
    try:
        while True:
            screened.runs += 1
            code, printed = await _program(
                *(SCREENING, "--limit", form.molecules, "--workers", 3),
                *("--kill-every", form.seconds_to_a_worker, "--database-url", cluster.writer_url),
            )
            if code == 0:
                screened.report = printed
                return screened
            _, found, error = printed.rpartition("error: the database is unavailable: ")
            say(f"run {screened.runs} ended with {code}: {error.strip()[:200]}")
            if not found:
                raise AssertionError(printed)
            await asyncio.sleep(POLL_SECONDS)
    finally:
        screened.over.set()
        await striking


async def _program(*arguments: object) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES), "COLUMNS": "200"},
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    return process.returncode or 0, printed.decode()


async def _strike(
    cluster: Cluster,
    crew: Crew,
    dice: Random,
    form: Form,
    screened: _Screened,
) -> None:
    """Kill a node each some seconds, and start it again; continue consumers that are stopped."""
    while not screened.over.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(form.seconds_to_a_node):
                await screened.over.wait()
                return
        node = dice.choice((COORDINATOR, *WORKERS))
        screened.struck[f"kill of node {node}"] += 1
        await cluster.kill(node)
        await asyncio.sleep(SECONDS_WITHOUT_A_NODE)
        await cluster.revive()
        crew.go_on()


async def _checked(pool: "Pool", crew: Crew, form: Form, screened: _Screened) -> Outcome:
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
    return Outcome(verdict, screened.struck + crew.struck, screened.runs, screened.report)

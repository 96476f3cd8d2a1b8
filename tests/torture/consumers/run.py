"""The run: writers and consumers are struck under load; then what is parked is mended and released.

Four processes of four writers append, a tenth of it in transactions that pause before their COMMIT;
three processes consume eight parts. Processes are killed, and consumers stopped, also inside their
transactions; in the middle the server is restarted at once. On a Citus cluster the effects are
distributed by flow, so that a consumer's transaction involves several nodes, and a node is killed
instead.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from chem_persistence import PgEventStore, PoolProvider, build_pool
from chem_persistence.postgres.audit.verification import verify_log
from tests.torture.consumers.checker import Verdict, check, count_beyond_parked, is_over
from tests.torture.consumers.crew import Crew
from tests.torture.consumers.process import EFFECTS, NAME, PARTS
from tests.torture.servers.cluster import COORDINATOR, WORKERS, Cluster
from tests.torture.servers.server import SETTINGS, Server

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

__all__ = ["Form", "Outcome", "run"]

WRITING, CONSUMING = 4, 3
"""How many processes there are of each role."""

DISTRIBUTE = "SELECT create_distributed_table('effects', 'flow_id')"
SECONDS_WITHOUT_A_NODE = 1.0

EVERY_SECONDS = 0.25
SECONDS_TO_THE_END = 150.0
"""Citus commits for nodes that were killed within a minute; the feed waits for that."""

POLL_SECONDS = 0.1

KILL_WRITER, KILL_CONSUMER, STOP_CONSUMER, GO_ON = 0.15, 0.3, 0.1, 0.3
"""The chances of each fault, each `EVERY_SECONDS`."""


class Form(msgspec.Struct, frozen=True):
    """The length of a run, and how often the server is restarted."""

    seconds: float
    restarts: int = 1


class Outcome(msgspec.Struct, frozen=True):
    """What a run did, and the result of the checker."""

    verdict: Verdict
    struck: dict[str, int]
    parked: int
    released: int
    seconds_to_the_end: float


async def run(
    directory: Path,
    seed: int,
    form: Form,
    say: Callable[[str], None],
    *,
    cluster: str | None = None,
) -> Outcome:
    """Strike writers and consumers, and check the effects when all should be consumed.

    `cluster` is the program that starts and kills a Citus cluster, which is then the server.
    """
    mended = directory / "mended"
    async with _server(directory, cluster) as server:
        crew = Crew(server.writer_url, directory, mended)
        try:
            await crew.start("write", WRITING)
            await crew.start("consume", CONSUMING)
            await _strike(server, crew, Random(f"{seed}/consumers"), form)
            await crew.end("write")
            crew.go_on()
            async with await build_pool(server.writer_url, max_size=3) as pool:
                say("no more faults of others: waiting for the end")
                seconds = await _until_over(pool, crew)
                findings, parked = await _parked(pool)
                mended.touch()
                released = await _release(pool, crew, Random(f"{seed}/released"))
                await crew.end("consume")
                verdict = await check(pool, PARTS)
                verified = await verify_log(PoolProvider(pool))
        finally:
            for role in ("write", "consume"):
                await crew.end(role)
    verdict.findings += [*findings, *crew.unexpected, *map(str, verified.findings)]
    return Outcome(verdict, dict(crew.struck), parked, released, seconds)


@asynccontextmanager
async def _server(directory: Path, cluster: str | None) -> AsyncIterator[Server]:
    if cluster is not None:
        server: Server = Cluster(cluster, directory / "server")
    else:
        server = Server(directory / "server", SETTINGS | {"max_connections": "120"})
    try:
        await server.start()
        async with await build_pool(server.writer_url) as pool:  # creates the schema
            await pool.execute(EFFECTS)
            if cluster is not None:
                await pool.execute(DISTRIBUTE)
        yield server
    finally:
        await server.stop()


async def _strike(server: Server, crew: Crew, dice: Random, form: Form) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    restarts = [form.seconds * (n + 1) / (form.restarts + 1) for n in range(form.restarts)]
    faults = (
        (KILL_WRITER, "write", signal.SIGKILL),
        (KILL_CONSUMER, "consume", signal.SIGKILL),
        (STOP_CONSUMER, "consume", signal.SIGSTOP),
    )
    while (passed := clock() - began) < form.seconds:
        await asyncio.sleep(EVERY_SECONDS)
        for chance, role, what in faults:
            if dice.random() < chance:
                crew.strike(role, dice.randrange(CONSUMING * WRITING), what)
        if dice.random() < GO_ON:
            crew.go_on()
        if restarts and passed > restarts[0]:
            restarts.pop(0)
            await _restart(server, crew, dice)


async def _restart(server: Server, crew: Crew, dice: Random) -> None:
    """Restart the server at once, or kill a node of the cluster and start it again."""
    if isinstance(server, Cluster):
        node = dice.choice((COORDINATOR, *WORKERS))
        crew.struck[f"kill of node {node}"] += 1
        await server.kill(node)
        await asyncio.sleep(SECONDS_WITHOUT_A_NODE)
    else:
        crew.struck["immediate restart"] += 1
        server.signal(signal.SIGQUIT)
    await server.revive()


async def _until_over(pool: "Pool", crew: Crew) -> float:
    """Wait until everything is consumed that is not parked; return after how many seconds."""
    clock = asyncio.get_running_loop().time
    began = clock()
    with suppress(TimeoutError):  # what is left then is for the checker
        async with asyncio.timeout(SECONDS_TO_THE_END):
            while not await is_over(pool):
                await asyncio.sleep(POLL_SECONDS)
                crew.go_on()  # consumers stop themselves
    return clock() - began


async def _parked(pool: "Pool") -> tuple[list[str], int]:
    """Count the parked flows, and return what is wrong with them."""
    beyond = await count_beyond_parked(pool)
    status = await PgEventStore(PoolProvider(pool)).consumer(NAME).status()
    findings = [f"{beyond} effects of parked flows after the parked event"] if beyond else []
    return findings, len(status.parked)


async def _release(pool: "Pool", crew: Crew, dice: Random) -> int:
    """Release what is parked, under further kills, until nothing is; return how many releases."""
    consumer = PgEventStore(PoolProvider(pool)).consumer(NAME)
    released, round_ = 0, 0
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS_TO_THE_END):
            while parked := (await consumer.status()).parked:
                for each in parked:
                    if not each.is_released:
                        await consumer.release(each.flow_id)
                        released += 1
                await asyncio.sleep(POLL_SECONDS)
                crew.go_on()
                round_ += 1
                if round_ % 5 == 0 and round_ < 50:
                    crew.strike("consume", dice.randrange(CONSUMING), signal.SIGKILL)
    await _until_over(pool, crew)
    return released

"""The run: one fault after another under load, each followed by the recovery of all writers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import asyncpg
import msgspec

from chem_persistence import PoolProvider, build_pool
from tests.support.faults.proxy import proxied
from tests.support.servers.roles import as_user
from tests.torture.arena import Arena, Fault, NotStruck
from tests.torture.checker.answer_check import Cause
from tests.torture.checker.check import Verdict, check
from tests.torture.checker.ledger import Ledger
from tests.torture.faults.cluster import CLUSTER_FAULTS
from tests.torture.faults.schedule import FAULTS, schedule
from tests.torture.servers.cluster import Cluster, NoStandby
from tests.torture.servers.server import WRITER, Server
from tests.torture.servers.standby import Standby
from tests.torture.subscriber import Subscriber
from tests.torture.writers.records import now
from tests.torture.writers.writers import Writers

__all__ = ["Outcome", "Window", "run"]

SLOTS = 4
GAP_SECONDS = (0.0, 0.1)
HOLD_SECONDS = (0.1, 0.6)
RECOVERY_SECONDS = 60.0
FEELING_SECONDS = 10.0
POLL_SECONDS = 0.02
LINGERING_SECONDS = 1.0
"""Seconds for which a task may still fail after each writer has recovered, on other connections."""


class Window(msgspec.Struct):
    """One injection: when its obstacle was `lifted`, and how many seconds the recovery took."""

    fault: str
    began: float
    lifted: float
    recovered: float | None = None
    states: frozenset[str] = frozenset()
    """The SQLSTATEs with which appends may fail because of it."""

    def cause(self) -> Cause:
        """Return what the checker needs: the time, and the SQLSTATEs that the fault may cause."""
        recovered = RECOVERY_SECONDS if self.recovered is None else self.recovered
        return Cause(self.began, self.lifted + recovered + LINGERING_SECONDS, self.states)


class Outcome(msgspec.Struct):
    """What a run did, and the result of the checker."""

    windows: list[Window]
    not_struck: list[str]
    notes: list[str]
    ledger: Ledger
    verdict: Verdict
    refusals: dict[str, int]
    seconds: float


async def run(
    directory: Path,
    seed: int,
    minutes: float,
    only: str | None,
    say: Callable[[str], None],
    *,
    cluster: str | None = None,
) -> Outcome:
    """Inject faults for this many minutes, then check.

    `cluster` is the program that starts and kills a Citus cluster, which is then the server.
    """
    ledger = Ledger()
    windows: list[Window] = []
    not_struck: list[Window] = []
    faults = FAULTS if cluster is None else CLUSTER_FAULTS
    async with _arena(directory, seed, ledger, cluster) as arena:
        began = now()
        await _until_served(arena, Window("the start", began, began))
        for fault, dice in schedule(seed, only, faults):
            if now() > began + 60 * minutes:
                break
            await asyncio.sleep(dice.uniform(*GAP_SECONDS))
            if fault.possible():
                await _inject(arena, fault, dice, windows, not_struck)
            await _replace_dead(arena)
            if len(windows) % 50 == 49:
                say(f"{now() - began:6.0f} s: {len(windows)} faults, {len(ledger.appends)} appends")
        await _see_late_recoveries(arena, windows)
        await arena.writers.stop()
        if not await arena.standby.catches_up(arena.server):
            ledger.unexpected.append("the standby did not get all that the server has")
        say(
            f"{now() - began:6.0f} s: {len(windows)} faults, "
            f"{len(ledger.appends)} appends; checking"
        )
        refusals = dict(arena.refusals())
        async with await build_pool(arena.server.url) as pool:
            causes = [window.cause() for window in (*windows, *not_struck)]
            verdict = await check(PoolProvider(pool), ledger, causes)
        verdict.findings += await arena.subscriber.compare()
        verdict.followed = arena.subscriber.seen
        return Outcome(
            windows,
            [window.fault for window in not_struck],
            arena.writers.notes,
            ledger,
            verdict,
            refusals,
            now() - began,
        )


@asynccontextmanager
async def _arena(
    directory: Path, seed: int, ledger: Ledger, cluster: str | None
) -> AsyncIterator[Arena]:
    server, standby = Server(directory / "server"), Standby(directory / "standby")
    if cluster is not None:
        server, standby = Cluster(cluster, directory / "server"), NoStandby(directory / "standby")
    try:
        await server.start()
        await standby.start(server)
        await (await build_pool(server.writer_url)).close()  # creates the schema
        async with proxied(server.url) as proxy:
            urls = (server.writer_url, as_user(proxy.url, WRITER, "unused"))
            writers = Writers(urls, seed, SLOTS, directory, ledger)
            try:
                for slot in writers.slots:
                    await writers.start(slot)
                subscriber = Subscriber(server.url)
                following = asyncio.create_task(subscriber.follow())
                try:
                    yield Arena(server, standby, proxy, writers, subscriber)
                finally:
                    following.cancel()
            finally:
                for slot in writers.dead_or_alive():
                    await writers.kill(slot)
    finally:
        await standby.stop()
        await server.stop()


async def _inject(
    arena: Arena, fault: Fault, dice: Random, windows: list[Window], not_struck: list[Window]
) -> None:
    began = now()
    before = arena.refusals()[fault.felt or ""]
    try:
        async with fault.struck(arena, dice):
            struck = now()
            await asyncio.sleep(dice.uniform(*HOLD_SECONDS) if fault.lasts else 0)
            await _until_felt(arena, fault, before)
    except (NotStruck, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        arena.writers.note(f"{fault.name}: {error!r}")
        await arena.server.calm()
        not_struck.append(Window(fault.name, began, now(), states=fault.states))
        return
    window = Window(fault.name, began, now() if fault.lasts else struck, states=fault.states)
    await _until_served(arena, window)
    windows.append(window)


async def _until_felt(arena: Arena, fault: Fault, before: int) -> None:
    """Hold the fault until the server has refused something because of it."""
    deadline = now() + FEELING_SECONDS
    while fault.felt is not None and arena.refusals()[fault.felt] == before:
        if now() > deadline:
            raise NotStruck
        await asyncio.sleep(POLL_SECONDS)


async def _until_served(arena: Arena, window: Window) -> None:
    """Wait until each writer got an append acknowledged that began after the fault."""
    deadline = now() + RECOVERY_SECONDS
    while now() < deadline:
        window.recovered = arena.writers.gather().recovered(window.lifted, arena.writers.slots)
        if window.recovered is not None:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _see_late_recoveries(arena: Arena, windows: Sequence[Window]) -> None:
    """Wait once more for writers that did not recover in time: one that never does is a finding."""
    for window in windows:
        if window.recovered is None:
            again = msgspec.structs.replace(window)
            await _until_served(arena, again)
            if again.recovered is None:
                reason = f"a writer never recovered from: {window.fault}"
                arena.writers.gather().unexpected.append(reason)


async def _replace_dead(arena: Arena) -> None:
    for slot in arena.writers.dead():
        arena.writers.gather().unexpected.append(f"the writer in slot {slot} ended by itself")
        await arena.writers.start(slot)

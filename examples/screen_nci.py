"""Screen molecules of the NCI for drug-likeness: one durable flow, with a child per molecule.

    python examples/screen_nci.py --limit 12
    python examples/screen_nci.py --limit 1000 --workers 3 --kill-every 5
    python examples/screen_nci.py --smiles my.smi --retry-failed
    python examples/screen_nci.py --limit 12 --broken-rules 2

The flow reads the library, runs a flow for each molecule, many at once, ranks them, and reports.
Each molecule is parsed, standardised, described, embedded in three dimensions and judged. Stop the
program, or kill it, and run it again: finished molecules are not computed again, failed ones are
reported from the log, and interrupted ones continue where they were. A screen that was completed is
a new flow the next time: it takes all results over, and computes nothing. With another number of
--broken-rules, a parameter of the last step of each molecule, only that step is computed. Two runs
over the same molecules print the same screen fingerprint, whatever happened to them.

Everything runs in this process, or in --workers processes, of which --kill-every kills one at
random each so many seconds. The molecules are the 4,999 of the NCI that come with RDKit, or those
of a file with a SMILES and a name on each line. The log is in the database of --database-url or
DATABASE_URL, else on an embedded server in --data.
"""

import argparse
import asyncio
import logging
import math
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports, too; RDKit's would crash

from database import open_server
from nci.fleet import Fleet, WorkerEnded
from nci.flow import MAP, judging, read_molecules, screening
from nci.molecules import Library, Molecule, Summary
from nci.outcomes import read_logs, read_outcomes, repeated_runs
from nci.progression import Progression
from nci.report import Report
from nci.steps import JudgeParams
from rdkit import RDConfig
from rich.console import Console

from chem_persistence import (
    ChemPersistenceError,
    Flow,
    FlowAlreadyCompleted,
    FlowClient,
    FlowEngine,
    FlowEvent,
    FlowHasFailed,
    FlowIsRunning,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepFinished,
    StepRaised,
    build_pool,
    content_hash,
)

NCI = Path(RDConfig.RDDataDir, "NCI", "first_5K.smi")
FLOWS = UUID("6f0e7d54-3c0b-5b8e-9d0c-5d1f2f7c8a41")  # the namespace of this program's flow ids
MOST_CONNECTIONS = 10  # RDKit takes longer than the database, so a few serve many flows
SECONDS_BETWEEN_LOOKS = 0.25
LOOKED_AT = 200  # molecules that are next; more than are under way at once

WORDS = """\
what the words above mean:
  finished, failed    molecules whose flow reached its last step, and whose flow one step stopped:
                      now in this run, before in an earlier one and not computed again
  events, artifacts   what the log has of the molecules' flows, and their different contents
  steps computed      steps of molecules that ran; taken over: with the result of an equal one
  step runs repeated  runs that were cut off, by a kill for example, and begun again
  drug-like           breaks at most so many of Lipinski's rules as allowed, and none of Veber's;
                      indented below it: how many molecules break each rule
  screen fingerprint  a SHA-256 over all results: equal in every run over these molecules"""


class Screen:
    """The screen of one library: it is submitted, run, watched and reported."""

    def __init__(
        self, provider: PoolProvider, library: Library, label: str, params: JudgeParams
    ) -> None:
        self.store = PgEventStore(provider)
        self.repository = PgFlowRepository(provider)
        self.client = FlowClient(self.store, self.repository)
        self.molecules = list(read_molecules(library))
        self.flow_id = uuid5(FLOWS, content_hash(library))
        self.origin = self.flow_id  # the run whose children are the flows of the molecules
        self.children = self._children_of(self.flow_id)
        self._molecule = judging(params)
        self._library = library
        self._label = label

    async def choose_run(self, *, retry_failed: bool) -> None:
        """Go on with the run that is not completed, or begin one; to retry, take the last one."""
        number, before = 1, self.flow_id
        while (await self.store.child_states([self.flow_id])).get(self.flow_id) == "completed":
            number, before = number + 1, self.flow_id
            self.flow_id = uuid5(FLOWS, f"{content_hash(self._library)}/{number}")
        if retry_failed and not await self.store.list(self.flow_id, limit=1):
            self.flow_id = before
        await self.find_children()

    async def find_children(self) -> None:
        """Find the flows of the molecules: those of the run from which the map was taken over."""
        self.origin = (await self._taken_over()).get(MAP, self.flow_id)
        self.children = self._children_of(self.origin)

    async def said_of_reuse(self) -> str:
        """Return what the run has taken over from earlier ones, as a sentence; empty if nothing."""
        origins = await self._taken_over()
        if not origins:
            return ""
        flows = ", ".join(sorted({str(flow_id) for flow_id in origins.values()}))
        steps = len(self._flow().steps)
        what = "nothing was computed: all" if len(origins) == steps else f"{len(origins)} of"
        return f"{what} {steps} steps of the screen were taken over from flow {flows}"

    async def _taken_over(self) -> dict[int, UUID]:
        """Return the flows from which steps of the run were taken over, by the steps' indexes."""
        facts = [event.kind for event in await self.store.list(self.flow_id)]
        finished = [fact for fact in facts if isinstance(fact, StepFinished)]
        return {fact.step_index: fact.reused_from.flow_id for fact in finished if fact.reused_from}

    def children_of_first_run(self) -> dict[UUID, Molecule]:
        """Return the molecules by the flows of the first run over this library."""
        return self._children_of(uuid5(FLOWS, content_hash(self._library)))

    def _children_of(self, flow_id: UUID) -> dict[UUID, Molecule]:
        """Return the molecules by their flows; a child's id follows from its parent's."""
        return {
            uuid5(flow_id, f"{MAP}/{item}"): molecule
            for item, molecule in enumerate(self.molecules)
        }

    def _flow(self, at_once: int = 100) -> Flow[Library, Summary]:
        return screening(at_once, self._molecule)

    async def submit(self, *, retry_failed: bool) -> list[UUID]:
        """Submit the screen, unless it was; return the molecules that are run again.

        Those are retried by themselves: a screen that has tolerated them goes on without them.
        """
        await self.client.submit(
            self._flow(), self._library, flow_id=self.flow_id, label=self._label
        )
        if not retry_failed:
            return []
        flow_ids = [self.flow_id, *self.children]
        states = await self.store.child_states(flow_ids)
        failed = [flow_id for flow_id in flow_ids if states.get(flow_id) == "failed"]
        for flow_id in failed:
            await self.client.retry(flow_id, reason="asked for by --retry-failed")
        return [flow_id for flow_id in failed if flow_id in self.children]

    async def run(self, at_once: int, again: Sequence[UUID]) -> None:
        """Run what is left in this process, so many molecules at once."""
        engine = FlowEngine(self.store, self.repository, self._flow(at_once))
        await _run_to_end(engine, self.flow_id)
        molecule, left = FlowEngine(self.store, self.repository, self._molecule), iter(again)

        async def work() -> None:
            for flow_id in left:  # shared: each task takes the next when it is free
                with suppress(StepRaised, FlowHasFailed):  # reported from the log
                    await _run_to_end(molecule, flow_id)

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def wait(self, again: Sequence[UUID]) -> None:
        """Wait until workers have run what is left."""
        await self.client.result(self._flow(), self.flow_id)
        for flow_id in again:
            await self.client.wait(flow_id)

    async def watch(self, progression: Progression) -> None:
        """Show how many molecules have ended, until the task is cancelled."""
        left = list(self.children)
        while True:
            states = await self.store.child_states(left[:LOOKED_AT])
            ended = {flow_id for flow_id, state in states.items() if state != "running"}
            left = [flow_id for flow_id in left if flow_id not in ended]
            progression.reach(len(self.children) - len(left))
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    async def report(self, seen: dict[UUID, list[FlowEvent]]) -> Report:
        """Return what is in the log; `seen` has the events that were there before this run."""
        report = Report()
        await self.find_children()
        definition = self._molecule.definition
        for outcome in await read_outcomes(
            self.store, self.repository, definition, self.children, seen
        ):
            report.add(outcome)
        report.counts["repeated"] += repeated_runs(await self.store.list(self.origin))
        return report


async def _run_to_end(engine: FlowEngine[Any], flow_id: UUID) -> None:
    """Run a flow to its end; one that another program holds, or held when it died, is waited for.

    Raises what `FlowEngine.run_to_end` raises but `FlowIsRunning` and `FlowAlreadyCompleted`.
    """
    while True:
        try:
            await engine.run_to_end(flow_id)
        except FlowIsRunning:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        except FlowAlreadyCompleted:
            return
        else:
            return


async def screen_all(library: Library, options: argparse.Namespace, console: Console) -> None:
    """Run the screen until all molecules are done, and print the report."""
    connections = min(options.concurrency, MOST_CONNECTIONS)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(
            open_server(options.database_url, directory=options.data)
        )
        pool = await stack.enter_async_context(await build_pool(url, max_size=connections))
        params = JudgeParams(options.broken_rules)
        screen = Screen(PoolProvider(pool), library, options.smiles.name, params)
        await screen.choose_run(retry_failed=options.retry_failed)
        progression = Progression(console, len(screen.children))
        began = time.monotonic()
        seen = await _events_before(screen)
        with progression.bar:
            killed = await _run_beside(screen, progression, url, options)
            progression.reach(len(screen.children))
        report = await screen.report(seen)
        seconds, reuse = time.monotonic() - began, await screen.said_of_reuse()
    if killed is not None:
        report.counts["killed"] = killed
    report.show(console, seconds)
    print("screen fingerprint", report.fingerprint())
    if reuse:
        print(reuse)
    print(WORDS)


async def _events_before(screen: Screen) -> dict[UUID, list[FlowEvent]]:
    """Return the events that flows of the molecules have, those of the first run as well."""
    first = screen.children_of_first_run()
    flow_ids = list({**first, **screen.children})
    return {flow: log async for flow, log in read_logs(screen.store, flow_ids) if log}


async def _run_beside(
    screen: Screen, progression: Progression, url: str, options: argparse.Namespace
) -> int | None:
    """Run the screen while its progress is shown; return how many workers were killed."""
    fleet: Fleet | None = None
    async with asyncio.TaskGroup() as group:
        again = await screen.submit(retry_failed=options.retry_failed)
        beside = [group.create_task(screen.watch(progression))]
        if options.workers is None:
            await screen.run(options.concurrency, again)
        else:
            at_once = math.ceil(options.concurrency / options.workers)
            fleet = Fleet(url, size=options.workers, at_once=at_once)
            beside.append(group.create_task(fleet.run()))
            if options.kill_every is not None:
                beside.append(group.create_task(fleet.kill_every(options.kill_every)))
            await screen.wait(again)
        for task in beside:
            task.cancel()
    return None if fleet is None else fleet.killed


async def run(library: Library, options: argparse.Namespace) -> int:
    """Screen until the end or a signal; return the exit code."""
    working = asyncio.create_task(screen_all(library, options, Console()))
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if not caught:  # once: what runs is then left in order, which takes a moment
            working.cancel()
        caught.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await working
    except asyncio.CancelledError:
        if not caught:
            raise
        print(
            f"stopped by {caught[0].name}; what was done is stored: run the same command to go on"
        )
        return 128 + caught[0]
    return 0


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--smiles", type=Path, default=NCI, help="a file of SMILES and names (default: the NCI's)"
    )
    parser.add_argument("--limit", type=_count, help="how many molecules (default: all)")
    parser.add_argument(
        "--database-url", help="where the log is (default: DATABASE_URL, else an embedded server)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data", "screen_nci"), help="the embedded server's data"
    )
    parser.add_argument(
        "--concurrency", type=_count, default=16, help="molecules at once (default: 16)"
    )
    parser.add_argument(
        "--workers", type=_count, help="run in so many worker processes (default: in this one)"
    )
    parser.add_argument(
        "--kill-every", type=_seconds, help="kill a worker at random each so many seconds"
    )
    parser.add_argument("--retry-failed", action="store_true", help="run failed molecules again")
    parser.add_argument(
        "--broken-rules",
        type=int,
        default=JudgeParams().broken_rules,
        help="how many of Lipinski's rules a drug-like molecule may break (default: 1)",
    )
    options = parser.parse_args()
    if options.workers is not None and options.broken_rules != JudgeParams().broken_rules:
        parser.error("--broken-rules: the workers serve the screen of nci/flow.py as it is there")
    if options.kill_every is not None and options.workers is None:
        parser.error("--kill-every kills workers: say how many with --workers")
    return options


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def main() -> int:
    """Run the screen; a molecule that fails is a result, a database that fails is an error."""
    logging.basicConfig(level=logging.CRITICAL)  # the libraries' warnings become one line below
    options = read_options()
    code = 1
    try:
        text = options.smiles.read_text(encoding="utf-8", errors="backslashreplace")
        code = asyncio.run(run(Library(text, options.limit), options))
    except* (ChemPersistenceError, WorkerEnded) as errors:
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        print(f"error: {error}", file=sys.stderr)
    except* OSError as errors:
        print(f"error: {errors.exceptions[0]}", file=sys.stderr)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the work is over: no traceback either
    return code


if __name__ == "__main__":
    sys.exit(main())

# With --limit 12; dots stand for what differs from run to run, or from one RDKit to the next.
# Output:
# 2/12 molecules
# 4/12 molecules
# 6/12 molecules
# 8/12 molecules
# 10/12 molecules
# 12/12 molecules
# screen
# molecules                              12
# finished now                           12
# finished before                         0
# failed now                              0
# failed before                           0
# events                                144
# events appended now                   144
# artifacts                              70
# steps computed now                     60
# results taken over                      0
# step runs repeated                      0
# seconds                               ...
# flows a second                        ...
# events a second                       ...
# verdict                         molecules
# drug-like                              12
#   logP above 5                          2
# screen fingerprint ...
# what the words above mean:
#   finished, failed    molecules whose flow reached its last step, and whose flow one step stopped:
#                       now in this run, before in an earlier one and not computed again
#   events, artifacts   what the log has of the molecules' flows, and their different contents
#   steps computed      steps of molecules that ran; taken over: with the result of an equal one
#   step runs repeated  runs that were cut off, by a kill for example, and begun again
#   drug-like           breaks at most so many of Lipinski's rules as allowed, and none of Veber's;
#                       indented below it: how many molecules break each rule
#   screen fingerprint  a SHA-256 over all results: equal in every run over these molecules

"""Screen molecules of the NCI for drug-likeness: one durable flow per molecule, many at once.

    python examples/screen_nci.py --limit 12
    python examples/screen_nci.py --smiles my.smi --retry-failed

Each molecule is parsed, standardised, described, embedded in three dimensions and judged. Stop the
program, or kill it, and run it again: finished molecules are not computed again, failed ones are
reported from the log, and interrupted ones continue where they were. Two runs over the same
molecules print the same screen fingerprint, whatever happened to them.

The molecules are the 4,999 of the NCI that come with RDKit, or those of a file with a SMILES and a
name on each line. The log is in the database of --database-url or DATABASE_URL, else on an embedded
server in --data.
"""

import argparse
import logging
import math
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid5

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports, too; RDKit's would crash

import anyio
import msgspec
from database import open_database
from nci_molecules import Molecule, Verdict
from nci_report import Failure, Outcome, Report
from nci_steps import AcquireStep, DescribeStep, EmbedParams, EmbedStep, JudgeStep, StandardiseStep
from rdkit import RDConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chem_persistence import (
    ChemPersistenceError,
    ConnectionProvider,
    FlowCompleted,
    FlowEngine,
    FlowEvent,
    FlowInstance,
    PgEventStore,
    PgFlowRepository,
    StepRaised,
    StepStatus,
)

NCI = Path(RDConfig.RDDataDir, "NCI", "first_5K.smi")
FLOWS = UUID("6f0e7d54-3c0b-5b8e-9d0c-5d1f2f7c8a41")  # the namespace of this program's flow ids
MOST_CONNECTIONS = 10  # RDKit takes longer than the database, so a few serve many flows

WORDS = """\
what the words above mean:
  finished, failed    flows that reached their last step, and flows that one step stopped:
                      now in this run, before in an earlier one and not computed again
  events, artifacts   what the log has of these flows, and their different contents
  drug-like           breaks at most one of Lipinski's rules and none of Veber's;
                      indented below it: how many molecules break each rule
  screen fingerprint  a SHA-256 over all results: equal in every run over these molecules"""


class Screen:
    """Runs the flow of each molecule as far as possible, and reports its state."""

    def __init__(self, provider: ConnectionProvider, *, retry_failed: bool) -> None:
        self._store = PgEventStore(provider)
        self._repository = PgFlowRepository(provider)
        self._retry_failed = retry_failed
        self._engine = (
            FlowEngine.builder(self._store, self._repository)
            .first_step(AcquireStep())
            .add_step(StandardiseStep())
            .add_step(DescribeStep())
            .add_step(EmbedStep(EmbedParams()))
            .add_step(JudgeStep())
            .build()
        )

    async def bring_on(self, molecule: Molecule) -> Outcome:
        """Run the flow of a molecule, unless it is completed or has failed."""
        flow_id = uuid5(FLOWS, f"{molecule.name}\n{molecule.smiles}")
        events = await self._store.list(flow_id)
        instance = await self._repository.load(flow_id, events, self._engine.definition)
        seen = len(events)
        failed = _failure(instance) is not None
        if failed and self._retry_failed:
            await self._engine.schedule_retry(flow_id, reason="asked for by --retry-failed")
        if not instance.completed and (self._retry_failed or not failed):
            with suppress(StepRaised):  # reported from the log
                await self._engine.run_to_end(flow_id, molecule)
            events += await self._store.list(flow_id, after_version=seen - 1)
            instance = await self._repository.load(flow_id, events, self._engine.definition)
        return await self._outcome(molecule, instance, events, len(events) - seen)

    async def _outcome(
        self, molecule: Molecule, instance: FlowInstance, events: list[FlowEvent], new_events: int
    ) -> Outcome:
        last = events[-1].kind
        verdict = None
        if isinstance(last, FlowCompleted):
            result = await self._store.get_artifact(instance.steps[-1].outputs[0])
            verdict = msgspec.convert(result.payload, Verdict)
        hashes = {output for slot in instance.steps for output in slot.outputs}
        return Outcome(
            key=f"{molecule.name}\t{molecule.smiles}",
            name=molecule.name,
            events=len(events),
            new_events=new_events,
            artifacts=frozenset(hashes | {instance.input} if instance.input else hashes),
            fingerprint=last.flow_fingerprint if isinstance(last, FlowCompleted) else None,
            verdict=verdict,
            failure=_failure(instance),
        )


def _failure(instance: FlowInstance) -> Failure | None:
    for slot in instance.steps:
        if slot.status is StepStatus.FAILED and slot.error is not None:
            return Failure(
                slot.step_id, slot.error.error_class.rpartition(".")[2], slot.error.message
            )
    return None


class Progression:
    """Shows the number of finished molecules: a bar on a terminal, else a line per tenth."""

    def __init__(self, console: Console, total: int) -> None:
        self._every = math.ceil(total / 10)
        self._total = total
        self._done = 0
        columns = (
            TextColumn("screening"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self.bar.add_task("screening", total=total)

    def step(self) -> None:
        """Count one more."""
        self._done += 1
        self.bar.advance(self._task)
        if self.bar.disable and (self._done % self._every == 0 or self._done == self._total):
            print(f"{self._done}/{self._total} molecules", flush=True)


async def screen_all(
    molecules: list[Molecule], options: argparse.Namespace, console: Console
) -> None:
    """Run `--concurrency` flows at once until all molecules are done, and print the report."""
    report = Report()
    connections = min(options.concurrency, MOST_CONNECTIONS)
    async with open_database(
        options.database_url, directory=options.data, connections=connections
    ) as provider:
        screen = Screen(provider, retry_failed=options.retry_failed)
        progression = Progression(console, len(molecules))
        began = time.monotonic()
        waiting = iter(molecules)

        async def work() -> None:
            for molecule in waiting:  # shared: each worker takes the next when it is free
                report.add(await screen.bring_on(molecule))
                progression.step()

        with progression.bar:
            async with anyio.create_task_group() as workers:
                for _ in range(options.concurrency):
                    workers.start_soon(work)
        seconds = time.monotonic() - began
    report.show(console, seconds)
    print("screen fingerprint", report.fingerprint())
    print(WORDS)


async def run(molecules: list[Molecule], options: argparse.Namespace) -> int:
    """Screen until the end or a signal; return the exit code."""
    console = Console()
    caught: list[signal.Signals] = []

    async def stop_on_signal(
        signals: AsyncIterator[signal.Signals], work: anyio.CancelScope
    ) -> None:
        async for number in signals:
            caught.append(number)
            work.cancel()

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as work:
                group.start_soon(stop_on_signal, signals, work)
                await screen_all(molecules, options, console)
            group.cancel_scope.cancel()
    if work.cancelled_caught:
        print(
            f"stopped by {caught[0].name}; what was done is stored: run the same command to go on"
        )
        return 128 + caught[0]
    return 0


def read_molecules(path: Path, limit: int | None) -> Iterator[Molecule]:
    """Yield a molecule per line of SMILES and name; one without a name gets its line number."""
    seen = set()
    with path.open(encoding="utf-8", errors="backslashreplace") as lines:
        for number, line in enumerate(lines, start=1):
            smiles, _, name = line.strip().partition("\t" if "\t" in line else " ")
            molecule = Molecule(name.strip() or f"line {number}", smiles)
            if smiles and molecule not in seen:
                seen.add(molecule)
                yield molecule
            if limit is not None and len(seen) == limit:
                return


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
        "--concurrency", type=_count, default=16, help="flows at once (default: 16)"
    )
    parser.add_argument("--retry-failed", action="store_true", help="run failed molecules again")
    return parser.parse_args()


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def main() -> int:
    """Run the screen; a molecule that fails is a result, a database that fails is an error."""
    logging.basicConfig(level=logging.CRITICAL)  # the libraries' warnings become one line below
    options = read_options()
    code = 1
    try:
        molecules = list(read_molecules(options.smiles, options.limit))
        code = anyio.run(run, molecules, options)
    except* ChemPersistenceError as errors:
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
# seconds                               ...
# flows a second                        ...
# events a second                       ...
# verdict                         molecules
# drug-like                              12
#   logP above 5                          2
# screen fingerprint ...
# what the words above mean:
#   finished, failed    flows that reached their last step, and flows that one step stopped:
#                       now in this run, before in an earlier one and not computed again
#   events, artifacts   what the log has of these flows, and their different contents
#   drug-like           breaks at most one of Lipinski's rules and none of Veber's;
#                       indented below it: how many molecules break each rule
#   screen fingerprint  a SHA-256 over all results: equal in every run over these molecules

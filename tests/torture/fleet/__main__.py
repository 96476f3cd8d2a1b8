"""Strike a fleet of workers for some minutes, and check that each flow ran to its end, once.

    python -m tests.torture.fleet [--minutes M] [--workers W] [--flows N] [--restarts R]
        [--seed S] [--keep]

Each second a worker is killed and replaced, or stopped for longer than its lease; in between the
server is restarted at once. The exit status is 0 if the checker found nothing.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.torture.__main__ import say
from tests.torture.fleet.run import Form, Outcome, run

LONGEST_END_MINUTES = 10
FLOWS_A_MINUTE = 500
MOST_FINDINGS = 5
"""How many findings of each flaw are printed."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.fleet")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--flows", type=int, help=f"{FLOWS_A_MINUTE} a minute by default")
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true", help="keep what the workers printed")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    flows = arguments.flows or max(1, round(FLOWS_A_MINUTE * arguments.minutes))
    form = Form(arguments.workers, flows, 60 * arguments.minutes, arguments.restarts)
    say(f"seed {seed}, {form.workers} workers, {form.flows} flows, {form.seconds:g} s")
    directory = Path(tempfile.mkdtemp(prefix="fleet-"))
    try:
        outcome = asyncio.run(_bounded(directory, seed, form))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    finally:
        if arguments.keep:
            say(f"kept in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    for line in report(outcome):
        say(line)
    return 1 if outcome.verdict.findings else 0


async def _bounded(directory: Path, seed: int, form: Form) -> Outcome:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with asyncio.timeout(form.seconds + 60 * LONGEST_END_MINUTES):
        return await run(directory, seed, form, say)


def report(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of the report."""
    verdict, form = outcome.verdict, outcome.form
    struck = Counter(fault.name for fault in outcome.struck)
    yield "faults: " + ", ".join(f"{count} x {name}" for name, count in sorted(struck.items()))
    yield f"flows completed: {verdict.completed} of {form.flows}, in {outcome.seconds:.0f} s"
    yield f"events: {verdict.events}"
    yield (
        f"step runs: {verdict.runs}, of which {verdict.repeated} repeated another; with all that "
        f"may be in flight at a fault, at most {verdict.most_runs}"
    )
    yield (
        f"repeated, and no fault struck the process between the two runs: {verdict.unexplained} "
        "(the lease was lost before the first one, or was renewed too late)"
    )
    findings = verdict.findings
    for flaw in sorted(verdict.flaws()):
        found = [finding for finding in findings if finding.flaw is flaw]
        yield from map(str, found[:MOST_FINDINGS])
    yield f"{len(findings)} findings" if findings else "Nothing is wrong."


if __name__ == "__main__":
    sys.exit(main())

"""Screen molecules on a Citus cluster whose nodes are killed, and compare with an undisturbed run.

    python -m tests.torture.screening --cluster PROGRAM [--molecules N] [--worker-seconds S]
        [--node-seconds S] [--seed N] [--keep]

The exit status is 0 if the results are those of a run in memory, the log is intact, and each event
has its effect once.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.torture.__main__ import say
from tests.torture.screening.run import Form, Outcome, run

LONGEST_SECONDS = 3_000.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.screening")
    parser.add_argument("--cluster", metavar="PROGRAM", required=True, help="servers/cluster.py")
    parser.add_argument("--molecules", type=int, default=1_000)
    parser.add_argument("--worker-seconds", type=float, default=10.0)
    parser.add_argument("--node-seconds", type=float, default=15.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true", help="keep what the processes printed")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    form = Form(arguments.molecules, arguments.worker_seconds, arguments.node_seconds)
    say(f"seed {seed}, {form.molecules} molecules")
    directory = Path(tempfile.mkdtemp(prefix="screening-"))
    try:
        outcome = asyncio.run(_bounded(directory, seed, form, arguments.cluster))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    finally:
        if arguments.keep:
            say(f"kept in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return _report(outcome)


async def _bounded(directory: Path, seed: int, form: Form, program: str) -> Outcome:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with asyncio.timeout(LONGEST_SECONDS):
        return await run(directory, seed, form, program, say)


def _report(outcome: Outcome) -> int:
    counted, findings = outcome.verdict.counted, outcome.verdict.findings
    say(f"screened in {outcome.seconds:.0f} s")
    say("faults: " + ", ".join(f"{n} x {name}" for name, n in sorted(outcome.struck.items())))
    say(f"events: {counted['events']}, effects: {counted['effects']}")
    for finding in findings:
        say(finding)
    say(f"{len(findings)} findings" if findings else "Nothing is wrong.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

"""Strike durable consumers for some minutes, and check that each event has its effect, once.

    python -m tests.torture.consumers [--minutes M] [--restarts R] [--seed S] [--keep]
        [--cluster PROGRAM]

The exit status is 0 if the checker found nothing.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.torture.__main__ import say
from tests.torture.consumers.run import Form, Outcome, run

LONGEST_END_MINUTES = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.consumers")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--restarts", type=int, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true", help="keep what the processes printed")
    parser.add_argument("--cluster", metavar="PROGRAM", help="see servers/cluster.py")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    form = Form(60 * arguments.minutes, arguments.restarts)
    say(f"seed {seed}, {form.seconds:g} s")
    directory = Path(tempfile.mkdtemp(prefix="consumers-"))
    try:
        outcome = asyncio.run(_bounded(directory, seed, form, arguments.cluster))
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


async def _bounded(directory: Path, seed: int, form: Form, cluster: str | None) -> Outcome:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with asyncio.timeout(form.seconds + 60 * LONGEST_END_MINUTES):
        return await run(directory, seed, form, say, cluster=cluster)


def report(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of the report."""
    counted, findings = outcome.verdict.counted, outcome.verdict.findings
    yield "faults: " + ", ".join(f"{n} x {name}" for name, n in sorted(outcome.struck.items()))
    yield f"events: {counted['events']}, effects: {counted['effects']}"
    yield (
        f"lost: {counted['lost']}, doubled: {counted['doubled']}, "
        f"out of order: {counted['out_of_order']}"
    )
    yield f"parts: {counted['parts']}, processes that have consumed: {counted['processes']}"
    yield f"parked: {outcome.parked} flows, released {outcome.released} times"
    yield f"lag 0 after {outcome.seconds_to_the_end:.1f} s"
    yield from findings
    yield f"{len(findings)} findings" if findings else "Nothing is wrong."


if __name__ == "__main__":
    sys.exit(main())

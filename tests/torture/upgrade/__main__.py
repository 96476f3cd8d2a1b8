"""Migrate a log of an earlier version while writers of both versions append to it.

    python -m tests.torture.upgrade --from REVISION [--events N] [--seconds S] [--seed N] [--keep]

The revision is checked out below build/against, and its writers run with the packages of this
environment. They fill a log of N events; then two old writers append, and go on while this version
migrates the log and two new writers start. The exit status is 0 if every acknowledged append is in
the log once, none was refused, every row from before is unchanged, and the schema is that of a new
database.
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
from tests.torture.upgrade.run import Form, Outcome, run

LONGEST_MINUTES = 60
MOST_FINDINGS = 20
SHORTEST_STATEMENT = 0.01
LONGEST_TEXT = 90


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.upgrade")
    parser.add_argument("--from", dest="revision", required=True, help="the earlier version")
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of writing, before and after")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", action="store_true", help="keep the records and the server")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    say(f"seed {seed}, {arguments.events:,} events of {arguments.revision}")
    directory = Path(tempfile.mkdtemp(prefix="upgrade-"))
    form = Form(arguments.revision, arguments.events, arguments.seconds)
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
    return 1 if outcome.findings else 0


async def _bounded(directory: Path, seed: int, form: Form) -> Outcome:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with asyncio.timeout(60 * LONGEST_MINUTES):
        return await run(directory, seed, form, say)


def report(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of the report."""
    migrated = outcome.migrated
    yield (
        f"{outcome.migrations} migrations of {outcome.filled:,} events "
        f"({outcome.bytes / 2**20:,.0f} MiB) in {migrated.seconds:.2f} s"
    )
    for seconds, statement in migrated.statements:
        if seconds >= SHORTEST_STATEMENT:
            yield f"  {seconds:8.3f} s  {statement[:LONGEST_TEXT]}"
    for (table, mode), seconds in sorted(migrated.locks.items()):
        yield f"  locked {seconds:8.3f} s  {table} in {mode}"
    for when, number in outcome.acknowledged.items():
        longest = 1_000 * outcome.longest[when]
        yield f"{when}: {number:,} appends acknowledged, the longest took {longest:,.0f} ms"
    yield f"checked: {outcome.verdict.flows:,} flows of writers, {outcome.verdict.events:,} events"
    yield from outcome.findings[:MOST_FINDINGS]
    yield f"{len(outcome.findings)} findings" if outcome.findings else "Nothing is wrong."


if __name__ == "__main__":
    sys.exit(main())

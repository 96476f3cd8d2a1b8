"""Inject faults into writers and a server for some minutes, and check that the log is intact.

    python -m tests.torture --minutes M [--seed N] [--only FAULT] [--keep] [--cluster PROGRAM]

The seed is printed first; the same seed gives the same faults in the same order, and the same load.
The exit status is 1 if the checker found something, or a writer never recovered from a fault. It is
3 if nothing is wrong, but not everything was shown: a fault was never injected, or a writer
recovered too late, as on a machine that has much else to do. Otherwise it is 0.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.torture.faults.cluster import CLUSTER_FAULTS
from tests.torture.faults.schedule import FAULTS
from tests.torture.report import exit_status, not_shown, report
from tests.torture.run import Outcome, run
from tests.torture.servers.small_disk import unshare_mounts

LONGEST_CHECK_MINUTES = 30
SECONDS_A_FAULT = 3.0
"""In a run shorter than this times the number of faults, some may not be injected."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", help="a part of the names of the faults to inject")
    parser.add_argument(
        "--keep", action="store_true", help="keep the writers' records and the server's data"
    )
    parser.add_argument(
        "--cluster",
        metavar="PROGRAM",
        help="torture a Citus cluster that this program starts and kills: see servers/cluster.py",
    )
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    faults = FAULTS if arguments.cluster is None else CLUSTER_FAULTS
    wanted = [fault for fault in faults if arguments.only is None or arguments.only in fault.name]
    if not wanted:
        parser.error("no such fault; there are: " + "; ".join(fault.name for fault in faults))
    say(f"seed {seed}, {arguments.minutes:g} minutes, {len(wanted)} kinds of fault")
    unshare_mounts()
    directory = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        outcome = asyncio.run(_bounded(directory, seed, arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    finally:
        if arguments.keep:
            say(f"kept in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    names = [fault.name for fault in wanted if fault.possible()]
    long_enough = arguments.minutes * 60 >= SECONDS_A_FAULT * len(wanted)
    missing = not_shown(outcome, names, long_enough=long_enough)
    impossible = [fault.name for fault in wanted if not fault.possible()]
    say(report(outcome, names, impossible, missing))
    return exit_status(outcome, missing)


async def _bounded(directory: Path, seed: int, arguments: argparse.Namespace) -> Outcome:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with asyncio.timeout(60 * (arguments.minutes + LONGEST_CHECK_MINUTES)):
        return await run(
            directory, seed, arguments.minutes, arguments.only, say, cluster=arguments.cluster
        )


def say(line: str) -> None:
    with suppress(BrokenPipeError):
        print(line, file=sys.stdout, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())

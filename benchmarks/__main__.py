"""Measure the library, its floors and its peers, and print every goal with the measured value.

python -m benchmarks [--quick] [--only append peers workers reads growth imports]
                     [canonical instructions] [--rounds N] [--results DIRECTORY]
python -m benchmarks --against REVISION [--quick] [--rounds N]
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

import msgspec

from benchmarks.against.checkout import check_out
from benchmarks.against.compare import comparison, measured_against
from benchmarks.plan import FULL, PARTS, QUICK, Plan
from benchmarks.report.report import Report
from benchmarks.report.summary import summary
from benchmarks.run import Run

_RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "--quick", action="store_true", help="short slices and few rounds: about four minutes"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to run")
    parser.add_argument("--rounds", type=int, help="rounds of every part")
    parser.add_argument("--seconds", type=float, help="length of a slice")
    parser.add_argument(
        "--against", metavar="REVISION", help="compare with an earlier commit, and do nothing else"
    )
    parser.add_argument(
        "--results", type=Path, default=_RESULTS, help="where results.json is written"
    )
    arguments = parser.parse_args()
    plan = _plan(arguments)
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:5.0f} s  {line}", file=sys.stderr, flush=True)

    directory = Path(tempfile.mkdtemp(prefix="chem-benchmarks-"))
    other = check_out(arguments.against, say) if arguments.against else None
    try:
        if other is None:
            report = asyncio.run(_measured(Run(plan, command, directory, say).report()))
        else:
            report = asyncio.run(_measured(measured_against(other, plan, command, directory, say)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("stopped: nothing is written")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "results.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(report))
    )
    text = summary(report) if other is None else comparison(report, other)
    (arguments.results / "summary.txt").write_text(text + "\n", encoding="utf-8")
    print(text)


async def _measured(running: Awaitable[Report]) -> Report:
    """Measure; if this process is ended, its server and competitors end with it."""
    this = asyncio.current_task()
    assert this is not None  # noqa: S101  # a coroutine runs in one
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    return await running


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = msgspec.structs.replace(QUICK if arguments.quick else FULL, parts=arguments.only)
    if arguments.rounds is not None:
        rounds = dict.fromkeys(
            (
                "rounds",
                "growth_rounds",
                "read_rounds",
                "line_rounds",
                "import_rounds",
                "encoding_rounds",
            ),
            arguments.rounds,
        )
        plan = msgspec.structs.replace(plan, **rounds)
    if arguments.seconds is not None:
        plan = msgspec.structs.replace(
            plan, seconds=arguments.seconds, growth_seconds=arguments.seconds
        )
    return plan


if __name__ == "__main__":
    main()

"""Build a grown log, or ask one.

python -m benchmarks.grown_log build DIRECTORY [--flows 1000000]
python -m benchmarks.grown_log ask DIRECTORY [--times 4] [--only TEXT] [--cold]
"""

import argparse
import asyncio
from pathlib import Path

from benchmarks.grown_log.ask import ask, forget_pages
from benchmarks.grown_log.build import build
from chem_persistence import embedded_postgres


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grown_log")
    parser.add_argument("action", choices=("build", "ask"))
    parser.add_argument("directory", type=Path, help="that of the embedded server, which is kept")
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument(
        "--times", type=int, default=4, help="how often each question is asked again"
    )
    parser.add_argument("--only", default="", help="only questions with this text")
    parser.add_argument(
        "--cold", action="store_true", help="forget the files first, with the server stopped"
    )
    arguments = parser.parse_args()
    if arguments.action == "build":
        asyncio.run(_build(arguments.directory, arguments.flows))
        return
    if arguments.cold:
        forget_pages(arguments.directory)
    asyncio.run(ask(arguments.directory, arguments.times, arguments.only))


async def _build(directory: Path, flows: int) -> None:
    async with embedded_postgres(directory) as url:
        print(f"{flows:,} flows in {await build(url, flows):.0f} s")


if __name__ == "__main__":
    main()

"""The process of one competitor: it reads loads from standard input and answers with slices.

A load is one line of JSON.

Every competitor runs on uvloop, the peers included, except the one that shows uvloop's effect.
"""

import asyncio
import os
import sys
from typing import TextIO

import msgspec
import uvloop

from benchmarks.contestants.competitors import COMPETITORS, load_competitor
from benchmarks.contestants.load import Load

__all__ = ["READY"]

READY = "ready"


async def _serve(name: str, url: str, answers: TextIO) -> None:
    competitor = load_competitor(name)
    await competitor.open(url)
    print(READY, file=answers, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        done = await competitor.run(msgspec.json.decode(line, type=Load))
        print(msgspec.json.encode(done).decode(), file=answers, flush=True)
    await competitor.close()


def main() -> None:
    """Serve until standard input ends; whatever a competitor prints goes to standard error."""
    name, url = sys.argv[1:]
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        run = asyncio.run if COMPETITORS[name].own_loop else uvloop.run
        run(_serve(name, url, answers))


if __name__ == "__main__":
    main()

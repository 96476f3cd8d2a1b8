"""A process that is a worker, whose steps a test holds by its standard input.

        python -m tests.support.faults.fleet URL [--hold STEP] [--block STEP] [--die STEP]
            [--how exit|signal|memory] [--uses STEP] [--silence SECONDS] [--lease SECONDS]
            [--grace SECONDS] [--stall SECONDS]

Each run of a step is printed as `run STEP ATTEMPT`. Steps that are held print `holding`, and then
wait for one line, which ends the hold of all flows; one that blocks does so without letting the
event loop go on; one that dies ends the process, or runs out of memory at its first attempt; one
that uses something takes a gpu. Steps of which heartbeats are wanted call none. Warnings of the
library are printed as well.
"""

import argparse
import asyncio
import logging
import os
import resource
import select
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from chem_persistence import (
    Flow,
    Many,
    PgEventStore,
    PoolProvider,
    RetryPolicy,
    Step,
    StepContext,
    Worker,
    build_pool,
    flow,
)
from tests.support.forks import ForkedProcess, ForkServer
from tests.support.leases.families import List, Sum
from tests.support.leases.staff import Number, chain

__all__ = [
    "CRASHES",
    "FLEET_STEPS",
    "FLOW",
    "Process",
    "fleet_family",
    "fleet_flow",
    "fleet_worker",
]

FLEET_STEPS = ("one", "two", "three")
CRASHES = 2
REPOSITORY = Path(__file__).resolve().parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
FORKED = ForkServer(
    "tests.support.faults.fleet", "postgresql://nobody@localhost:1/none", variables=ENVIRONMENT
)


class Act(Step[Number, Number]):
    """Count up; before that, do as the arguments say."""

    retry = RetryPolicy(crashes=CRASHES)

    def __init__(self, id: str, arguments: argparse.Namespace | None = None) -> None:  # noqa: A002
        self.id = id
        self.arguments = arguments or argparse.Namespace(
            hold=None, block=None, die=None, how="exit", uses=None, silence=None
        )
        if self.arguments.silence is not None:
            self.heartbeat_timeout = timedelta(seconds=self.arguments.silence)
        self.uses = {"gpu": 1} if id == self.arguments.uses else {}

    def _has_died(self, context: StepContext) -> bool:
        return self.arguments.how == "memory" and context.attempt > 1

    async def run(self, number: Number, context: StepContext) -> Number:
        print("run", self.id, context.attempt, flush=True)  # noqa: T201  # a test reads it
        if self.id == self.arguments.die and not self._has_died(context):
            DEATHS[self.arguments.how]()
        if self.id == self.arguments.block:
            print("holding", flush=True)  # noqa: T201
            while not select.select([sys.stdin], [], [], 0.02)[0]:
                pass  # a read would not be interrupted by a signal that came just before it
            sys.stdin.readline()
        if self.id == self.arguments.hold:
            print("holding", flush=True)  # noqa: T201
            await asyncio.shield(line_of_input())  # a flow that is dropped ends only its own wait
        return Number(number.n + 1)


def _run_out_of_memory() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**30, before[1]))
    try:
        print(len([bytes(2**28) for _ in range(8)]))  # noqa: T201
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


DEATHS: dict[str, Callable[[], object]] = {
    "exit": lambda: os._exit(7),
    "signal": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "memory": _run_out_of_memory,
}


@cache
def line_of_input() -> asyncio.Future[bytes]:
    """Return the task that reads the one line that ends all holds."""
    return asyncio.ensure_future(_read_line())


async def _read_line() -> bytes:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return await reader.readline()


def fleet_flow(arguments: argparse.Namespace | None = None) -> Flow[Any, Any]:
    """Return the flow that all these workers serve."""
    return chain(*(Act(step_id, arguments) for step_id in FLEET_STEPS))


def fleet_family(arguments: argparse.Namespace | None = None) -> Flow[Number, Number]:
    """Return the flow that runs that flow for each number below its own, and adds up the results.

    All these workers serve it as well.
    """
    listed: Flow[Number, Many[Number]] = flow("family", List())
    return listed.map(fleet_flow(arguments)).then(Sum())


FLOW = fleet_flow()
"""The flow under a name that a command can find."""


async def work(arguments: argparse.Namespace) -> None:
    async with await build_pool(arguments.url, max_size=4) as pool:
        worker = Worker(
            PgEventStore(PoolProvider(pool)),
            [fleet_family(arguments)],
            lease=timedelta(seconds=arguments.lease),
            grace=timedelta(seconds=arguments.grace),
            stall=timedelta(seconds=arguments.stall),
            poll_interval=0.02,
        )
        await worker.run()
    print("stopped", flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    for name in ("--hold", "--block", "--die", "--uses"):
        parser.add_argument(name)
    parser.add_argument("--how", choices=DEATHS, default="exit")
    parser.add_argument("--silence", type=float)
    for name, default in (("--lease", 3600.0), ("--grace", 20.0), ("--stall", 300.0)):
        parser.add_argument(name, type=float, default=default)
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
    asyncio.run(work(parser.parse_args()))


class Process:
    """A process that runs this program."""

    def __init__(self, process: ForkedProcess) -> None:
        self._process = process
        self.pid = process.pid
        self.send_signal = process.send_signal
        self.kill = process.kill
        self.lines: list[str] = []

    async def line(self, beginning: str) -> str:
        """Wait for a line that begins like this."""
        while line := (await self._process.stdout.readline()).decode():
            self.lines.append(line.strip())
            if line.startswith(beginning):
                return line.strip()
        raise AssertionError(f"no line began with {beginning!r}: {self.lines}")

    async def go_on(self) -> None:
        """Continue the step that is held."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    async def end(self) -> int:
        """Wait for the end of the process, and return its exit status."""
        rest = (await self._process.stdout.read()).decode()
        self.lines += rest.splitlines()
        return await self._process.wait()


@asynccontextmanager
async def fleet_worker(url: str, *options: str) -> AsyncIterator[Process]:
    """Start a worker; kill it at the end if it still runs."""
    process = await FORKED.process([url, *options], variables=ENVIRONMENT, stdin=True, stderr=False)
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


if __name__ == "__main__":
    main()

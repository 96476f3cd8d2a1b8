"""pgbench, PostgreSQL's load generator: a prepared INSERT of the same columns per transaction."""

import asyncio
import os
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from benchmarks.contestants.cpu import server_cpu_seconds
from benchmarks.contestants.load import Load, Slice
from benchmarks.data.history import ROWS_OF_TEN, conformer
from benchmarks.data.statements import sql_path

__all__ = ["run_pgbench"]

_THREADS = "2"


class PgbenchFailed(Exception):
    """pgbench ended with an error, or its output has an unknown form."""


async def run_pgbench(program: Path, url: str, script: str, load: Load) -> Slice:
    """Run a script of `sql/` with one client per flow, for whole seconds after connecting."""
    seconds = max(1, round(load.seconds))
    arguments = [
        *("--no-vacuum", "--protocol=prepared", f"--file={sql_path(script)}"),
        *(
            f"--client={load.flows}",
            f"--jobs={min(int(_THREADS), load.flows)}",
            f"--time={seconds}",
        ),
        *(f"--define={name}={value}" for name, value in _variables().items()),
    ]
    place = urlsplit(url)
    environment = os.environ | {"PGHOST": parse_qs(place.query)["host"][0], "PGUSER": "postgres"}
    before = server_cpu_seconds(load.server), _children_cpu()
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        place.path.lstrip("/"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    after = server_cpu_seconds(load.server), _children_cpu()
    if process.returncode != 0:
        raise PgbenchFailed(errors.decode().strip())
    said = output.decode()
    events, rate, latency = (
        float(_found(pattern, said))
        for pattern in (
            r"actually processed: (\d+)",
            r"tps = ([\d.]+)",
            r"latency average = ([\d.]+) ms",
        )
    )
    return Slice(
        events=int(events),
        seconds=events / rate,
        server_cpu=after[0] - before[0],
        client_cpu=after[1] - before[1],
        p50=latency / 1000,  # the mean: pgbench prints no percentiles
        p99=None,
    )


def _variables() -> Mapping[str, str]:
    (_, started), (_, finished) = ROWS_OF_TEN[1:3]
    artifact = msgspec.json.encode(conformer(0)).decode()
    return {
        "version": "0",
        "started": started,
        "finished": finished,
        "artifact": artifact,
        "chain_hash": "\\x" + "00" * 32,
    }


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _found(pattern: str, output: str) -> str:
    found = re.search(pattern, output)
    if found is None:
        raise PgbenchFailed(output)
    return found.group(1)

"""Time what people ask of a grown log: commands, as processes, and pages of the explorer."""

import asyncio
import os
import re
import resource
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.grown_log.build import flow_id_of
from benchmarks.grown_log.shapes import CONFORMERS, RARE_DEFINITION
from chem_persistence import FlowState, embedded_postgres

__all__ = ["ask", "forget_pages"]

_RARE = RARE_DEFINITION.definition_hash
_COMMON = CONFORMERS.definition_hash
_LABEL = "molecule-0000777"
_STATES = tuple(FlowState)

COMMANDS = (
    "--version",
    "status",
    "doctor",
    "flows",
    *(f"flows --state {state}" for state in _STATES),
    "flows --roots",
    "flows --label molecule-00",
    f"flows --label {_LABEL}",
    "flows --label molecule-00 --state failed",
    f"flows --definition {_RARE}",
    f"flows --definition {_RARE[:12]}",
    f"flows --definition {_RARE} --state failed",
    f"flows --definition {_COMMON} --state running",
    "flows --step screen",
    "flows --step rare_step",
    "flows --step no_such_step",
    "flows --error RareError",
    "flows --error ConnectionError",
    "flows --error NoSuchError",
    f"flows --before {flow_id_of(500_777)}",
    f"show {flow_id_of(700_777)}",
    f"show {flow_id_of(700_000)}",
    "results conformers --limit 20",
    f"results {flow_id_of(5_000)} --limit 20",
    "waiting",
    "workers",
    "stats",
    "stats --reuse",
    "consumers",
    "artifact list",
)
PAGES = (
    "/",
    *(f"/?state={state}" for state in _STATES),
    "/?children=shown",
    f"/?definition={_RARE[:8]}",
    f"/?label={_LABEL[:-2]}",
    "/?began=2020-01-01T00:00",
    f"/?before={flow_id_of(500_777)}",
    f"/flows/{flow_id_of(700_777)}.html",
    f"/flows/{flow_id_of(700_000)}.html",
    f"/flows/{flow_id_of(5_000)}.html",
    "/failures",
    "/failures?step=rare_step",
    "/definitions",
    "/fleet",
    f"/search?q={str(flow_id_of(700_777))[:13]}",
    f"/search?q={_LABEL}",
    f"/search?q={_RARE[:10]}",
    "/search?q=abcdef12",
)
_ADDRESS = re.compile(rb"http://[^\s/]+")


async def ask(directory: Path, times: int, only: str) -> None:
    """Print the seconds of each question: the first time, and the median of `times` more.

    Those of a command are followed by the CPU seconds of its process, the median of `times` more.
    """
    async with embedded_postgres(directory) as url:
        environment = {**os.environ, "DATABASE_URL": url, "COLUMNS": "150"}
        load = "/".join(f"{each:.1f}" for each in os.getloadavg())
        print(
            f"{'question':60}{'first':>8}{'then':>8}{'CPU':>8}  (seconds; load {load})", flush=True
        )
        for command in COMMANDS:
            if only in command:
                took = [await _command(command, environment) for _ in range(times + 1)]
                _print(command, *zip(*took, strict=True))
        served = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "chem_persistence", "serve", "--port", "0"),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert served.stdout is not None  # noqa: S101  # it is a pipe
            while (found := _ADDRESS.search(await served.stdout.readline())) is None:
                pass
            for page in PAGES:
                if only in page:
                    address = found.group().decode() + page
                    pages = [await asyncio.to_thread(_page, address) for _ in range(times + 1)]
                    _print(page, pages)
        finally:
            served.terminate()
            await served.wait()


def _print(question: str, took: Sequence[float], cpu: Sequence[float] = ()) -> None:
    medians = [statistics.median(each[1:]) for each in (took, cpu) if each]
    figures = "".join(f"{each:>8.3f}" for each in (took[0], *medians))
    print(f"{question[:58]:60}{figures}", flush=True)


async def _command(command: str, environment: dict[str, str]) -> tuple[float, float]:
    """Return the seconds and the CPU seconds, user and system, of a command."""
    begun, before = time.perf_counter(), _cpu_of_children()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "chem_persistence", *command.split()),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode not in {0, 1}:
        print(command, process.returncode, errors.decode(), file=sys.stderr)
    return time.perf_counter() - begun, _cpu_of_children() - before


def _cpu_of_children() -> float:
    """Return the CPU seconds of the processes that have ended; the server has not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _page(address: str) -> float:
    begun = time.perf_counter()
    with urllib.request.urlopen(address) as answer:  # noqa: S310  # a local server
        answer.read()
    return time.perf_counter() - begun


def forget_pages(directory: Path) -> None:
    """Have the operating system forget what it has read of a stopped server's files."""
    for path in _files(directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _files(directory: Path) -> Iterator[Path]:
    yield from (path for path in (directory / "cluster" / "base").rglob("*") if path.is_file())

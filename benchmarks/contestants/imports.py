"""Measure how long the import of all names of `chem_persistence` takes, in new processes."""

import os
import subprocess
import sys

__all__ = ["ImportTimes", "time_imports"]

import msgspec

from benchmarks.data.spread import Spread, spread

_ALONE = (
    "import time; begun = time.perf_counter(); "
    "from chem_persistence import *; print(time.perf_counter() - begun)"
)
_BEYOND = f"import asyncpg, msgspec; {_ALONE}"


class ImportTimes(msgspec.Struct, frozen=True):
    """Seconds of the whole import, and of its part beyond asyncpg and msgspec."""

    whole: Spread
    beyond: Spread


def time_imports(rounds: int) -> ImportTimes:
    """Time both in turn, after a first run that writes the byte code, as an installer does."""
    _time(_ALONE)
    pairs = [(_time(_ALONE), _time(_BEYOND)) for _ in range(rounds)]
    return ImportTimes(spread(whole for whole, _ in pairs), spread(beyond for _, beyond in pairs))


def _time(program: str) -> float:
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)

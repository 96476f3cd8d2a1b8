"""How many files and functions one call runs through.

These tests pin form rather than behaviour. The numbers are those of `python -m benchmarks.hops`;
one that has to grow is changed there, with a reason in the commit.
"""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.hops import LIMITS, Hops

REPOSITORY = Path(__file__).parents[2]
PROGRAM = (
    "import sys, msgspec; from benchmarks.hops import measure;"
    "sys.stdout.buffer.write(msgspec.json.encode(measure(sys.argv[1])))"
)


@pytest.fixture
def counted(database_url: str) -> dict[str, Hops]:
    """Count in a new process, because what is already imported is not entered again."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, database_url],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=dict[str, Hops])


def test_a_call_crosses_no_more_files_functions_and_queries_than_it_did(
    counted: dict[str, Hops],
) -> None:
    assert counted.keys() == LIMITS.keys()
    for name, limit in LIMITS.items():
        for kind in ("files", "functions", "queries"):
            assert getattr(counted[name], kind) <= getattr(limit, kind), (name, kind)

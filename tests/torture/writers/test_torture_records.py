"""The torture's records survive a kill of their writer, and a line that is cut short shows."""

import subprocess
import sys
from pathlib import Path

from tests.support.servers.processes import KILLED, REPOSITORY
from tests.torture.mutants.written_log import FLOW
from tests.torture.writers.records import (
    Acknowledged,
    Conflict,
    EngineFlow,
    Record,
    RecordFile,
    Told,
    Unknown,
    read_records,
)

RECORDS: list[Record] = [
    Conflict("a\nb", 3, 4, 1.5),
    Acknowledged("0.0/1", [Told(FLOW, 0, 7, "2026-01-01", "f" * 64)] * 3, 2.5),
    Unknown("\u2028 \r\n \U0001f9ea", "StoreUnavailable 08006", 3.5),
    EngineFlow(FLOW, None, 4.5),
]
DYING = """
import os, signal, sys
from pathlib import Path
from tests.torture.writers.test_torture_records import RECORDS
from tests.torture.writers.records import RecordFile
file = RecordFile(Path(sys.argv[1]))
for _ in range(500):
    for record in RECORDS:
        file.write(record)
os.kill(os.getpid(), signal.SIGKILL)
"""
LIMITED = """
import resource, sys
from pathlib import Path
from tests.torture.writers.test_torture_records import RECORDS
from tests.torture.writers.records import RecordFile
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
file = RecordFile(Path(sys.argv[1]))
for number in range(100):
    try:
        file.write(RECORDS[number % 4])
    except OSError:
        print(number)
"""


def run(program: str, path: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, str(path)]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )


def test_what_was_written_is_read_whole_wherever_the_file_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    file = RecordFile(path)
    ends = [0]
    for record in RECORDS:
        file.write(record)
        ends.append(path.stat().st_size)
    file.close()
    data = path.read_bytes()
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        whole = sum(end <= length for end in ends) - 1
        assert read_records(path) == (RECORDS[:whole], ends[whole])


def test_a_writer_that_is_killed_loses_no_record(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    assert run(DYING, path).returncode == KILLED
    assert read_records(path)[0] == RECORDS * 500


def test_a_line_that_does_not_fit_on_the_disk_is_the_last_of_its_file_and_is_not_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "records.jsonl"
    refused = [int(number) for number in run(LIMITED, path).stdout.split()]
    first = refused[0]
    assert refused == list(range(first, 100))
    assert path.stat().st_size == 1000
    records, end = read_records(path)
    assert records == [RECORDS[number % 4] for number in range(first)]
    assert end < 1000

"""One Ctrl-C ends the screening of molecules, sixteen flows at once, and fails none of them."""

import asyncio
import fcntl
import os
import pty
import random
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from chem_persistence import build_pool, embedded_postgres

PROGRAM = Path(__file__).parents[2] / "examples" / "screen_nci.py"
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"} | {
    "COLUMNS": "200",
    "TERM": "dumb",
}
PATIENCE = 120
LIMIT = 400
EVENTS = 4_791
FAILURES = {"nci.molecules.NoForceFieldParameters"}
"""What fails in an undisturbed run: three molecules of the first 400."""

FAILED = """
SELECT DISTINCT payload -> 'error' ->> 'error_class' FROM event_log
WHERE event_type = 'stepfailed'
"""


class Terminal:
    """The program on its own terminal, where Ctrl-C goes to the foreground process group."""

    def __init__(self, data: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, "--limit", str(LIMIT), "--concurrency", "16", "--data", data],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=ENVIRONMENT,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(theirs)

    def press_ctrl_c(self) -> None:
        os.write(self._ours, b"\x03")

    def rest(self) -> str:
        """Return the output until every process on this terminal has closed it."""
        read = b""
        with suppress(OSError):  # EIO
            while part := os.read(self._ours, 65_536):
                read += part
        os.close(self._ours)
        self.process.wait()
        return read.decode()


async def press_when_there_are(
    events: int, data: Path, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    """Run the program until it ends; press Ctrl-C once the log has this many events."""
    terminal = Terminal(data)
    try:
        while await pool.fetchval("SELECT count(*) FROM event_log") < events:
            assert terminal.process.poll() is None, terminal.rest()
        terminal.press_ctrl_c()
        printed = await asyncio.wait_for(asyncio.to_thread(terminal.rest), PATIENCE)
    finally:
        terminal.process.kill()
    assert printed.splitlines()[-1].startswith("stopped by SIGINT; what was done is stored")
    assert terminal.process.returncode == 130
    assert {row[0] for row in await pool.fetch(FAILED)} <= FAILURES


def finished(data: Path) -> str:
    """Run the program to its end; return its fingerprint."""
    done = subprocess.run(
        [sys.executable, PROGRAM, "--limit", str(LIMIT), "--data", data],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("screen fingerprint ")]
    return line


@pytest.mark.slow
async def test_one_ctrl_c_ends_sixteen_flows_and_fails_none(tmp_path: Path) -> None:
    data = tmp_path / "log"
    async with embedded_postgres(data) as url, await build_pool(url, max_size=1) as pool:
        for events in (150, 400):
            await press_when_there_are(events, data, pool)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
async def test_twenty_times_at_any_moment_and_the_result_is_that_of_an_undisturbed_run(
    tmp_path: Path,
) -> None:
    data = tmp_path / "log"
    moments = sorted(random.Random(10).sample(range(100, EVENTS - 500), 20))
    async with embedded_postgres(data) as url, await build_pool(url, max_size=1) as pool:
        for events in moments:
            await press_when_there_are(events, data, pool)
        assert await asyncio.to_thread(finished, data) == await asyncio.to_thread(
            finished, tmp_path / "undisturbed"
        )
        assert {row[0] for row in await pool.fetch(FAILED)} == FAILURES

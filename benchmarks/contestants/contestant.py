"""The process of one competitor, stopped while others are measured so that it uses no CPU."""

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from benchmarks.contestants.load import Load, Slice
from benchmarks.contestants.worker import READY

__all__ = ["Contestant", "ContestantFailed"]

_OPENING_SECONDS = 120.0
_SPARE_SECONDS = 60.0
_CLOSING_SECONDS = 20.0


class ContestantFailed(Exception):
    """The process died, or did not answer in time; the message ends with its last output."""


class Contestant:
    """Runs `benchmarks.contestants.worker` for one competitor; its standard error goes to `log`.

    Its process has this one's interpreter and environment unless others are given.
    """

    def __init__(
        self,
        name: str,
        url: str,
        log: Path,
        python: Path = Path(sys.executable),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = (str(python), "-m", "benchmarks.contestants.worker", name, url)
        self._log = log
        self._environment = environment

    async def start(self) -> None:
        """Start the process, and wait until it has created its tables."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
            )
        if await self._answer(_OPENING_SECONDS) != READY:
            raise ContestantFailed(self._last_words())
        self._process.send_signal(signal.SIGSTOP)

    async def run(self, load: Load) -> Slice:
        """Run one slice."""
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(msgspec.json.encode(load) + b"\n")
        await self._process.stdin.drain()
        answer = await self._answer(load.seconds + load.warmup + _SPARE_SECONDS)
        self._process.send_signal(signal.SIGSTOP)
        return msgspec.json.decode(answer, type=Slice)

    async def stop(self) -> None:
        """End the process; one that does not end by itself is killed."""
        if self._process.returncode is not None:
            return
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _answer(self, seconds: float) -> str:
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        try:
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            self._process.kill()
            raise ContestantFailed(f"no answer in {seconds:.0f} s; {self._last_words()}") from None
        if not line:
            await self._process.wait()
            raise ContestantFailed(self._last_words())
        return line.decode().rstrip("\n")

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

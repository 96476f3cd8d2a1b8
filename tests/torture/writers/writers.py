"""The writer processes: started, commanded, killed, and succeeded by others."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.support.servers.processes import REPOSITORY
from tests.torture.checker.ledger import Ledger
from tests.torture.writers.records import now, read_records

__all__ = ["Writers"]

STOP_SECONDS = 30.0


class Writers:
    """One process a slot; odd slots reach the server through `urls[1]`, the proxy, even ones through `urls[0]`."""

    def __init__(
        self, urls: tuple[str, str], seed: int, slots: int, directory: Path, ledger: Ledger
    ) -> None:
        self._urls, self._seed, self._directory = urls, seed, directory
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._files: dict[int, list[Path]] = {slot: [] for slot in range(slots)}
        self._offsets: dict[Path, int] = {}
        self._began = now()
        self._ledger = ledger
        self.notes: list[str] = []

    @property
    def slots(self) -> list[int]:
        return list(self._files)

    async def start(self, slot: int) -> None:
        """Start the slot's next process."""
        earlier = self._files[slot]
        path = self._directory / f"writer-{slot}-{len(earlier)}.jsonl"
        path.touch(mode=0o600)
        arguments = [
            self._urls[slot > 0],
            self._seed,
            slot,
            len(earlier),
            self._began,
            path,
            *earlier[-2:],
        ]
        self._processes[slot] = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.torture.writers.writer",
            *map(str, arguments),
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
            stdin=asyncio.subprocess.PIPE,
        )
        earlier.append(path)
        self._offsets[path] = 0

    async def succeed(self, slot: int) -> None:
        """Kill the slot's process and start the next."""
        await self.kill(slot)
        await self.start(slot)

    async def kill(self, slot: int) -> None:
        process = self._processes[slot]
        if process.returncode is None:
            process.kill()
        await process.wait()

    def command(self, slot: int, command: str, seconds: float) -> None:
        stdin = self._processes[slot].stdin
        assert stdin is not None
        stdin.write(f"{command} {seconds}\n".encode())

    def freeze(self, slot: int) -> None:
        self._processes[slot].send_signal(signal.SIGSTOP)

    def thaw(self, slot: int) -> None:
        if self._processes[slot].returncode is None:
            self._processes[slot].send_signal(signal.SIGCONT)

    def gather(self) -> Ledger:
        """Enter what the writers have noted since the last time."""
        for slot, paths in self._files.items():
            for path in paths[-2:]:
                records, self._offsets[path] = read_records(path, self._offsets[path])
                self._ledger.enter(records, slot)
        return self._ledger

    def note(self, line: str) -> None:
        """Keep what a fault itself stumbled over."""
        self.notes.append(line)

    def dead_or_alive(self) -> list[int]:
        return list(self._processes)

    def dead(self) -> list[int]:
        """Name the slots whose process ended though nobody killed it."""
        return [slot for slot, process in self._processes.items() if process.returncode is not None]

    async def stop(self) -> None:
        """Let all end what they do; kill those that do not."""
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()
        for slot, process in self._processes.items():
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                await self.kill(slot)
        self.gather()

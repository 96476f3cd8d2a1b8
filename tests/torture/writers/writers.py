"""The writer processes: started, commanded, killed, and replaced."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.support.servers.processes import REPOSITORY
from tests.torture.checker.ledger import Ledger
from tests.torture.writers.records import now, read_records

__all__ = ["Writers"]

STOP_SECONDS = 30.0
NO_TREES: Mapping[int, Path] = MappingProxyType({})


class Writers:
    """One process per slot; slot 0 uses the server, `urls[0]`, all others the proxy, `urls[1]`.

    A slot's writer is that of `trees`, checkouts of other versions, or else this version's.
    """

    def __init__(
        self,
        urls: tuple[str, str],
        seed: int,
        slots: int,
        directory: Path,
        ledger: Ledger,
        *,
        trees: Mapping[int, Path] = NO_TREES,
    ) -> None:
        self._trees = trees
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
        tree = self._trees.get(slot, REPOSITORY)
        self._processes[slot] = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.torture.writers.writer",
            *map(str, arguments),
            cwd=tree,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), *sys.path])},
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
        """Collect what the writers have recorded since the last call."""
        for slot, paths in self._files.items():
            for path in paths[-2:]:
                records, self._offsets[path] = read_records(path, self._offsets[path])
                self._ledger.enter(records, slot)
        return self._ledger

    def note(self, line: str) -> None:
        """Keep a report of what a fault itself failed at."""
        self.notes.append(line)

    def dead_or_alive(self) -> list[int]:
        return list(self._processes)

    def dead(self) -> list[int]:
        """Return the slots whose process ended without being killed."""
        return [slot for slot, process in self._processes.items() if process.returncode is not None]

    async def stop(self) -> None:
        """End all writers when they have finished their calls; kill those that do not end."""
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()
        for slot, process in self._processes.items():
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                await self.kill(slot)
        self.gather()

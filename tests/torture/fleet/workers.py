"""The worker processes of the fleet: started, killed, stopped, continued, and told to end."""

import asyncio
import signal
from collections.abc import Coroutine, Mapping
from pathlib import Path

import msgspec

from chem_persistence.cli.exit import ExitCode
from chem_persistence.engine.leases.renewal import seconds_since_boot
from tests.support.commands import COMMAND, command_environment
from tests.support.servers.processes import REPOSITORY

__all__ = ["AT_ONCE", "Struck", "Workers"]

AT_ONCE = 8
"""The number of flows that a worker runs at the same time."""

END_SECONDS = 60.0
GRACE_SECONDS = 5


class Struck(msgspec.Struct, frozen=True):
    """One fault: when it began, and of which process; None if the server was restarted."""

    name: str
    at: float
    pid: int | None


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.process = process
        self.errors = errors
        self.is_stopped = False
        self.is_killed = False
        self.serves = asyncio.create_task(self._first_line())

    async def _first_line(self) -> bool:
        assert self.process.stdout is not None
        return bool(await self.process.stdout.readline())

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, or was killed and is about to."""
        return self.is_killed or self.process.returncode is not None

    @property
    def is_up(self) -> bool:
        """Whether it serves, and runs."""
        return self.serves.done() and not self.has_ended and not self.is_stopped


class Workers:
    """Processes of `chem-persistence worker`, which serve `flows` with leases of `lease` seconds.

    `variables` are added to their environment.
    """

    def __init__(
        self, url: str, directory: Path, flows: str, *, lease: float, **variables: str
    ) -> None:
        self._arguments = [
            *COMMAND,
            *("worker", flows, "--at-once", str(AT_ONCE)),
            *("--lease", str(lease), "--grace", str(GRACE_SECONDS), "--database-url", url),
        ]
        self._environment: Mapping[str, str] = command_environment(**variables)
        self._directory = directory
        self._workers: list[_Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends = False
        self.struck: list[Struck] = []
        self.unexpected: list[str] = []

    async def start(self) -> None:
        """Start one more worker."""
        errors = self._directory / f"worker-{len(self._workers)}.log"
        with errors.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *self._arguments,
                cwd=REPOSITORY,
                env=self._environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
            )
        worker = _Worker(process, errors)
        self._workers.append(worker)
        self._do(self._supervise(worker))

    async def _supervise(self, worker: _Worker) -> None:
        """Start another worker when one ends, as a service manager does.

        One that could not reach the server when it started has ended as it should.
        """
        code = await worker.process.wait()
        if self._ends:
            return
        if code != -signal.SIGKILL and (await worker.serves or code != ExitCode.DATABASE):
            self.unexpected.append(f"{worker.errors.name}: ended by itself with {code}")
        await self.start()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.unexpected.append(repr(error))

    async def until_all_serve(self) -> None:
        """Wait until each worker has begun to serve, or has ended."""
        await asyncio.gather(*(worker.serves for worker in self._workers))

    @property
    def up(self) -> list[int]:
        """The numbers of the workers that serve, and neither are stopped nor have ended."""
        return [number for number, worker in enumerate(self._workers) if worker.is_up]

    @property
    def stopped(self) -> int:
        """How many workers are stopped."""
        return sum(worker.is_stopped for worker in self._workers)

    def kill(self, number: int) -> None:
        """Kill a worker; another is started in its stead."""
        worker = self._workers[number]
        self._strike("SIGKILL", worker)
        worker.is_killed = True
        worker.process.kill()

    def stop_for(self, number: int, seconds: float) -> None:
        """Stop a worker, and continue it after some seconds."""
        worker = self._workers[number]
        self._strike("SIGSTOP", worker)
        worker.process.send_signal(signal.SIGSTOP)
        worker.is_stopped = True

        async def go_on() -> None:
            await asyncio.sleep(seconds)
            self._go_on(worker)

        self._do(go_on())

    def _strike(self, name: str, worker: _Worker) -> None:
        self.struck.append(Struck(name, seconds_since_boot(), worker.process.pid))

    def _go_on(self, worker: _Worker) -> None:
        if worker.is_stopped and worker.process.returncode is None:
            worker.process.send_signal(signal.SIGCONT)
        worker.is_stopped = False

    def go_on(self) -> None:
        """Continue all workers."""
        for worker in self._workers:
            self._go_on(worker)

    async def end(self) -> None:
        """Stop all workers; note each one that fails or prints a traceback."""
        self._ends = True
        running = [each for each in self._workers if not each.has_ended]
        # one that still imports has no handler of the signal yet, which then ends it at once
        if running:
            await asyncio.wait([worker.serves for worker in running], timeout=END_SECONDS)
        for worker in running:
            worker.process.terminate()
        for worker in running:
            try:
                async with asyncio.timeout(END_SECONDS):
                    code = await worker.process.wait()
            except TimeoutError:
                code = None
            if code != 0:
                self.unexpected.append(f"{worker.errors.name}: SIGTERM ended it with {code}")
        for worker in self._workers:
            printed = worker.errors.read_text(errors="replace")
            if "Traceback" in printed:
                self.unexpected.append(f"{worker.errors.name}: {printed[-2_000:]}")

    async def kill_all(self) -> None:
        """Kill the workers that are left."""
        self._ends = True
        for task in list(self._tasks):
            task.cancel()
        for worker in self._workers:
            if worker.process.returncode is None:
                worker.process.kill()
            await worker.process.wait()
            worker.serves.cancel()

"""Runs of a program that begin as forks of a server, which has imported it: see fork_server.py."""

import asyncio
import atexit
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock

import msgspec

from tests.support.fork_server import Request, send

__all__ = ["Child", "ForkServer", "ForkedProcess"]

ROOT = Path(__file__).parents[2]


class Child(msgspec.Struct, frozen=True):
    """A process that the server has forked; its id and its status come through a pipe."""

    pid: int
    answer: int

    def wait(self) -> int:
        """Return the exit code, or minus the number of the signal that ended it."""
        with os.fdopen(self.answer, encoding="ascii") as told:
            return int(told.readline())


class ForkedProcess:
    """A run, with what tests use of a `Process` of asyncio."""

    def __init__(
        self,
        pid: int,
        answer: asyncio.StreamReader,
        stdin: asyncio.StreamWriter | None,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader | None,
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self._answer = answer

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Return the exit code, or minus the number of the signal that ended it."""
        if self.returncode is None:
            self.returncode = int(await self._answer.read())
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Read all that it prints until it ends."""
        if self.stdin is not None:
            self.stdin.close()
        output, error = await asyncio.gather(_rest(self.stdout), _rest(self.stderr))
        await self.wait()
        return output, error


class ForkServer:
    """Forks for runs of a module; it is started when it is first needed, and once in a process.

    Args:
        name: the module's.
        rehearsal: arguments of a run that imports what most runs do, and changes nothing.
        variables: the server's environment.
        prepared: the name of a module that the server imports last.
    """

    def __init__(
        self, name: str, *rehearsal: str, variables: Mapping[str, str], prepared: str = ""
    ) -> None:
        self._arguments = [name, prepared, *rehearsal]
        self._variables = variables
        self._lock = Lock()
        self._server: socket.socket | None = None

    def start(
        self,
        arguments: Sequence[str],
        *,
        streams: tuple[int, int, int],
        variables: Mapping[str, str],
        folder: Path | None = None,
        seconds: int = 240,
    ) -> Child:
        """Start a run with these open files as its standard streams; end it after so long."""
        reading, writing = os.pipe()
        request = Request(list(arguments), dict(variables), str(folder or Path.cwd()), seconds)
        with self._lock:
            send(self._started(), request, [*streams, writing])
        os.close(writing)
        pid = b""
        while not pid.endswith(b"\n"):
            pid += os.read(reading, 1) or b"\n"
        return Child(int(pid), reading)

    async def process(
        self,
        arguments: Sequence[str],
        *,
        variables: Mapping[str, str],
        folder: Path | None = None,
        stdin: bool = False,
        stderr: bool = True,
    ) -> ForkedProcess:
        """Start a run; its input is empty without `stdin`, its errors are ours without `stderr`."""
        given, to = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), None)
        back, output = os.pipe()
        told, error = os.pipe() if stderr else (None, 2)
        child = await asyncio.to_thread(
            self.start,
            arguments,
            streams=(given, output, error),
            variables=variables,
            folder=folder,
        )
        for file in (given, output, *([error] if stderr else [])):
            os.close(file)
        return ForkedProcess(
            child.pid,
            await _reader(child.answer),
            None if to is None else await _writer(to),
            await _reader(back),
            None if told is None else await _reader(told),
        )

    def run(
        self,
        arguments: Sequence[str],
        *,
        variables: Mapping[str, str],
        folder: Path | None = None,
        stdin: str | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run it until it ends."""
        theirs, ours = zip(os.pipe(), os.pipe()[::-1], os.pipe()[::-1], strict=True)
        with ThreadPoolExecutor(3) as threads:
            child = self.start(arguments, streams=theirs, variables=variables, folder=folder)
            for file in theirs:
                os.close(file)
            threads.submit(_write, ours[0], stdin or "")
            output, error = threads.map(_read, ours[1:])
            return subprocess.CompletedProcess(list(arguments), child.wait(), output, error)

    def _started(self) -> socket.socket:
        if self._server is None:
            self._server, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-W", "error", "-m", "tests.support.fork_server"),
                        *(str(theirs.fileno()), *self._arguments),
                    ],
                    cwd=ROOT,
                    env=self._variables,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C is for those who run the tests
                )
            atexit.register(process.wait, timeout=60)
            atexit.register(self._server.close)  # called first, and what the server waits for
        return self._server


async def _reader(file: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(file, "rb", buffering=0)
    )
    return reader


async def _writer(file: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(file, "wb", buffering=0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _rest(reader: asyncio.StreamReader | None) -> bytes:
    return b"" if reader is None else await reader.read()


def _read(file: int) -> str:
    with os.fdopen(file, encoding="utf-8") as opened:
        return opened.read()


def _write(file: int, text: str) -> None:
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(text)

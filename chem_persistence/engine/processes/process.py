"""One child process, as its parent sees it: started, spoken to, and ended with all that it started.

A thread waits for its end, so that the end is seen whatever the event loop does, and so that the
process is reaped only after its process group was killed: until then no other group has its id.
"""

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress

import anyio
import anyio.to_thread

from chem_persistence.engine.processes.messages import (
    LENGTH,
    FromChild,
    ToChild,
    decode_from_child,
    encode,
)

__all__ = ["ChildProcess"]

IDLE_SECONDS = 60.0
SECONDS_TO_EXIT = 1.0
SECONDS_AFTER_SIGKILL = 10.0
LARGE = 2**20  # bytes of a message that a thread decodes, so that the event loop goes on
MOST_AT_ONCE = 2**18

PROGRAM = """\
import json, sys
messages, life, idle_seconds, sys.path[:], sys.argv[:] = json.loads(sys.argv[1])
from chem_persistence.engine.processes.child import serve
serve(messages, life, idle_seconds)
"""

_numbers = itertools.count(1)


class ChildProcess:
    """A process of a session of its own, which computes jobs until it gets none for a while.

    Raises:
        OSError: the system cannot start another process.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self.uses = 0  # how many jobs it was given
        self._lock = threading.Lock()
        self._reaped: Future[int] = Future()
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        reading, writing = os.pipe()
        self._life: int | None = writing
        try:
            self._process = _start(theirs.fileno(), reading, idle_seconds)
        except BaseException:
            self.close()
            raise
        finally:
            theirs.close()
            os.close(reading)
        name = f"chem-persistence-process-{next(_numbers)}"
        threading.Thread(target=self._reap, daemon=True, name=name).start()

    @property
    def pid(self) -> int:
        """The id of the process, of its session and of its process group."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._reaped.done()

    async def send(self, message: ToChild) -> bool:
        """Send a message; return whether the process is there to read it."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._ours, encode(message))
        except OSError:
            return False
        return True

    async def receive(self) -> FromChild | None:
        """Wait for a message, and return it; None if the process has ended.

        Raises:
            msgspec.DecodeError: what came is not a message.
        """
        try:
            header = await self._read(LENGTH.size)
            if header is None:
                return None
            body = await self._read(LENGTH.unpack(header)[0])
        except OSError:
            return None
        if body is None:
            return None
        if len(body) > LARGE:
            return await anyio.to_thread.run_sync(decode_from_child, body)
        return decode_from_child(body)

    async def exit_code(self) -> int:
        """Wait until the process has ended; return its exit code, or minus the signal's number.

        Its connection is closed, so that it is ending; one that only closed it is killed.
        """
        await self._end([(None, SECONDS_TO_EXIT), (signal.SIGKILL, SECONDS_AFTER_SIGKILL)])
        return self._reaped.result() if self._reaped.done() else -signal.SIGKILL

    async def end(self, grace: float) -> None:
        """Send SIGTERM to the process and what it started, and SIGKILL to what is left of them.

        That is after `grace` seconds, or as soon as the process itself has ended. A cancellation is
        raised only afterwards.
        """
        await self._end([(signal.SIGTERM, grace), (signal.SIGKILL, SECONDS_AFTER_SIGKILL)])

    async def _end(self, measures: list[tuple[signal.Signals | None, float]]) -> None:
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            ended = self._ended_in_loop()
            for number, seconds in measures:
                if number is not None:
                    self.send_signal(number)
                cancelled = await _wait(ended, seconds) or cancelled
        if cancelled is not None:
            raise cancelled

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to what it started, unless it has ended."""
        with self._lock:
            if not self._reaped.done():
                self._signal_group(number)

    def kill(self) -> None:
        """Kill the process and what it started, and wait until it has ended."""
        self.send_signal(signal.SIGKILL)
        self._reaped.result(SECONDS_AFTER_SIGKILL)

    def forget(self) -> None:
        """Close the connection in a fork of the parent, which must not keep it open."""
        self.close()
        self._process.returncode = 0  # it is not ours to wait for

    def close(self) -> None:
        """Close this end of the connection, once; a process that has not ended does so then."""
        self._ours.close()
        life, self._life = self._life, None
        if life is not None:
            os.close(life)

    def _ended_in_loop(self) -> "asyncio.Future[None]":
        """Return a future of the running loop that is done when the process has ended."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        def tell(_reaped: "Future[int]") -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(end)

        self._reaped.add_done_callback(tell)
        return ended

    def _reap(self) -> None:
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:  # macOS before Python 3.13
            self._process.wait()
        with self._lock:
            self._signal_group(signal.SIGKILL)
            code = self._process.wait()
            with suppress(OSError):  # it is closed
                self._ours.shutdown(socket.SHUT_RDWR)  # what was sent can still be read
            self._reaped.set_result(code)

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # all have ended; macOS says that of a zombie by EPERM

    async def _read(self, size: int) -> bytearray | None:
        """Read so many bytes, or return None at the end of the stream."""
        loop, buffer = asyncio.get_running_loop(), bytearray(size)
        view, filled = memoryview(buffer), 0
        while filled < size:
            count = await loop.sock_recv_into(self._ours, view[filled : filled + MOST_AT_ONCE])
            if count == 0:
                return None
            filled += count
        return buffer


def _start(messages: int, life: int, idle_seconds: float) -> "subprocess.Popen[bytes]":
    """Start the interpreter with this one's options, module path and arguments.

    What it prints goes to this process's standard error: standard output belongs to the program.
    """
    told = json.dumps([messages, life, idle_seconds, sys.path, sys.argv])
    # as multiprocessing does it; the standard library has no public function for it
    options_of_this = getattr(subprocess, "_args_from_interpreter_flags", list)
    try:
        os.fstat(2)
        errors = 2
    except OSError:  # it was closed
        errors = subprocess.DEVNULL
    return subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, *options_of_this(), "-c", PROGRAM, told],
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
        pass_fds=[messages, life],
        start_new_session=True,
    )


async def _wait(ended: "asyncio.Future[None]", seconds: float) -> asyncio.CancelledError | None:
    """Wait so long for the end, also while the task is cancelled; return the cancellation."""
    loop, cancelled = asyncio.get_running_loop(), None
    deadline = loop.time() + seconds
    while not ended.done() and loop.time() < deadline:
        try:
            await asyncio.wait([ended], timeout=deadline - loop.time())
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled

"""The child processes that are not computing: the next job takes the one that was used last."""

import atexit
import os
import signal
import threading

from chem_persistence.engine.processes.process import ChildProcess

__all__ = ["POOL", "ProcessPool"]


class ProcessPool:
    """The child processes of this program, for all its event loops and threads.

    One that computes belongs to its step, which returns it only if it can be used again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[ChildProcess] = []
        self._busy: set[ChildProcess] = set()

    def take(self) -> ChildProcess:
        """Return an idle process, or start one.

        Raises:
            OSError: the system cannot start another process.
        """
        with self._lock:
            process = self._running() or ChildProcess()
            process.uses += 1
            self._busy.add(process)
            return process

    def _running(self) -> ChildProcess | None:
        while self._idle:
            process = self._idle.pop()
            if not process.has_ended:
                return process
            process.close()
        return None

    def give_back(self, process: ChildProcess) -> None:
        """Keep a process for the next job."""
        with self._lock:
            self._busy.discard(process)
            self._idle.append(process)
            for ended in [process for process in self._idle if process.has_ended]:
                self._idle.remove(ended)
                ended.close()

    def drop(self, process: ChildProcess) -> None:
        """Forget a process that was ended."""
        with self._lock:
            self._busy.discard(process)
        process.close()

    def end_all(self) -> None:
        """Kill all processes, and wait until they have ended."""
        with self._lock:
            processes = [*self._idle, *self._busy]
            self._idle, self._busy = [], set()
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for process in processes:
            process.kill()
            process.close()

    def forget_all(self) -> None:
        """Leave the processes to the parent of this one, which was forked from it."""
        processes = [*self._idle, *self._busy]
        self.__init__()  # type: ignore[misc]  # the lock may be held by a thread that is not here
        for process in processes:
            process.forget()


POOL = ProcessPool()
atexit.register(POOL.end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget_all)

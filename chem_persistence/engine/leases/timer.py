"""Calls functions after a while, in one thread of the process.

Most flows are over before their lease has to be renewed. A thread for each run, only to wait for
that time, would cost more than the rest of the lease.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from time import monotonic

__all__ = ["TIMER", "Timer"]

LONGEST_WAIT = 5.0
"""How long the thread sleeps at most; it need not be woken for what is due later than that."""

SECONDS_TO_STAY = 30.0
"""How long the thread stays when there is nothing to wait for."""


class Timer:
    """Waits in a daemon thread, which begins with the first call and ends when it is idle."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls: dict[object, tuple[float, Callable[[], None]]] = {}
        self._earlier = Event()  # something is due before the thread wakes up
        self._wakes_at = 0.0
        self._thread: Thread | None = None

    def call_after(self, seconds: float, call: Callable[[], None]) -> object:
        """Call a function, which is to return at once, after so long; return what cancels that."""
        key, due = object(), monotonic() + seconds
        with self._lock:
            self._calls[key] = due, call
            if self._thread is None:
                self._thread = Thread(target=self._run, name="chem_persistence timer", daemon=True)
                self._thread.start()
            elif due < self._wakes_at:
                self._earlier.set()
        return key

    def cancel(self, key: object) -> None:
        """Do not make a call, unless it is made already."""
        with self._lock:
            self._calls.pop(key, None)

    def _run(self) -> None:
        stays_until = monotonic() + SECONDS_TO_STAY
        while True:
            with self._lock:
                now = monotonic()
                ready = [key for key, (due, _) in self._calls.items() if due <= now]
                calls = [self._calls.pop(key)[1] for key in ready]
                if self._calls or calls:
                    stays_until = now + SECONDS_TO_STAY
                elif now >= stays_until:
                    self._thread = None
                    return
                wait = min([LONGEST_WAIT, *(due - now for due, _ in self._calls.values())])
                self._wakes_at = now + wait
                self._earlier.clear()
            for call in calls:
                with suppress(RuntimeError):  # the interpreter ends, and starts no thread any more
                    call()
            self._earlier.wait(wait)


TIMER = Timer()
"""The timer of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TIMER.__init__)  # type: ignore[misc]  # without a thread

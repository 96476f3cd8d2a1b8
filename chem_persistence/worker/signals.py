"""SIGTERM and SIGINT while a worker runs: the first one asks it to stop, the second one ends it."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_on_signals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in the event loop at the first signal; the second one ends the process at once.

    It ends the process as it does by default, also if a step of Python code blocks the event loop;
    the leases of its flows then end by themselves. Only the main thread can do this: in another one
    the signals are left as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, is_told = asyncio.get_running_loop(), False

    def receive(number: int, _: FrameType | None) -> None:
        nonlocal is_told
        if is_told:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        is_told = True
        loop.call_soon_threadsafe(stop)

    before = {number: signal.signal(number, receive) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Steps that compute in child processes, and what the tests ask them to do there."""

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    InvalidPayload,
    ProcessStep,
    RetryPolicy,
    StepContext,
)

__all__ = [
    "LIMITER",
    "Act",
    "Both",
    "Lines",
    "Multiply",
    "OwnError",
    "Relax",
    "Scale",
    "Task",
    "WrongKind",
]

FOR_EVER = 3_600
LIMITER = anyio.CapacityLimiter(3)


class Task(msgspec.Struct):
    act: str
    path: str = ""
    text: str = ""


class Lines(msgspec.Struct):
    lines: list[str]


class Both(msgspec.Struct):
    number: float
    anything: Any = None
    count: int = 0


class Scale(msgspec.Struct):
    by: float


class WrongKind(msgspec.Struct):
    lines: list[str]


class OwnError(ValueError):
    """An error whose constructor does not accept its own `args`."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.hint}"


def _raise(error: BaseException) -> Any:
    raise error


def _local_error() -> Any:
    class Local(Exception):
        pass

    raise Local("nobody else knows it")


def _hold(given: Task) -> None:
    """Write this process's id into the pipe, and keep the pipe open until the process ends."""
    pipe = os.open(given.path, os.O_WRONLY)
    os.set_inheritable(pipe, True)
    os.write(pipe, f"{os.getpid()}\n".encode())


def _sleep(given: Task) -> Any:
    _hold(given)
    time.sleep(FOR_EVER)


def _sleep_with_a_child(given: Task) -> Any:
    _hold(given)
    ignores = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); "
    command = [sys.executable, "-c", ignores + f"time.sleep({FOR_EVER})"]
    with subprocess.Popen(command, close_fds=False, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        Path(f"{given.path}.ready").touch()
        time.sleep(FOR_EVER)


def _sleep_through_sigterm(given: Task) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _sleep(given)


def _hold_the_interpreter(given: Task) -> Any:
    _hold(given)
    ctypes.PyDLL(None).sleep(FOR_EVER)


def _run_out_of_memory(_given: Task) -> Any:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**30, before[1]))
    try:
        return [bytes(2**28) for _ in range(8)]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _use_a_thread(given: Task) -> Any:
    thread = threading.Thread(target=print, args=(given.text,))
    thread.start()
    thread.join()
    return Lines([given.text])


ACTS: dict[str, Callable[[Task], Any]] = {
    "tell": lambda given: Lines([str(os.getpid()), str(os.getsid(0)), given.text]),
    "print": _use_a_thread,
    "key error": lambda _given: _raise(KeyError("three")),
    "own error": lambda _given: _raise(OwnError(7, hint="try again")),
    "group": lambda _given: _raise(ExceptionGroup("two", [ValueError("a"), OSError(2, "b")])),
    "local error": lambda _given: _local_error(),
    "exit": lambda _given: sys.exit("leaving"),
    "interrupt": lambda _given: _raise(KeyboardInterrupt()),
    "cancelled": lambda _given: _raise(asyncio.CancelledError()),
    "stop iteration": lambda _given: next(iter(())),
    "decode error": lambda _given: b"\xff".decode(),
    "file error": lambda _given: open("/nowhere/at/all"),  # noqa: SIM115, PTH123
    "os._exit 0": lambda _given: os._exit(0),
    "os._exit 7": lambda _given: os._exit(7),
    "segfault": lambda _given: ctypes.string_at(0),
    "abort": lambda _given: os.abort(),
    "SIGKILL": lambda _given: os.kill(os.getpid(), signal.SIGKILL),
    "SIGINT": lambda _given: signal.raise_signal(signal.SIGINT),
    "no memory": _run_out_of_memory,
    "wrong class": lambda given: WrongKind([given.text]),
    "wrong field": lambda _given: Lines("7"),  # type: ignore[arg-type]
    "sleep": _sleep,
    "sleep with a child": _sleep_with_a_child,
    "sleep through SIGTERM": _sleep_through_sigterm,
    "hold the interpreter": _hold_the_interpreter,
}


class Act(ProcessStep[Task, Lines]):
    """Perform the action that the input names."""

    id = "act"
    limiter = LIMITER
    grace = 0.1

    def __init__(
        self, timeout: float | None = None, heartbeat_timeout: timedelta | None = None
    ) -> None:
        self.timeout = timeout
        self.heartbeat_timeout = heartbeat_timeout

    def compute(self, given: Task, context: StepContext) -> Lines:
        if given.act == "context":
            return self._use_context(given, context)
        if given.act == "beat":
            for _ in range(int(given.text)):
                context.heartbeat()
            return Lines([given.text])
        result: Lines = ACTS[given.act](given)
        return result

    def _use_context(self, given: Task, context: StepContext) -> Lines:
        caught = []
        context.signal("began", {"attempt": context.attempt, "energy": 1e19, "count": 2})
        added = context.add_artifact(
            Artifact.from_content(kind="k", content=given.text.encode(), media_type="text/plain")
        )
        context.add_artifact(
            Artifact.from_payload(kind="j", payload={"b": 1.0, "a": [1]}, metadata={"z": 1})
        )
        for call in (
            lambda: context.get_artifact_blocking("0" * 64),
            lambda: context.signal("x", float("nan")),
            lambda: context.signal("x", "y" * 2**24),
            lambda: context.signal(7),  # type: ignore[arg-type]
        ):
            try:
                call()
            except ArtifactNotFound as error:
                caught.append(f"{type(error).__name__} {error.artifact_hash[:4]}")
            except InvalidPayload as error:
                caught.append(f"{type(error).__name__} {error.path}")
        read = context.get_artifact_blocking(given.path).payload["text"]
        return Lines(
            [context.fingerprint, str(context.flow_id), context.step_id, added, read, *caught]
        )


class Multiply(ProcessStep[Both, Both]):
    """Work on values that JSON could change on their way."""

    id = "multiply"
    version = "3"
    params: Scale

    def __init__(self, by: float) -> None:
        self.params = Scale(by)

    def compute(self, given: Both, _context: StepContext) -> Both:
        assert isinstance(given.number, float)
        assert type(self.params) is Scale
        return Both(given.number * self.params.by, given.anything, given.count + 1)


class Relax(ProcessStep[Both, Both]):
    """Goes on from the value that it has saved, and fails once on the way."""

    id = "relax"
    retry = RetryPolicy(attempts=2, first=timedelta(0))

    def compute(self, given: Both, context: StepContext) -> Both:
        saved = context.saved_blocking(Both)
        reached = Both((saved or given).number + 0.5, given.anything)
        context.save_blocking(reached)
        assert context.saved_blocking(Both) == reached
        if saved is None:
            raise OwnError(7, hint="once")
        return reached

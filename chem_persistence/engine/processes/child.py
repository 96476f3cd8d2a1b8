"""The program of a child process: it computes one job after the other, in its main thread.

It has a session of its own, so that neither Ctrl-C nor a signal handler of foreign code reaches the
parent's work. It ends when it gets no job for a while, and when its parent ends, however that ends.
"""

import faulthandler
import fcntl
import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.domain.events import PropertyPreferenceAssigned, StepSignal
from chem_persistence.engine.attempt import describe_failure, encoded_output
from chem_persistence.engine.processes.address import address_of, find_class, load_main
from chem_persistence.engine.processes.errors import SentError, raised_again, sent_error
from chem_persistence.engine.processes.messages import (
    LENGTH,
    AddArtifact,
    Answer,
    Beat,
    Began,
    Call,
    FromChild,
    GetArtifact,
    GetReceived,
    GetSaved,
    Job,
    Prefer,
    Returned,
    Save,
    SentArtifact,
    SentStep,
    Signal,
    ToChild,
    decode_to_child,
    encode,
)
from chem_persistence.engine.steps.context import StepContext, artifact_of
from chem_persistence.engine.steps.step_types import step_types
from chem_persistence.store.codec import encode_kind

__all__ = ["serve"]


def serve(messages: int, life: int, idle_seconds: float) -> None:
    """Compute the jobs that come through the file descriptor `messages`.

    `life` is the reading end of a pipe that is never written: it closes when the parent ends.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for descriptor in (messages, life):
        os.set_inheritable(descriptor, False)  # programs that a step starts must not keep them open
    faulthandler.enable()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # no text is lost
    _end_with_parent(life)
    with socket.socket(fileno=messages) as connection:
        parent = _Parent(connection)
        with suppress(BrokenPipeError, ConnectionResetError):  # the parent has ended
            while select.select([connection], [], [], idle_seconds)[0]:
                job = parent.receive()
                if not isinstance(job, Job):
                    return
                parent.send(Began())
                parent.send(_compute(job, parent))


def _end_with_parent(life: int) -> None:
    """Kill this process and those that it started when the pipe closes.

    A thread sees it unless foreign code holds the interpreter's lock. On Linux the kernel sends the
    signal itself (fcntl(2), F_SETSIG), whatever this process does.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        os.read(life, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="chem-persistence-parent").start()


class _Parent:
    """The connection to the parent; a call waits for its answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._calls = threading.Lock()  # a step may have threads of its own
        self._sending = threading.Lock()  # a heartbeat does not wait for the answer to a call

    def call(self, message: Call) -> Answer:
        with self._calls:
            self.send(message)
            answer = self.receive()
        match answer:
            case Answer():
                return answer
            case SentError():
                raise raised_again(answer)
            case Job() | None:
                raise EOFError("the parent did not answer")

    def send(self, message: FromChild) -> None:
        with self._sending:
            self._connection.sendall(encode(message))

    def receive(self) -> ToChild | None:
        """Read a message, or None if the connection was closed."""
        header = self._read(LENGTH.size)
        if header is None:
            return None
        body = self._read(LENGTH.unpack(header)[0])
        return None if body is None else decode_to_child(body)

    def _read(self, size: int) -> bytearray | None:
        buffer = bytearray(size)
        view, filled = memoryview(buffer), 0
        while filled < size:
            count = self._connection.recv_into(view[filled:])
            if count == 0:
                return None
            filled += count
        return buffer


class _Context(StepContext):
    """The context of a step that computes in a child process: its calls go to the parent."""

    def __init__(self, job: Job, step_id: str, parent: _Parent) -> None:
        self.flow_id = job.flow_id
        self.step_index = job.step_index
        self.step_id = step_id
        self.attempt = job.attempt
        self.fingerprint = job.fingerprint
        self.data = self.answer = None
        self.signals, self.artifacts = [], []  # the parent has them
        self._parent = parent
        self._beat_interval = job.beat_interval
        self._next_beat = 0.0

    def heartbeat(self) -> None:
        if self._beat_interval is not None and time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + self._beat_interval
            self._parent.send(Beat())

    def signal(self, name: str, data: Any = None) -> None:
        encode_kind(StepSignal(self.step_index, self.step_id, name, data))  # refused here already
        self._parent.call(Signal(name, canonical_json(data)))

    def add_preference(self, preference: PropertyPreferenceAssigned) -> None:
        self._parent.call(Prefer(canonical_json(preference)))

    def add_artifact(self, artifact: Artifact) -> str:
        self._parent.call(AddArtifact(SentArtifact.of(artifact)))
        return artifact.hash

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        return self.get_artifact_blocking(artifact_hash)

    def get_artifact_blocking(self, artifact_hash: str) -> Artifact:
        answer = self._parent.call(GetArtifact(artifact_hash))
        if answer.artifact is None:
            raise EOFError("the parent sent no artifact")
        return answer.artifact.artifact()

    async def save(self, value: Any) -> None:
        self.save_blocking(value)

    def save_blocking(self, value: Any) -> None:
        self._parent.call(Save(SentArtifact.of(artifact_of(value))))

    async def saved_artifact(self) -> Artifact | None:
        saved = self._parent.call(GetSaved()).artifact
        return None if saved is None else saved.artifact()

    def saved_artifact_blocking(self) -> Artifact | None:
        saved = self._parent.call(GetSaved()).artifact
        return None if saved is None else saved.artifact()

    async def received(self, name: str) -> list[Any]:
        return self.received_blocking(name)

    def received_blocking(self, name: str) -> list[Any]:
        received: list[Any] = read_json(self._parent.call(GetReceived(name)).data)
        return received


def _compute(job: Job, parent: _Parent) -> Returned | SentError:
    """Run `compute`, and return its output, checked and encoded as that of every other step."""
    try:
        step = _step(job.step)
        value = None
        if job.input is not None:
            takes = step_types(step)[0]
            value = msgspec.convert(read_json(job.input), takes, str_keys=True)
        context = _Context(job, step.id, parent)
        context.heartbeat()
        output = step.compute(value, context)
        return Returned(address_of(type(output)), encoded_output(step, output).encoded())
    except BaseException as error:  # noqa: BLE001 - SystemExit too is the step's failure
        return sent_error(error, describe_failure(error))


def _step(sent: SentStep) -> Any:
    """Make the parent's step again; its constructor is not called.

    Raises:
        ImportError: its module has changed since the parent imported it.
    """
    if sent.main is not None:
        load_main(sent.main)
    cls = find_class(sent.cls)
    step = cls.__new__(cls)
    vars(step).update(sent.overrides)
    if sent.params_cls is not None:
        params_cls = find_class(sent.params_cls)
        step.params = msgspec.convert(read_json(sent.params), params_cls, str_keys=True)
    if step.definition().definition_hash != sent.definition_hash:
        raise ImportError(
            f"{sent.cls.module}.{sent.cls.qualname} has another definition in the child process: "
            "its module was changed while the program runs; start the program again"
        )
    return step

"""A process that has imported a program, and forks for each run of it: a run costs no imports.

        python -W error -m tests.support.fork_server SOCKET NAME PREPARED ARGUMENTS...

It imports what the module NAME has imported by the end of a rehearsal with ARGUMENTS, then the
module PREPARED, unless that is empty, and then serves the requests that come through the socket of
that number. For each it forks a child, which has the request's arguments, environment, folder and
standard streams, and runs the module as `python -m NAME` does.

A child is a process of its own in all but its beginning and its last moment: the options of the
interpreter, what it reads from the environment at its start (PYTHON*, the locale) and the seed of
its hashes are those of the server, and it ends without taking its modules apart. What a test says
about these needs a process that is started.
"""

import atexit
import gc
import importlib
import os
import runpy
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

import msgspec

__all__ = ["Request", "receive", "send"]

SIZE_BYTES = 8
OPEN_FILES = 4
"""Those of a request: its standard streams, and a pipe for its child's id and exit status."""


class Request(msgspec.Struct, frozen=True):
    """A run of the program; it is killed after so many seconds."""

    arguments: list[str]
    variables: dict[str, str]
    folder: str
    seconds: int


def send(server: socket.socket, request: Request, files: list[int]) -> None:
    """Send a request and its open files."""
    body = msgspec.json.encode(request)
    socket.send_fds(server, [len(body).to_bytes(SIZE_BYTES, "big")], files)
    server.sendall(body)


def receive(client: socket.socket) -> tuple[Request, list[int]] | None:
    """Return the next request and its open files, or None if the client is gone."""
    head, files, _, _ = socket.recv_fds(client, SIZE_BYTES, OPEN_FILES)
    if not head:
        return None
    body = b""
    while len(body) < (size := int.from_bytes(head, "big")):
        body += client.recv(size - len(body))
    return msgspec.json.decode(body, type=Request), files


def rehearse(name: str, arguments: list[str]) -> None:
    """Run the program in a child without output, and import what it has imported at its end."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        try:
            begin(name, arguments)
        finally:
            os.write(writing, " ".join(sys.modules).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as imported:
        modules = imported.read().split()
    os.waitpid(child, 0)
    for module in modules:
        with suppress(ImportError):  # some are entered into sys.modules by others
            importlib.import_module(module)


def serve(client: socket.socket) -> Request | None:
    """Fork for each request; return it in the child, and None in the server at the end."""
    while (received := receive(client)) is not None:
        request, files = received
        if not (first := os.fork()):
            client.close()
            if os.fork():  # the server waits for nothing but this
                os._exit(0)
            keep(request.seconds, files)
            return request
        for file in files:
            os.close(file)
        os.waitpid(first, 0)
    return None


def keep(seconds: int, files: list[int]) -> None:
    """Fork and return in the child; wait for it and answer in this process, which then ends."""
    *streams, answer = files
    if not (child := os.fork()):
        os.close(answer)
        for number, file in enumerate(streams):
            os.dup2(file, number)
            os.close(file)
        return
    for file in streams:
        os.close(file)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(seconds)
    with os.fdopen(answer, "w", encoding="ascii", buffering=1) as told:
        told.write(f"{child}\n")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(BrokenPipeError):
            told.write(f"{status}\n")
    os._exit(0)


def play(name: str, request: Request) -> None:
    """Run a request in this process, and end it; what is not an exit code is left to Python."""
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.variables)
    sys.path[0] = request.folder
    sys.stdin, sys.stdout, sys.stderr = map(opened, (sys.stdin, sys.stdout, sys.stderr))
    code: Any = None
    try:
        begin(name, request.arguments)
    except SystemExit as end:
        if not isinstance(code := end.code, int | None):
            raise
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # what nobody closed is a warning here, too
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def begin(name: str, arguments: list[str]) -> None:
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def opened(stream: Any) -> Any:
    """Open a standard stream as Python does at its start."""
    number = stream.fileno()
    is_unbuffered = stream.mode == "w" and (number == 2 or os.isatty(number))
    return os.fdopen(
        number,
        stream.mode,
        buffering=1 if is_unbuffered else -1,
        encoding=stream.encoding,
        errors=stream.errors,
        closefd=False,
    )


def main() -> None:
    number, name, prepared, *arguments = sys.argv[1:]
    rehearse(name, arguments)
    if prepared:
        importlib.import_module(prepared)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(number)) as client:
        request = serve(client)
    if request is not None:
        play(name, request)


if __name__ == "__main__":
    main()

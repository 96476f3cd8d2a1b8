"""The records of each writer: what it sent and what it was answered, one JSON line each.

A line is one write to a file opened for appending, made before the writer continues. The kernel has
it when the writer is killed; there is no fsync, because only processes die here, not the machine. A
line that is cut short by a kill or a full disk lacks its end, is the last of its file, was never
acted upon, and is not read.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from chem_persistence import Artifact, FlowEvent, FlowEventKind, content_hash

__all__ = [
    "Acknowledged",
    "Conflict",
    "EngineFlow",
    "Record",
    "RecordFile",
    "Refused",
    "Sent",
    "Told",
    "Unexpected",
    "Unknown",
    "now",
    "read_records",
    "told",
]


class Told(msgspec.Struct, frozen=True):
    """One event as the store returned it; `hash` is that of its kind."""

    event_id: UUID
    version: int
    seq: int
    ts: str
    hash: str


class Sent(msgspec.Struct, frozen=True, kw_only=True, tag="sent"):
    """A call is about to be made; calls with the same `token` repeat one append.

    `metadata` are those of the append, the token among them.
    """

    token: str
    flow_id: UUID
    kinds: list[FlowEventKind]
    artifacts: list[Artifact]
    event_ids: list[UUID] | None
    expected_version: int | None
    by_engine: bool
    metadata: dict[str, Any]
    at: float


class Acknowledged(msgspec.Struct, frozen=True, tag="acknowledged"):
    token: str
    events: list[Told]
    at: float


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """The call failed or was cancelled: the append is in the log once or not at all."""

    token: str
    error: str
    at: float
    sqlstate: str | None = None


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The call raised an error that promises that nothing was stored; `sqlstate` is its code."""

    token: str
    error: str
    at: float
    sqlstate: str | None = None


class Conflict(msgspec.Struct, frozen=True, tag="conflict"):
    """The call raised `ConcurrencyConflict(expected, actual)`."""

    token: str
    expected: int
    actual: int
    at: float


class EngineFlow(msgspec.Struct, frozen=True, tag="engine"):
    """The engine begins or ends a flow; `fingerprint` is set at the end."""

    flow_id: UUID
    fingerprint: str | None
    at: float


class Unexpected(msgspec.Struct, frozen=True, tag="unexpected"):
    """Something was raised or returned that the contract excludes."""

    error: str
    at: float


Record: TypeAlias = Sent | Acknowledged | Unknown | Refused | Conflict | EngineFlow | Unexpected

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def told(event: FlowEvent) -> Told:
    """Return the record of an event that the store returned."""
    return Told(
        event.event_id, event.version, event.seq, event.ts.isoformat(), content_hash(event.kind)
    )


class RecordFile:
    """Appends records, each with one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._torn = False

    def write(self, record: Record) -> None:
        line = msgspec.json.encode(record) + b"\n"
        if self._torn or os.write(self._file, line) != len(line):
            self._torn = True
            raise OSError("a record was written in part, and is the last of its file")

    def close(self) -> None:
        os.close(self._file)


def read_records(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """Read the whole records from `offset` on; also return the offset of the next one."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    return list(_decoded(data[:end])), offset + end


def _decoded(data: bytes) -> Iterator[Record]:
    for line in data.splitlines():
        yield _decoder.decode(line)


def now() -> float:
    """Return the time of a clock that all processes share and that is never set back."""
    return time.monotonic()

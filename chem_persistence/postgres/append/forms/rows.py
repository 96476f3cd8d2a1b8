"""Rows in PostgreSQL's binary form: the parameters of the statement `append_rows`.

Format: an array is its header and its elements, each with its size before it; an element is a row:
the number of its columns, then the type, the size and the bytes of each (array_recv and record_recv
in the PostgreSQL sources). Migration 0024 describes the columns. The types of the rows have other
numbers in each database, so none is named: the server takes those of its function's parameters.

Artifacts that are large together are left out: `copied_artifacts` stores them.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from chem_persistence.domain.events import FlowEventKind, StepFinished, StepStarted
from chem_persistence.domain.hash_chain import ChainLink
from chem_persistence.domain.instance import StepStatus
from chem_persistence.domain.step_rows import (
    WITHOUT_ROW,
    RetryChange,
    StepChange,
    execution_changes,
)
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.append_request import AppendRequest, Head
from chem_persistence.store.codec import StoredArtifact

__all__ = [
    "ROWS",
    "Form",
    "Produced",
    "Write",
    "append_rows",
    "check_leases",
    "numbered",
    "produced_artifacts",
]

Produced: TypeAlias = tuple[StoredArtifact, UUID, int]
"""An artifact, with the flow and the version of the event that produced it."""

Rows: TypeAlias = tuple[bytes, bytes, bytes | None, bytes | None, bytes | None]

APPEND_ROWS = statement("events/append_rows")

_json = msgspec.json.Encoder().encode
_flow_of = attrgetter("request.flow_id.int")
_seq = itemgetter(1)


class Write(msgspec.Struct, frozen=True, gc=False):
    """A request to append at `head`, with its chain links; `base` is the head before the batch.

    `end` is the head after it.
    """

    request: AppendRequest
    head: Head
    base: Head
    links: Sequence[ChainLink]
    end: Head


class Form(msgspec.Struct, frozen=True, gc=False):
    """How writes are sent: a statement, its parameters, and the seqs in the rows it returns."""

    query: str
    parameters: Callable[[Sequence[Write], float], tuple[tuple[object, ...], Sequence[Produced]]]
    """Of all writes, and of artifacts that have no more bytes together; returns the others too."""
    seqs: Callable[[Sequence[Write], Sequence[Any]], Sequence[int | None]]
    """Of each event in the order of the writes; None for what is not stored."""


_BOOL, _BYTEA, _INT8, _INT4, _TEXT = 16, 17, 20, 23, 25
_FLOAT8, _TIMESTAMPTZ, _UUID, _JSONB = 701, 1184, 2950, 3802
"""The numbers of built-in types, which are the same on every server (pg_type.dat)."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
"""A timestamptz is the number of microseconds since the epoch."""

_JSON_VERSION = 1
"""The first byte of a jsonb (jsonb_recv in the PostgreSQL sources)."""

_HEADER = Struct("!5i").pack  # dimensions, whether there are nulls, type, elements, first index
_HEADER_BYTES = 20
_COUNT = Struct("!i").pack
_INT4_AT = Struct("!i").unpack_from
_SEQS = Struct("!iq").iter_unpack  # size, seq
_FIELD = Struct("!2i").pack  # type, size
_JSON = Struct("!2ib").pack  # type, size, version
_UUID_FIELD = Struct("!2i16s").pack
_INT4_FIELD = Struct("!3i").pack
_INT8_FIELD = Struct("!2iq").pack
_FLOAT8_FIELD = Struct("!2id").pack

_EVENT = Struct("!i36si8s16s16s8s32s2ib").pack  # size; up to the version of payload
_PARTS_OF_EVENT = 3  # that, the payload and the metadata
_EVENT_BYTES = 36 + 4 + 8 + 16 + 16 + 8 + 32 + 9
_LATER_FLOW = Struct("!i36si8s32s32s").pack  # size; flow_id, version, hash; others
_HELD_FLOW = Struct("!i36si8s32s8s16s24s").pack  # the same with a lease
_NEW_FLOW = Struct("!i36si40s").pack
_STEP = Struct("!i12s16s8sq12s2i").pack  # size; flow_id, step_index, attempts; of step_id
_STEP_BYTES = 12 + 16 + 8 + 8 + 12 + 8

_EVENT_ID, _HASH, _LEASE = _FIELD(_UUID, 16), _FIELD(_BYTEA, 32), _FIELD(_UUID, 16)
_FLOW_ID_OF_7 = Struct("!3i").pack(7, _UUID, 16)  # the begin of the rows of flows and events
_VERSION = _FIELD(_INT4, 4)
_FLOW_ID_OF_10, _STEP_INDEX = Struct("!3i").pack(10, _UUID, 16), _FIELD(_INT8, 8)
_ONE_ATTEMPT, _NO_ATTEMPT = _INT4_FIELD(_INT4, 4, 1), _INT4_FIELD(_INT4, 4, 0)


def _null(data_type: int) -> bytes:
    return _FIELD(data_type, -1)


def _field(data_type: int, value: bytes) -> bytes:
    return _FIELD(data_type, len(value)) + value


def _jsonb(value: bytes) -> bytes:
    return _JSON(_JSONB, len(value) + 1, _JSON_VERSION) + value


_NO_TEXT, _NO_TIME, _NO_INT8 = _null(_TEXT), _null(_TIMESTAMPTZ), _null(_INT8)
_NO_BYTEA, _NO_JSON, _NO_UUID = _null(_BYTEA), _null(_JSONB), _null(_UUID)
_NO_HOLDER = _NO_UUID + _null(_FLOAT8)
_TRUE, _FALSE, _NO_BOOL = _field(_BOOL, b"\1"), _field(_BOOL, b"\0"), _null(_BOOL)
_STATUS = {status: _field(_TEXT, status.value.encode()) for status in StepStatus}
_NO_METADATA = _jsonb(b"{}")
_UNHELD, _NO_END = _NO_HOLDER + _NO_BOOL, _NO_TIME + _NO_JSON
_FREE = _NO_UUID + _UNHELD
_RUNNING = _STATUS[StepStatus.RUNNING] + _NO_INT8 + _NO_TEXT
_FINISHED = _STATUS[StepStatus.FINISHED] + _NO_INT8
_STARTED_BYTES = _STEP_BYTES + len(_RUNNING) + 16 + len(_NO_END)
_FINISHED_BYTES = _STEP_BYTES + len(_FINISHED) + 8 + len(_NO_TIME) + 16 + len(_NO_JSON)


def append_rows(writes: Sequence[Write], most_bytes: float) -> tuple[Rows, Sequence[Produced]]:
    """Return the parameters of `append_rows` but the last, and the artifacts that they lack.

    A flow's writes are adjacent, and flows are in the order of their ids. The parameters have all
    artifacts or, if the bodies have more than `most_bytes` bytes together, none. Artifacts are in
    hash order.

    Raises:
        ValueError: the writes of a flow carry different leases.
    """
    flows: list[bytes] = []
    events: list[bytes] = []
    artifacts: list[Produced] = []
    retries: list[bytes] = []
    steps: list[bytes] = []
    for key, group in groupby(writes, key=_flow_of):
        run, flow = list(group), key.to_bytes(16, "big")
        begin, time = _FLOW_ID_OF_7 + flow + _VERSION, b""
        for write in run:
            time = _time(write.request.ts)
            _add_events(events, write, begin, time)
            if write.request.artifacts:
                artifacts += produced_artifacts(write)
        flows.append(_flow(begin, run))
        usual = _usual_steps(flow, run[0].request.kinds, time) if len(run) == 1 else None
        if usual is None:
            _add_changes(retries, steps, flow, run)
        else:
            steps += usual
    left_out: Sequence[Produced] = ()
    if artifacts:
        size = 0
        for artifact, _, _ in artifacts:
            size += len(artifact.payload or artifact.content or b"")
        if len(artifacts) > 1:
            artifacts.sort(key=lambda produced: produced[0].hash)
        if size > most_bytes:
            artifacts, left_out = [], artifacts
    return (
        _array(flows, len(flows)),
        _array(events, len(events) // _PARTS_OF_EVENT),
        _array(map(_artifact, artifacts), len(artifacts)) if artifacts else None,
        _array(retries, len(retries)) if retries else None,
        _array(steps, len(steps)) if steps else None,
    ), left_out


def _add_changes(
    retries: list[bytes], steps: list[bytes], flow: bytes, run: Sequence[Write]
) -> None:
    pending, changed = execution_changes(
        [(kind, write.request.ts) for write in run for kind in write.request.kinds]
    )
    retries += [_retry(flow, change) for change in pending]
    steps += [_step(flow, change) for change in changed]


def _returned(_: Sequence[Write], rows: Sequence[Any]) -> Sequence[int | None]:
    ((seqs,),) = rows
    (has_nulls,) = _INT4_AT(seqs, 4)
    if not has_nulls:
        return list(map(_seq, _SEQS(memoryview(seqs)[_HEADER_BYTES:])))
    found: list[int | None] = []
    place = _HEADER_BYTES
    while place < len(seqs):
        (size,) = _INT4_AT(seqs, place)
        found.append(None if size < 0 else int.from_bytes(seqs[place + 4 : place + 12], "big"))
        place += 4 + max(size, 0)
    return found


ROWS = Form(APPEND_ROWS, append_rows, _returned)


def numbered(writes: Sequence[Write], seqs: Sequence[int | None]) -> dict[tuple[int, int], int]:
    """Return the seqs of those events that are stored, by flow and version."""
    events = [
        (write.request.flow_id.int, write.head.version + index)
        for write in writes
        for index in range(len(write.links))
    ]
    return {event: seq for event, seq in zip(events, seqs, strict=True) if seq is not None}


def check_leases(run: Sequence[Write]) -> None:
    """Check that the writes of a flow carry the same lease, or none.

    Raises:
        ValueError: they do not. If one lease is stale, the events after its own would be stored
            without them, and the flow's versions have a gap.
    """
    if len(run) > 1 and len({write.request.lease for write in run}) > 1:
        flow_id = run[0].request.flow_id
        raise ValueError(f"the appends to flow {flow_id} carry different leases")


def produced_artifacts(write: Write) -> list[Produced]:
    """Return the artifacts of a write, each with the event that produced it."""
    flow_id, first = write.request.flow_id, write.head.version
    return [(artifact, flow_id, first + producer) for producer, artifact in write.request.artifacts]


def _array(parts: Iterable[bytes], count: int) -> bytes:
    """Return an array of `count` rows, whose type the server knows from the parameter."""
    return _HEADER(1, 0, 0, count, 1) + b"".join(parts)


def _row(columns: int, *parts: bytes) -> bytes:
    row = _COUNT(columns) + b"".join(parts)
    return _COUNT(len(row)) + row


def _add_events(events: list[bytes], write: Write, begin: bytes, time: bytes) -> None:
    """Add the events of a write, all of which have the same first columns and the same time."""
    request, version = write.request, write.head.version
    metadata, first = request.metadata, request.first_metadata
    last = rest = _NO_METADATA if metadata == b"{}" else _jsonb(metadata)
    if first is not metadata:
        last = _jsonb(first)
    for payload, event_id, link in zip(
        request.payloads, request.event_ids, write.links, strict=True
    ):
        size = len(payload)
        events += (
            _EVENT(
                _EVENT_BYTES + size + len(last),
                begin,
                version,
                _EVENT_ID,
                event_id.int.to_bytes(16, "big"),
                time,
                _HASH,
                link.hash,
                _JSONB,
                size + 1,
                _JSON_VERSION,
            ),
            payload,
            last,
        )
        version += 1
        last = rest


def _flow(begin: bytes, run: Sequence[Write]) -> bytes:
    base, request = run[0].base, run[0].request
    version = base.version
    if len(run) > 1:
        check_leases(run)
    if request.lease is None:
        if version:
            return _LATER_FLOW(112, begin, version, _HASH, base.link, _FREE)
        return _NEW_FLOW(80, begin, 0, _NO_BYTEA + _FREE)
    lease, holder = request.lease.int.to_bytes(16, "big"), _NO_HOLDER
    if request.hold is not None and request.begins:
        seconds = _FLOAT8_FIELD(_FLOAT8, 8, request.hold.seconds)
        holder = _UUID_FIELD(_UUID, 16, request.hold.holder.bytes) + seconds
    keeps = _TRUE if any(write.request.keeps for write in run) else _NO_BOOL
    if version and holder is _NO_HOLDER and keeps is _NO_BOOL:
        return _HELD_FLOW(128, begin, version, _HASH, base.link, _LEASE, lease, _UNHELD)
    link = _field(_BYTEA, base.link) if version else _NO_BYTEA
    row = b"".join((begin, _COUNT(version), link, _LEASE, lease, holder, keeps))
    return _COUNT(len(row)) + row


def _usual_steps(flow: bytes, facts: Sequence[FlowEventKind], time: bytes) -> list[bytes] | None:
    """Return the changes of steps' rows by an append, or None if `execution_changes` has to do it.

    It makes the same of starts and successes of different steps, in five times the time.
    """
    steps: dict[int, bytes] = {}
    for fact in facts:
        if type(fact) is StepStarted:
            step = _started(flow, fact, time)
        elif type(fact) is StepFinished:
            step = _finished(flow, fact, time)
        elif type(fact) in WITHOUT_ROW:
            continue
        else:
            return None
        if fact.step_index in steps:
            return None
        steps[fact.step_index] = step
    return list(steps.values())


def _started(flow: bytes, fact: StepStarted, time: bytes) -> bytes:
    step_id = fact.step_id.encode()
    size = len(step_id)
    begin = _begin_step(flow, fact.step_index, _ONE_ATTEMPT, size, _STARTED_BYTES + size)
    return b"".join((begin, step_id, _RUNNING, time, _NO_END))


def _finished(flow: bytes, fact: StepFinished, time: bytes) -> bytes:
    step_id, fingerprint = fact.step_id.encode(), fact.fingerprint.encode()
    size, more = len(step_id), len(fingerprint)
    begin = _begin_step(flow, fact.step_index, _NO_ATTEMPT, size, _FINISHED_BYTES + size + more)
    text = _FIELD(_TEXT, more)
    return b"".join((begin, step_id, _FINISHED, text, fingerprint, _NO_TIME, time, _NO_JSON))


def _text(value: str) -> bytes:
    return _field(_TEXT, value.encode())


def _time(value: datetime) -> bytes:
    return _INT8_FIELD(_TIMESTAMPTZ, 8, (value - _EPOCH) // _MICROSECOND)


def _artifact(produced: Produced) -> bytes:
    artifact, flow_id, version = produced
    is_jsonb = artifact.payload is not None and not artifact.is_verbatim
    content = artifact.payload if artifact.is_verbatim else artifact.content
    return _row(
        9,
        _UUID_FIELD(_UUID, 16, flow_id.bytes),
        _INT4_FIELD(_INT4, 4, version),
        _TRUE if artifact.is_verbatim else _FALSE,
        _field(_TEXT, artifact.hash.encode()),
        _field(_TEXT, artifact.kind.encode()),
        _field(_TEXT, artifact.media_type.encode()),
        _jsonb(artifact.metadata),
        _jsonb(artifact.payload) if artifact.payload is not None and is_jsonb else _NO_JSON,
        _NO_BYTEA if content is None else _field(_BYTEA, content),
    )


def _retry(flow: bytes, change: RetryChange) -> bytes:
    return _row(
        3,
        _UUID_FIELD(_UUID, 16, flow),
        _INT8_FIELD(_INT8, 8, change.retry_count),
        _text(change.step_id),
    )


def _step(flow: bytes, change: StepChange) -> bytes:
    step_id, count = change.step_id.encode(), change.retry_count
    rest = b"".join(
        (
            step_id,
            _STATUS[change.status],
            _NO_INT8 if count is None else _INT8_FIELD(_INT8, 8, count),
            _NO_TEXT if change.fingerprint is None else _text(change.fingerprint),
            _NO_TIME if change.started_at is None else _time(change.started_at),
            _NO_TIME if change.finished_at is None else _time(change.finished_at),
            _NO_JSON if change.error is None else _jsonb(_json(change.error)),
        )
    )
    attempts, size = _INT4_FIELD(_INT4, 4, change.attempts), _STEP_BYTES + len(rest)
    return _begin_step(flow, change.step_index, attempts, len(step_id), size) + rest


def _begin_step(flow: bytes, index: int, attempts: bytes, id_size: int, size: int) -> bytes:
    """Return a step's row, of `size` bytes, up to the size of its step_id."""
    return _STEP(size, _FLOW_ID_OF_10, flow, _STEP_INDEX, index, attempts, _TEXT, id_size)

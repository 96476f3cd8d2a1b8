"""JSON documents: the parameters of the statement `append_events`, made here and nowhere else.

They say what `rows` says in PostgreSQL's binary form, on the connections of other programs, whose
driver does not take that form; earlier versions of the library send nothing else.

The document of an event begins with the bytes that the hash chain hashes. The body of an artifact
is sent beside its document, not in it, so that the server parses it once. Artifacts that are large
together are left out: `copied_artifacts` stores them.
"""

from binascii import hexlify
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from chem_persistence.domain.events import FlowEventKind
from chem_persistence.domain.step_rows import RetryChange, StepChange, execution_changes
from chem_persistence.postgres.append.forms.rows import (
    Form,
    Produced,
    Write,
    check_leases,
    produced_artifacts,
)
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.append_request import AppendRequest
from chem_persistence.store.codec import StoredArtifact

__all__ = ["DOCUMENTS", "append_documents"]

Documents: TypeAlias = tuple[
    str,
    str | None,
    Sequence[str | None] | None,
    Sequence[bytes | None] | None,
    str | None,
    str | None,
]

APPEND_EVENTS = statement("events/append_events")

_json = msgspec.json.Encoder().encode


def append_documents(
    writes: Sequence[Write], most_bytes: float
) -> tuple[Documents, Sequence[Produced]]:
    """Return the parameters of `append_events` but the last, and the artifacts that they lack.

    A flow's writes are adjacent. The parameters have all artifacts or, if the bodies have more than
    `most_bytes` bytes together, none. Artifacts are in hash order.

    Raises:
        ValueError: the writes of a flow carry different leases.
    """
    events: list[bytes] = []
    artifacts: list[Produced] = []
    retries: list[bytes] = []
    steps: list[bytes] = []
    for _, group in groupby(writes, key=lambda write: write.request.flow_id.int):
        run = list(group)
        flow_id = run[0].request.flow_id
        check_leases(run)
        facts: list[tuple[FlowEventKind, datetime]] = []
        for write in run:
            events += _event_documents(write)
            facts += [(kind, write.request.ts) for kind in write.request.kinds]
            artifacts += produced_artifacts(write)
        pending, changed = execution_changes(facts)
        retries += [_change_document(flow_id, change) for change in pending]
        steps += [_change_document(flow_id, change) for change in changed]
    artifacts.sort(key=lambda produced: produced[0].hash)
    sizes = [len(each.payload or each.content or b"") for each, _, _ in artifacts]
    is_large = sum(sizes) > most_bytes
    documents: list[bytes] = []
    payloads: list[str | None] = []
    contents: list[bytes | None] = []
    for artifact, producing_flow, version in () if is_large else artifacts:
        documents.append(_artifact_document(artifact, producing_flow, version))
        # as text: to send an array of jsonb the driver needs a round trip a connection
        is_jsonb = artifact.payload is not None and not artifact.is_verbatim
        payloads.append(artifact.payload.decode() if artifact.payload and is_jsonb else None)
        contents.append(artifact.payload if artifact.is_verbatim else artifact.content)
    return (
        # JSON without spaces has no line break: the database counts the events by them
        (b"[%b]" % b"\n,".join(events)).decode(),
        _array(documents) if documents else None,
        payloads or None,
        contents or None,
        _array(retries) if retries else None,
        _array(steps) if steps else None,
    ), artifacts if is_large else ()


def _returned(writes: Sequence[Write], rows: Sequence[Any]) -> Sequence[int | None]:
    seqs = {(flow_id.int, version): seq for flow_id, version, seq in rows}
    return [
        seqs.get((write.request.flow_id.int, write.head.version + index))
        for write in writes
        for index in range(len(write.links))
    ]


DOCUMENTS = Form(APPEND_EVENTS, append_documents, _returned)


def _event_documents(write: Write) -> list[bytes]:
    base, request = write.base, write.request
    place = b'"first_version":%d,"previous_hash":"\\\\x%b"%b}' % (
        base.version,
        hexlify(base.link),
        b"" if request.lease is None else _lease(request.lease, request),
    )
    return [
        b'%b,"chain_hash":"\\\\x%b",%b' % (link.content[:-1], hexlify(link.hash), place)
        for link in write.links
    ]


def _lease(token: UUID, request: AppendRequest) -> bytes:
    """Return the members of an event that say by which lease it is appended, or which it takes."""
    lease, hold = b',"lease":"%b"' % str(token).encode(), request.hold
    if hold is None:
        return lease
    if request.begins:
        lease += b',"holder":"%b","seconds":%r' % (str(hold.holder).encode(), hold.seconds)
    return lease + b',"keeps":true' if request.keeps else lease


def _artifact_document(artifact: StoredArtifact, flow_id: UUID, version: int) -> bytes:
    return (
        b'{"artifact_hash":%b,"kind":%b,"media_type":%b,"metadata":%b,"flow_id":%b,"version":%d%b}'
        % (
            _json(artifact.hash),
            _json(artifact.kind),
            _json(artifact.media_type),
            artifact.metadata,
            _json(flow_id),
            version,
            b',"content_is_payload":true' if artifact.is_verbatim else b"",
        )
    )


def _change_document(flow_id: UUID, change: RetryChange | StepChange) -> bytes:
    return b'{"flow_id":%b,%b' % (_json(flow_id), _json(change)[1:])


def _array(documents: Iterable[bytes]) -> str:
    return (b"[%b]" % b",".join(documents)).decode()

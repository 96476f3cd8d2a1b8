"""Large artifacts, which COPY stores: they are sent in pieces.

The driver copies the parameters of a statement several times, in one call that would block the
event loop for longer than others can wait. With COPY no call handles more than a piece. The rows
are those that `append_rows` stores.
"""

from collections.abc import Iterator, Mapping, Sequence
from struct import pack
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from chem_persistence.errors import StoreError, StoreUnavailable
from chem_persistence.postgres.append.forms.rows import Produced
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.transaction import transaction
from chem_persistence.postgres.schema.distribution import is_distributed
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import LARGE_BYTES
from chem_persistence.store.codec import StoredArtifact

__all__ = ["MOST_BYTES", "can_copy", "copy_artifacts"]

END_WITH_CLIENT = statement("uploads/end_with_client")
FIND_STORED_ARTIFACTS = statement("artifacts/find_stored_artifacts")
LOCK_ARTIFACT = statement("uploads/lock_artifact")
USE_ARTIFACTS = statement("artifacts/use_artifacts")

MOST_BYTES = 4 * 2**20
"""The bodies of the artifacts of one statement have at most this many bytes together (4 MiB).

So an append that needs COPY is in a batch of its own: a batch of several appends has no more.
"""

PIECE_BYTES = 2**18
"""The size of a piece: the driver copies 256 KiB in less than a millisecond."""

ATTEMPTS = 10
"""How often the rows are copied while other writers store some of them first."""

_TABLE = "workflow_step_artifacts"
_COLUMNS = (
    "artifact_hash",
    "kind",
    "payload",
    "content",
    "content_is_payload",
    "media_type",
    "metadata",
    "flow_id",
    "produced_in_seq",
)

_HEADER = b"PGCOPY\n\xff\r\n\0" + pack("!ii", 0, 0)
_TRAILER = pack("!h", -1)
_FIELDS = pack("!h", len(_COLUMNS))
_NULL = pack("!i", -1)
_JSONB = b"\x01"
"""The version that a binary jsonb begins with (jsonb_recv in the PostgreSQL sources)."""


class _Row(msgspec.Struct, frozen=True, gc=False):
    """A row to store, with the seq of the event that produced the artifact."""

    artifact: StoredArtifact
    flow_id: UUID
    seq: int


def can_copy(connection: Connection) -> bool:
    """Return whether a connection can send rows in pieces, as those of `build_pool` can."""
    return hasattr(connection, "copy_rows")


async def copy_artifacts(
    connection: Any, artifacts: Sequence[Produced], seqs: Mapping[tuple[int, int], int]
) -> None:
    """Store the artifacts of events that this transaction has stored, unless they are stored.

    `artifacts` are in hash order, `seqs` are the events' by flow and version. COPY knows no ON
    CONFLICT. So writers of the same large artifact wait for each other before they send it; a
    smaller one, or that of a writer that does not use COPY, collides and is then left out. The flow
    is recorded as a user of those that others have stored.

    Raises:
        StoreError: if a trigger keeps an artifact from being stored.
        StoreUnavailable: if other writers stored one of them again and again.
        asyncpg.LockNotAvailableError: if another writer's lock was not free in time.
        asyncpg.FeatureNotSupportedError: if the database does not permit COPY.
    """
    rows = [
        _Row(artifact, flow_id, seqs[flow_id.int, version])
        for artifact, flow_id, version in artifacts
        if (flow_id.int, version) in seqs
    ]
    if not rows:
        return
    by_flow = await is_distributed(connection)
    await connection.fetch(END_WITH_CLIENT)
    for artifact_hash in dict.fromkeys(row.artifact.hash for row in rows if _is_large(row)):
        await connection.fetch(LOCK_ARTIFACT, artifact_hash)
    for _ in range(ATTEMPTS):
        missing = await _missing(connection, rows, by_flow=by_flow)
        try:
            async with transaction(connection):
                copied = len(missing) and await connection.copy_rows(
                    _TABLE, _COLUMNS, _pieces(missing)
                )
                if len(missing) < len(rows):
                    used = [(row.flow_id, row.artifact.hash) for row in rows]
                    await connection.fetch(USE_ARTIFACTS, *map(list, zip(*used, strict=True)))
        except (asyncpg.UniqueViolationError, asyncpg.ForeignKeyViolationError):
            continue  # other writers stored one, or one was archived
        if copied == len(rows) or not await _missing(connection, rows, by_flow=by_flow):
            return
        if copied < len(missing):
            raise StoreError(
                "a trigger of workflow_step_artifacts keeps artifacts from being stored; "
                "`chem-persistence doctor` names the triggers of others"
            )
    raise StoreUnavailable(f"other writers stored artifacts of flow {rows[0].flow_id} meanwhile")


def _is_large(row: _Row) -> bool:
    return len(row.artifact.payload or row.artifact.content or b"") > LARGE_BYTES


async def _missing(connection: Connection, rows: Sequence[_Row], *, by_flow: bool) -> list[_Row]:
    """Return the rows that are not stored, one of each key: the hash and, on Citus, the flow."""
    found = await connection.fetch(FIND_STORED_ARTIFACTS, list({row.artifact.hash for row in rows}))
    stored = {(row["artifact_hash"], row["flow_id"] if by_flow else None) for row in found}
    missing: dict[tuple[str, UUID | None], _Row] = {}
    for row in rows:
        key = (row.artifact.hash, row.flow_id if by_flow else None)
        if key not in stored:
            missing.setdefault(key, row)
    return list(missing.values())


def _pieces(rows: Sequence[_Row]) -> Iterator[bytes | memoryview]:
    """Yield rows in the binary format of COPY (PostgreSQL manual, COPY, "Binary Format")."""
    waiting = bytearray(_HEADER)
    for row in rows:
        waiting += _FIELDS
        for field in _fields(row):
            if field is None:
                waiting += _NULL
                continue
            waiting += pack("!i", sum(map(len, field)))
            for part in field:
                if len(part) <= PIECE_BYTES:
                    waiting += part
                else:
                    yield bytes(waiting)
                    waiting.clear()
                    yield from _cut(part)
                if len(waiting) > PIECE_BYTES:
                    yield bytes(waiting)
                    waiting.clear()
    yield bytes(waiting + _TRAILER)


def _cut(value: bytes) -> Iterator[memoryview]:
    whole = memoryview(value)
    for start in range(0, len(whole), PIECE_BYTES):
        yield whole[start : start + PIECE_BYTES]


def _fields(row: _Row) -> tuple[tuple[bytes, ...] | None, ...]:
    """Return the values of the columns, each in parts; None is NULL."""
    artifact = row.artifact
    is_jsonb = artifact.payload is not None and not artifact.is_verbatim
    content = artifact.payload if artifact.is_verbatim else artifact.content
    return (
        (artifact.hash.encode(),),
        (artifact.kind.encode(),),
        (_JSONB, artifact.payload or b"") if is_jsonb else None,
        None if content is None else (content,),
        (b"\x01" if artifact.is_verbatim else b"\x00",),
        (artifact.media_type.encode(),),
        (_JSONB, artifact.metadata),
        (row.flow_id.bytes,),
        (pack("!q", row.seq),),
    )

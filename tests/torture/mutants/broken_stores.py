"""Variants of the write path that break one guarantee; a test replaces the sound path by one."""

from collections.abc import Sequence

import msgspec
from uuid_utils.compat import uuid7

from chem_persistence.postgres.append import place_events as write_path
from chem_persistence.postgres.append.forms.rows import Write, numbered
from chem_persistence.postgres.append.place_events import FlowHeads
from chem_persistence.postgres.append.settle import Outcome
from chem_persistence.postgres.connection.ports import Connection
from tests.support.faults.proxy import Message

__all__ = ["artifacts_afterwards", "stores_artifacts", "with_new_ids"]

STORE_ARTIFACT = """
    INSERT INTO workflow_step_artifacts
        (artifact_hash, kind, payload, media_type, metadata, flow_id, produced_in_seq)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

sound_append_batch = write_path.append_batch
sound_insert = write_path._insert


async def with_new_ids(
    connection: Connection,
    appends: Sequence[write_path.Append],
    heads: FlowHeads,
    patience: float | None = None,
) -> dict[write_path.Append, Outcome]:
    """Break the idempotency: each attempt has new event ids."""
    for append in appends:
        ids = tuple(uuid7() for _ in append.request.kinds)
        append.request = msgspec.structs.replace(append.request, event_ids=ids)
    return await sound_append_batch(connection, appends, heads, patience)


async def artifacts_afterwards(
    connection: Connection, writes: Sequence[Write], patience: float | None
) -> Sequence[int | None]:
    """Break the single transaction: the artifacts are stored after the commit of the events."""
    bare = [
        msgspec.structs.replace(write, request=msgspec.structs.replace(write.request, artifacts=()))
        for write in writes
    ]
    seqs = await sound_insert(connection, bare, patience)
    stored = numbered(writes, seqs)
    for write in writes:
        for producer, artifact in write.request.artifacts:
            flow_id = write.request.flow_id
            seq = stored.get((flow_id.int, write.head.version + producer))
            if seq is None:
                continue
            columns = (
                artifact.hash,
                artifact.kind,
                artifact.payload,
                artifact.media_type,
                artifact.metadata,
            )
            await connection.execute(STORE_ARTIFACT, *columns, flow_id, seq)
    return seqs


def stores_artifacts(message: Message) -> bool:
    """Match the statement by which the broken variant stores an artifact."""
    return message.type == "P" and b"INSERT INTO workflow_step_artifacts" in message.data

"""Variants of the write path with one guarantee taken out, to be put in its place by a test."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from uuid_utils.compat import uuid7

from chem_persistence.append_request import AppendRequest, Head
from chem_persistence.domain.executions import execution_changes
from chem_persistence.ports import Connection
from chem_persistence.postgres import append as write_path
from chem_persistence.postgres.rows import artifact_columns, step_columns
from chem_persistence.postgres.statements import PROJECT_STEPS, STORE_ARTIFACTS
from chem_persistence.postgres.transaction import transaction
from tests.support.proxy import Message

__all__ = ["artifacts_afterwards", "prepares_artifacts", "with_new_ids"]

Attempt = Callable[[Connection], Awaitable[write_path.Appended | write_path.Conflict]]


def with_new_ids(request: AppendRequest, head: Head) -> Attempt:
    """Break the idempotency: each attempt has event ids of its own."""

    async def attempt(connection: Connection) -> write_path.Appended | write_path.Conflict:
        ids = tuple(uuid7() for _ in request.kinds)
        renamed = msgspec.structs.replace(request, event_ids=ids)
        return await write_path.append(connection, renamed, head)

    return attempt


async def artifacts_afterwards(
    connection: Connection, request: AppendRequest, head: Head, links: Sequence[bytes]
) -> list[int]:
    """Break the single transaction: the artifacts come when the events are committed."""
    _, steps = execution_changes(request.kinds, request.ts)
    async with transaction(connection):
        seqs = await write_path._write_events(connection, request, head, links)
        if steps:
            await connection.execute(PROJECT_STEPS, *step_columns(request, steps))
    if request.artifacts:
        await connection.execute(STORE_ARTIFACTS, *artifact_columns(request, seqs))
    return seqs


def prepares_artifacts(message: Message) -> bool:
    """Match the statement that stores artifacts, when a connection sends it for the first time."""
    return message.type == "P" and b"INSERT INTO workflow_step_artifacts" in message.data

"""Search: flows and artifacts by a range of ids or hashes, and descriptions of artifacts."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.errors import ArtifactNotFound
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import Row
from chem_persistence.postgres.schema.distribution import is_distributed
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import decode_description
from chem_persistence.store.transfer.ports import ArtifactLabel

__all__ = [
    "HASH_DIGITS",
    "UUID_DIGITS",
    "ArtifactDescription",
    "describe_artifact",
    "describe_artifacts",
    "describe_flow_artifacts",
    "find_archived_flows",
    "find_artifacts",
    "find_definitions",
    "find_flows",
    "label_artifacts",
    "list_artifacts",
]

DESCRIBE_ARTIFACTS = statement("search/describe_artifacts")
DESCRIBE_FLOW_ARTIFACTS = statement("search/describe_flow_artifacts")
FIND_ARCHIVED_IDS = statement("archive/find_archived_ids")
FIND_ARTIFACTS = statement("search/find_artifacts")
FIND_DEFINITIONS = statement("search/find_definitions")
FIND_FLOWS = statement("search/find_flows")
FIND_NAMING_EVENTS = statement("search/find_naming_events")
LIST_ARTIFACTS = statement("search/list_artifacts")
LIST_ARTIFACTS_OF_FLOW = statement("search/list_artifacts_of_flow")
LIST_KEPT_ARTIFACTS_OF_FLOW = statement("search/list_kept_artifacts_of_flow")
WALK_DEFINITIONS = statement("search/walk_definitions")

UUID_DIGITS, HASH_DIGITS = 32, 64


class ArtifactDescription(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact without its body, and the event that it was stored with.

    `content_bytes` is None for JSON. `version` and `ts` are None if the flow is not in the log: it
    was archived. If it was imported since, they are those of the first event that names the
    artifact, and None if none does.
    """

    hash: str
    kind: str
    media_type: str
    content_bytes: int | None
    metadata: Mapping[str, Any]
    flow_id: UUID
    version: int | None
    ts: datetime | None


async def find_flows(provider: ConnectionProvider, digits: str, *, most: int) -> Sequence[UUID]:
    """Return the ids of at most `most` flows that begin with 1 to 32 hexadecimal digits.

    Raises:
        StoreUnavailable, StoreError: the log could not be read.
    """
    first, last = (UUID(digits.ljust(UUID_DIGITS, digit)) for digit in "0f")
    rows = await Session(provider).fetch(FIND_FLOWS, first, last, most)
    return [UUID(int=row["flow_id"].int) for row in rows]


async def find_archived_flows(
    provider: ConnectionProvider, digits: str, *, most: int
) -> Sequence[tuple[UUID, str]]:
    """Return archived flows whose ids begin with 1 to 32 digits, each with its bundle's SHA-256.

    Raises:
        StoreUnavailable, StoreError: the register could not be read.
    """
    first, last = (UUID(digits.ljust(UUID_DIGITS, digit)) for digit in "0f")
    rows = await Session(provider).fetch(FIND_ARCHIVED_IDS, first, last, most)
    return [(UUID(int=row["flow_id"].int), row["bundle_sha256"]) for row in rows]


async def find_artifacts(provider: ConnectionProvider, digits: str, *, most: int) -> Sequence[str]:
    """Return the hashes of at most `most` artifacts that begin with 1 to 64 digits.

    Raises:
        StoreUnavailable, StoreError: the artifacts could not be read.
    """
    rows = await Session(provider).fetch(FIND_ARTIFACTS, *_hashes(digits), most)
    return [row["artifact_hash"] for row in rows]


async def find_definitions(
    provider: ConnectionProvider, digits: str, *, most: int
) -> Sequence[str]:
    """Return the hashes of at most `most` flow definitions that begin with 1 to 64 digits.

    Raises:
        StoreUnavailable, StoreError: the log could not be read.
    """
    session = Session(provider)
    find = FIND_DEFINITIONS if await session.run(is_distributed) else WALK_DEFINITIONS
    rows = await session.fetch(find, *_hashes(digits), most)
    return [row["definition_hash"] for row in rows]


def _hashes(digits: str) -> tuple[str, str]:
    """Return the first and the last hash that begin with these digits."""
    return digits.ljust(HASH_DIGITS, "0"), digits.ljust(HASH_DIGITS, "f")


async def describe_artifact(
    provider: ConnectionProvider, artifact_hash: str
) -> ArtifactDescription:
    """Describe an artifact without reading its body.

    Raises:
        ArtifactNotFound: no artifact has this hash.
        ArtifactCorrupt: its metadata does not decode.
        StoreUnavailable, StoreError: the artifacts could not be read.
    """
    found = await describe_artifacts(provider, [artifact_hash])
    if artifact_hash not in found:
        raise ArtifactNotFound(artifact_hash)
    (described,) = await _with_naming_events(Session(provider), [found[artifact_hash]])
    return described


async def describe_artifacts(
    provider: ConnectionProvider, artifact_hashes: Sequence[str]
) -> Mapping[str, ArtifactDescription]:
    """Describe artifacts, by hash; hashes that no artifact has are left out.

    Raises:
        ArtifactCorrupt: the metadata of an artifact does not decode.
        StoreUnavailable, StoreError: the artifacts could not be read.
    """
    rows = await Session(provider).fetch(DESCRIBE_ARTIFACTS, list(artifact_hashes))
    return {row["hash"]: _description(row) for row in rows}


async def label_artifacts(
    provider: ConnectionProvider, hashes: Collection[str]
) -> Mapping[str, ArtifactLabel]:
    """Return the labels of artifacts, by hash; see `TransferStore.label_artifacts`."""
    described = await describe_artifacts(provider, list(hashes))
    return {
        name: ArtifactLabel(
            hash=name,
            kind=found.kind,
            media_type=found.media_type,
            is_json=found.content_bytes is None,
            metadata=canonical_json(found.metadata),
        )
        for name, found in described.items()
    }


async def describe_flow_artifacts(
    provider: ConnectionProvider, flow_id: UUID, artifact_hashes: Sequence[str]
) -> Mapping[str, tuple[ArtifactDescription, str | None, str | None]]:
    """Describe artifacts, and those stored with events of a flow, by hash, in one query.

    Each comes with the type of the event that it was stored with, and the id of that event's step.

    Raises:
        ArtifactCorrupt: the metadata of an artifact does not decode.
        StoreUnavailable, StoreError: the artifacts could not be read.
    """
    rows = await Session(provider).fetch(DESCRIBE_FLOW_ARTIFACTS, flow_id, list(artifact_hashes))
    return {row["hash"]: (_description(row), row["event_type"], row["step_id"]) for row in rows}


async def list_artifacts(
    provider: ConnectionProvider, kind: str | None, flow_id: UUID | None, *, limit: int
) -> Sequence[ArtifactDescription]:
    """Describe the artifacts that were stored last, the newest first.

    `kind` and `flow_id` choose those of one kind, and those stored with the events of one flow:
    of a flow that was archived those that stay, since other flows use them.

    Raises:
        ArtifactCorrupt: the metadata of an artifact does not decode.
        StoreUnavailable, StoreError: the artifacts could not be read.
    """
    session = Session(provider)
    if flow_id is None:
        return list(map(_description, await session.fetch(LIST_ARTIFACTS, kind, limit)))
    rows = await session.fetch(LIST_ARTIFACTS_OF_FLOW, kind, limit, flow_id)
    listed = list(map(_description, rows))
    if len(listed) < limit:  # those with numbers of events that were archived are older
        most = limit - len(listed)
        rows = await session.fetch(LIST_KEPT_ARTIFACTS_OF_FLOW, kind, most, flow_id)
        listed += await _with_naming_events(session, list(map(_description, rows)))
    return listed


async def _with_naming_events(
    session: Session, described: Sequence[ArtifactDescription]
) -> Sequence[ArtifactDescription]:
    """Return descriptions, those that lack an event with the first one that names the artifact."""
    lacking = [each for each in described if each.version is None]
    if not lacking:
        return described
    flow_ids, hashes = [each.flow_id for each in lacking], [each.hash for each in lacking]
    rows = await session.fetch(FIND_NAMING_EVENTS, flow_ids, hashes)
    found = {row["artifact_hash"]: {"version": row["version"], "ts": row["ts"]} for row in rows}
    return [
        each
        if each.version is not None
        else msgspec.structs.replace(each, **found.get(each.hash, {}))
        for each in described
    ]


def _description(row: Row) -> ArtifactDescription:
    metadata = decode_description(row["hash"], row["metadata"] or b"")
    fields = {name: row[name] for name in ArtifactDescription.__struct_fields__}
    return ArtifactDescription(**fields | {"metadata": metadata})

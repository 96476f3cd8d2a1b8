"""Search: flows and artifacts by a range of ids or hashes, and descriptions of artifacts."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.answers import KeptArtifact
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
    "list_all_artifacts",
    "list_artifacts",
]

DESCRIBE_ARTIFACTS = statement("search/describe_artifacts")
DESCRIBE_FLOW_ARTIFACTS = statement("search/describe_flow_artifacts")
FIND_ARCHIVED_IDS = statement("archive/find_archived_ids")
FIND_ARTIFACTS = statement("search/find_artifacts")
FIND_DEFINITIONS = statement("search/find_definitions")
FIND_FLOWS = statement("search/find_flows")
FIND_NAMING_EVENTS = statement("search/find_naming_events")
LIST_ARCHIVED = statement("archive/list_archived")
LIST_ARTIFACTS = statement("search/list_artifacts")
LIST_ARTIFACTS_OF_FLOW = statement("search/list_artifacts_of_flow")
LIST_KEPT_ARTIFACTS_OF_FLOW = statement("search/list_kept_artifacts_of_flow")
LIST_KEPT_ARTIFACTS_OF_FLOWS = statement("search/list_kept_artifacts_of_flows")
WALK_DEFINITIONS = statement("search/walk_definitions")
WALK_KEPT_ARTIFACTS = statement("search/walk_kept_artifacts")

UUID_DIGITS, HASH_DIGITS = 32, 64

FLOWS_A_PAGE = 1_000
"""How many archived flows are looked through at a time for artifacts that stayed."""

_AFTER_ALL = 2**63 - 1
"""Above every number of the register."""


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
    provider: ConnectionProvider, kind: str | None, flow_id: UUID, *, limit: int
) -> Sequence[ArtifactDescription]:
    """Describe the artifacts that were stored with the events of a flow, the newest first.

    `kind` chooses those of one kind. Of a flow that was archived there are those that stay, since
    other flows use them.

    Raises:
        ArtifactCorrupt: the metadata of an artifact does not decode.
        StoreUnavailable, StoreError: the artifacts could not be read.
    """
    session = Session(provider)
    rows = await session.fetch(LIST_ARTIFACTS_OF_FLOW, kind, limit, flow_id)
    listed = list(map(_description, rows))
    if len(listed) < limit:  # those with numbers of events that were archived are older
        most = limit - len(listed)
        rows = await session.fetch(LIST_KEPT_ARTIFACTS_OF_FLOW, kind, most, flow_id)
        listed += await _with_naming_events(session, list(map(_description, rows)))
    return listed


async def list_all_artifacts(
    provider: ConnectionProvider, kind: str | None, *, limit: int
) -> tuple[Sequence[ArtifactDescription], Sequence[KeptArtifact]]:
    """Describe the artifacts that were stored last, the newest first.

    `kind` chooses those of one kind. After those that were stored with events of the log come those
    that archived flows had stored, and that stay, the flow that was archived last first; where the
    flows of these are is the second result. They are looked for page by page of the register, until
    there are as many as asked for.

    Raises:
        ArtifactCorrupt: the metadata of an artifact does not decode.
        StoreUnavailable, StoreError: the artifacts could not be read.
    """
    session = Session(provider)
    listed = list(map(_description, await session.fetch(LIST_ARTIFACTS, kind, limit)))
    if len(listed) == limit:
        return listed, ()
    by_flow = await session.run(is_distributed)
    find = LIST_KEPT_ARTIFACTS_OF_FLOWS if by_flow else WALK_KEPT_ARTIFACTS
    kept: list[KeptArtifact] = []
    before, full = _AFTER_ALL, True
    while full and len(listed) < limit:
        flows = await session.fetch(LIST_ARCHIVED, before, FLOWS_A_PAGE)
        full = len(flows) == FLOWS_A_PAGE
        if not flows:
            break
        before, most = flows[-1]["archive_no"], limit - len(listed)
        ids = [flow["flow_id"] for flow in flows]
        rows = await session.fetch(find, kind, most, ids)
        bundles = {flow["flow_id"]: flow for flow in flows}
        stays = [
            _kept(row["hash"], bundles[row["flow_id"]]) for row in rows if not row["has_events"]
        ]
        gone = {each.flow_id for each in stays}
        listed += await _with_naming_events(session, list(map(_description, rows)), gone)
        kept += stays
    return listed, kept


def _kept(artifact_hash: str, flow: Row) -> KeptArtifact:
    return KeptArtifact(
        artifact_hash=artifact_hash,
        flow_id=UUID(int=flow["flow_id"].int),
        bundle_sha256=flow["bundle_sha256"],
        archived_at=flow["archived_at"],
    )


async def _with_naming_events(
    session: Session, described: Sequence[ArtifactDescription], gone: Collection[UUID] = ()
) -> Sequence[ArtifactDescription]:
    """Return descriptions, those that lack an event with the first one that names the artifact.

    `gone` are flows that are known to have no events.
    """
    lacking = [each for each in described if each.version is None and each.flow_id not in gone]
    if not lacking:
        return described
    flow_ids, hashes = [each.flow_id for each in lacking], [each.hash for each in lacking]
    rows = await session.fetch(FIND_NAMING_EVENTS, flow_ids, hashes)
    found = {
        (row["flow_id"], row["artifact_hash"]): {"version": row["version"], "ts": row["ts"]}
        for row in rows
    }
    return [
        each
        if each.version is not None
        else msgspec.structs.replace(each, **found.get((each.flow_id, each.hash), {}))
        for each in described
    ]


def _description(row: Row) -> ArtifactDescription:
    metadata = decode_description(row["hash"], row["metadata"] or b"")
    fields = {name: row[name] for name in ArtifactDescription.__struct_fields__}
    return ArtifactDescription(**fields | {"metadata": metadata})

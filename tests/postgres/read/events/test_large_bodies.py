"""Bodies that are read in pieces, also of rows that older versions of the library have stored."""

from itertools import repeat
from random import Random
from typing import TypeAlias

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ArtifactCorrupt,
    PgEventStore,
    PoolProvider,
    Tampering,
    canonical_json,
    verify_log,
)
from chem_persistence.postgres.read.artifacts import WHOLE_BYTES
from tests.support.faults.proxy import Fault, Message, Strike, proxied
from tests.support.flows.flows import new_flow_id
from tests.support.flows.large_artifacts import SAID, blob
from tests.support.servers.backends import postgres_backend

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

INSERT = """
    INSERT INTO workflow_step_artifacts (artifact_hash, kind, payload, content, media_type,
        metadata, flow_id, produced_in_seq)
    VALUES ($1, 'Old', $2::text::jsonb, $3, 'application/json', '{}', $4, $5)
"""
NUMBERS = [random() for random in repeat(Random(7).random, 250_000)]
REPEATED = {"text": "C1CCCCC1 " * 700_000, "é": ['"\\', 1e-300, 1.0]}

pytestmark = pytest.mark.one_row


async def insert(
    owner: Connection, store: PgEventStore, artifact: Artifact, content: bytes | None = None
) -> None:
    """Store a payload as JSONB, as the library did before migration 0009."""
    event = await store.append_kind(new_flow_id(), SAID)
    payload = canonical_json(artifact.payload).decode()
    await owner.execute(INSERT, artifact.hash, payload, content, event.flow_id, event.seq)


@pytest.mark.parametrize("payload", [NUMBERS, REPEATED], ids=["numbers", "repeated"])
async def test_a_large_payload_in_jsonb_is_read(
    owner: Connection, provider: PoolProvider, payload: object
) -> None:
    store, artifact = PgEventStore(provider), Artifact.from_payload(kind="Old", payload=payload)
    await insert(owner, store, artifact)
    assert await store.get_artifact(artifact.hash) == artifact
    assert [read async for read in store.get_artifacts([artifact.hash])] == [artifact]
    chunks = [chunk async for chunk in store.read_artifact(artifact.hash)]
    assert b"".join(chunks) == canonical_json(payload)
    assert (await verify_log(provider)).findings == []


async def test_a_large_payload_in_jsonb_comes_in_pieces(
    owner: Connection, provider: PoolProvider, database_url: str
) -> None:
    artifact, sizes = Artifact.from_payload(kind="Old", payload=NUMBERS), list[int]()
    await insert(owner, PgEventStore(provider), artifact)

    def note(message: Message) -> bool:
        sizes.append(len(message.data))
        return False

    async with proxied(database_url) as proxy, postgres_backend(proxy.url) as backend:
        proxy.arm(Fault(Strike.CUT_BEFORE, note))
        assert await backend.store.get_artifact(artifact.hash) == artifact
    assert max(sizes) < 2**19


@pytest.mark.parametrize("size", [WHOLE_BYTES, WHOLE_BYTES + 1, WHOLE_BYTES + 2**18])
async def test_a_large_content_that_was_changed_is_corrupt(
    owner: Connection, provider: PoolProvider, size: int
) -> None:
    store, artifact = PgEventStore(provider), blob(size)
    await store.append_kind(new_flow_id(), SAID, artifacts=[artifact])
    await owner.execute("ALTER TABLE workflow_step_artifacts DISABLE TRIGGER USER")
    await owner.execute(
        "UPDATE workflow_step_artifacts"
        " SET content = set_byte(content, 5, 255 - get_byte(content, 5))"
    )
    with pytest.raises(ArtifactCorrupt, match="has the hash"):
        await store.get_artifact(artifact.hash)
    with pytest.raises(ArtifactCorrupt, match="has the hash"):
        await anext(aiter(store.read_artifact(artifact.hash)))
    (read,) = [read async for read in store.get_artifacts([artifact.hash])]
    assert isinstance(read, ArtifactCorrupt)
    (finding,) = (await verify_log(provider)).findings
    assert finding.tampering is Tampering.ARTIFACT_ALTERED


async def test_a_row_with_two_large_bodies_is_corrupt(
    owner: Connection, provider: PoolProvider
) -> None:
    store, artifact = PgEventStore(provider), Artifact.from_payload(kind="Old", payload=NUMBERS)
    await owner.execute(
        "ALTER TABLE workflow_step_artifacts DROP CONSTRAINT workflow_step_artifacts_body_check"
    )
    await insert(owner, store, artifact, canonical_json(NUMBERS))
    with pytest.raises(ArtifactCorrupt, match="more than one body"):
        await store.get_artifact(artifact.hash)
    (finding,) = (await verify_log(provider)).findings
    assert finding.tampering is Tampering.ARTIFACT_ALTERED

"""A superuser who disables the triggers can change the log, but verification finds it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    FlowEventKind,
    InvalidArgument,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
)
from chem_persistence.domain.tampering import Tampering
from chem_persistence.postgres.audit.verification import Verification, verify_log
from chem_persistence.store.transfer.anchors import Anchor, read_anchors, writing_anchors
from tests.support.flows.flows import initialized

FLOWS = [UUID(int=n) for n in (1, 2, 3)]
VICTIM = FLOWS[1]
ARTIFACT = Artifact.from_payload(
    kind="Molecule", payload={"smiles": "CCO", "energy": 6.02214076e23}
)
BINARY = Artifact.from_content(
    kind="Spectrum", content=b"\x00\x01", media_type="application/octet-stream"
)

TAMPERINGS = {
    "a payload is changed": (
        (
            "UPDATE event_log SET payload = jsonb_set(payload, '{data}', '\"forged\"') "
            "WHERE flow_id = $1 AND version = 3"
        ),
        (Tampering.ALTERED, 3),
    ),
    "metadata is changed": (
        'UPDATE event_log SET metadata = \'{"actor": "Eve"}\' WHERE flow_id = $1 AND version = 3',
        (Tampering.ALTERED, 3),
    ),
    "a time is changed": (
        (
            "UPDATE event_log SET ts = ts - interval '1 microsecond' WHERE flow_id = $1 "
            "AND version = 0"
        ),
        (Tampering.ALTERED, 0),
    ),
    "a time is moved to where no datetime reaches": (
        "UPDATE event_log SET ts = '10000-01-01' WHERE flow_id = $1 AND version = 3",
        (Tampering.ALTERED, 3),
    ),
    "a time is made endless": (
        "UPDATE event_log SET ts = '-infinity' WHERE flow_id = $1 AND version = 3",
        (Tampering.ALTERED, 3),
    ),
    "an event id is changed": (
        "UPDATE event_log SET event_id = gen_random_uuid() WHERE flow_id = $1 AND version = 8",
        (Tampering.ALTERED, 8),
    ),
    "an event is put before all others of the log": (
        "UPDATE event_log SET seq = -seq WHERE flow_id = $1 AND version = 3",
        (Tampering.ALTERED, 3),
    ),
    "an event is put behind those that follow it": (
        "UPDATE event_log SET seq = seq + 1000 WHERE flow_id = $1 AND version = 4",
        (Tampering.ALTERED, 5),
    ),
    "a link is replaced": (
        "UPDATE event_log SET chain_hash = sha256('x') WHERE flow_id = $1 AND version = 4",
        (Tampering.ALTERED, 4),
    ),
    "an event is deleted": (
        "DELETE FROM event_log WHERE flow_id = $1 AND version = 4",
        (Tampering.MISSING, 4),
    ),
    "the first event is deleted": (
        "DELETE FROM event_log WHERE flow_id = $1 AND version = 0",
        (Tampering.MISSING, 0),
    ),
    "an event is deleted and the gap closed": (
        (
            "WITH gone AS (DELETE FROM event_log WHERE flow_id = $1 AND version = 4) "
            "UPDATE event_log SET version = version - 1 WHERE flow_id = $1 AND version > 4"
        ),
        (Tampering.MISSING, 4),
    ),
    "an event is slipped in": (
        (
            "WITH moved AS (UPDATE event_log SET version = version + 1 WHERE flow_id = $1 "
            "AND version >= 4 RETURNING 1) "
            "INSERT INTO event_log "
            "(flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash) "
            "SELECT flow_id, 4, gen_random_uuid(), ts, "
            "event_type, payload, metadata, sha256('forged') "
            "FROM event_log WHERE flow_id = $1 AND version = 3"
        ),
        (Tampering.INSERTED, 4),
    ),
    "two neighbours are exchanged": (
        (
            "UPDATE event_log SET version = CASE version WHEN 3 THEN 4 ELSE 3 END "
            "WHERE flow_id = $1 AND version IN (3, 4)"
        ),
        (Tampering.REORDERED, 3),
    ),
    "two events far apart are exchanged": (
        (
            "UPDATE event_log SET version = CASE version WHEN 2 THEN 7 ELSE 2 END "
            "WHERE flow_id = $1 AND version IN (2, 7)"
        ),
        (Tampering.REORDERED, 2),
    ),
}


def said(number: int) -> StepSignal:
    return StepSignal(0, "acquire", "said", {"n": number, "big": 1e16})


@pytest.fixture
async def store(provider: PoolProvider) -> PgEventStore:
    """Return a store with three flows of nine events that share artifacts."""
    store = PgEventStore(provider)
    outputs = (ARTIFACT.hash, BINARY.hash)
    for flow_id in FLOWS:
        kinds: list[FlowEventKind] = [initialized(), *(said(n) for n in range(5))]
        await store.append_kinds(flow_id, kinds, metadata={"actor": "Ada", "mass": 1e300})
        await store.append_kind(
            flow_id, StepFinished(0, "acquire", outputs, "f"), artifacts=[ARTIFACT, BINARY]
        )
        await store.append_kinds(flow_id, [said(7), said(8)], expected_version=7)
    return store


@pytest.fixture
async def intruder(
    store: PgEventStore,  # noqa: ARG001  # the log that is changed
    database_url: str,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Connect as a superuser without triggers, foreign keys and unique keys."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("ALTER TABLE event_log DROP CONSTRAINT event_log_flow_version_key")
    yield connection
    await connection.close()


def found(verification: Verification) -> list[tuple[UUID, Tampering, int]]:
    return [
        (finding.flow_id, finding.tampering, finding.version) for finding in verification.findings
    ]


async def anchored(provider: PoolProvider) -> list[Anchor]:
    heads: list[Anchor] = []
    await verify_log(provider, on_head=heads.append)
    return heads


@pytest.mark.usefixtures("store")
async def test_an_untouched_log_is_clean(provider: PoolProvider) -> None:
    verification = await verify_log(provider)
    assert verification.findings == []
    progress = verification.progress
    assert (progress.flows, progress.events, progress.artifacts) == (3, 27, 2)


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_it_is_found_and_named_when(
    tampering: str, provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    statement, (kind, version) = TAMPERINGS[tampering]
    await intruder.execute(statement, VICTIM)
    assert found(await verify_log(provider)) == [(VICTIM, kind, version)]
    assert found(await verify_log(provider, flow_ids=[VICTIM])) == [(VICTIM, kind, version)]
    assert found(await verify_log(provider, flow_ids=[FLOWS[0], FLOWS[2]])) == []


async def test_a_changed_event_type_is_found(
    provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await intruder.execute("ALTER TABLE event_log DROP CONSTRAINT event_log_check")
    await intruder.execute(
        "UPDATE event_log SET event_type = 'flowcompleted' WHERE flow_id = $1 AND version = 2",
        VICTIM,
    )
    assert found(await verify_log(provider)) == [(VICTIM, Tampering.ALTERED, 2)]


async def test_a_second_event_at_a_version_is_found(
    provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await intruder.execute(
        "INSERT INTO event_log "
        "(flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash) "
        "SELECT flow_id, version, gen_random_uuid(), ts, "
        "event_type, payload, metadata, sha256('x') "
        "FROM event_log WHERE flow_id = $1 AND version = 3",
        VICTIM,
    )
    assert found(await verify_log(provider)) == [(VICTIM, Tampering.INSERTED, 3)]


async def test_a_cut_tail_is_found_by_anchors(
    provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    anchors = await anchored(provider)
    await intruder.execute("DELETE FROM event_log WHERE flow_id = $1 AND version > 5", VICTIM)
    assert found(await verify_log(provider)) == []
    assert found(await verify_log(provider, anchors=anchors)) == [(VICTIM, Tampering.TRUNCATED, 6)]


@pytest.mark.parametrize("flow_id", FLOWS)
async def test_a_flow_that_vanished_is_found_by_anchors(
    flow_id: UUID, provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    anchors = await anchored(provider)
    await intruder.execute("DELETE FROM event_log WHERE flow_id = $1", flow_id)
    assert found(await verify_log(provider, anchors=anchors)) == [(flow_id, Tampering.TRUNCATED, 0)]


async def test_a_chain_that_was_computed_anew_is_found_by_anchors(
    provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    anchors = await anchored(provider)
    await intruder.execute("DELETE FROM event_log WHERE flow_id = $1 AND version > 5", VICTIM)
    await PgEventStore(provider).append_kinds(VICTIM, [said(60), said(70), said(80)])
    assert found(await verify_log(provider)) == []
    assert found(await verify_log(provider, anchors=anchors)) == [(VICTIM, Tampering.ALTERED, 8)]


@pytest.mark.usefixtures("store")
async def test_anchors_of_other_flows_than_those_that_are_verified_say_nothing(
    provider: PoolProvider,
) -> None:
    anchors = await anchored(provider)
    for flow_id in FLOWS:
        assert found(await verify_log(provider, flow_ids=[flow_id], anchors=anchors)) == []


async def test_a_named_flow_that_vanished_is_found_by_its_anchor(
    provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    anchors = await anchored(provider)
    await intruder.execute("DELETE FROM event_log WHERE flow_id = $1", VICTIM)
    verification = await verify_log(provider, flow_ids=[VICTIM], anchors=anchors)
    assert found(verification) == [(VICTIM, Tampering.TRUNCATED, 0)]


async def test_a_flow_that_went_on_satisfies_its_anchor(
    store: PgEventStore, provider: PoolProvider
) -> None:
    anchors = await anchored(provider)
    await store.append_kinds(VICTIM, [said(9), said(10)])
    assert found(await verify_log(provider, anchors=anchors)) == []


async def test_altered_artifacts_are_found(
    provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await intruder.execute(
        "UPDATE workflow_step_artifacts SET payload = '{}' WHERE artifact_hash = $1", ARTIFACT.hash
    )
    await intruder.execute(
        "UPDATE workflow_step_artifacts SET content = '' WHERE artifact_hash = $1", BINARY.hash
    )
    kinds = {
        (finding.tampering, finding.version) for finding in (await verify_log(provider)).findings
    }
    assert kinds == {(Tampering.ARTIFACT_ALTERED, 6)}


async def test_a_missing_artifact_is_found(
    provider: PoolProvider, intruder: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await intruder.execute(
        "DELETE FROM workflow_step_artifacts WHERE artifact_hash = $1", BINARY.hash
    )
    assert found(await verify_log(provider)) == [(FLOWS[0], Tampering.ARTIFACT_MISSING, 6)]


@pytest.mark.usefixtures("store")
async def test_anchor_files_are_read_as_they_were_written(
    provider: PoolProvider, tmp_path: Path
) -> None:
    anchors, file = await anchored(provider), tmp_path / "anchors.jsonl"
    with writing_anchors(file, datetime.now(UTC)) as writer:
        for anchor in anchors:
            writer.write(anchor)
    assert list(read_anchors(file)) == anchors
    assert len(anchors) == 3
    lines = file.read_bytes().splitlines(keepends=True)
    for forged in (
        lines[:-1],
        [*lines[:2], *lines[3:]],
        [*lines[:1], lines[1].replace(b"9", b"8"), *lines[2:]],
        [],
    ):
        file.write_bytes(b"".join(forged))
        with pytest.raises(InvalidArgument, match="anchors"):
            list(read_anchors(file))

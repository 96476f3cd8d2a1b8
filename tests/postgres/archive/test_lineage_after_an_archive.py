"""Lineage, descriptions and lists of artifacts that stay after their flow was archived."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PgReadModels,
    PoolProvider,
    StepFinished,
    StepSignal,
    StepStarted,
    archive_flows,
    build_pool,
    import_bundle,
)
from chem_persistence.postgres.read import search
from chem_persistence.postgres.read.search import (
    describe_artifact,
    list_all_artifacts,
    list_artifacts,
)
from tests.support.flows.flows import DEFINITION, new_flow_id

F = "f" * 64
SOURCE, MADE, NOTED, LATER = (
    Artifact.from_payload(kind=kind, payload=kind) for kind in ("Source", "Made", "Noted", "Later")
)


@pytest.fixture
async def provider_of_archivist(admin_url: str) -> AsyncIterator[PoolProvider]:
    """Yield connections that may archive."""
    async with await build_pool(admin_url) as pool:
        yield PoolProvider(pool)


async def ran(store: PgEventStore, source: Artifact, made: Artifact, *noted: Artifact) -> UUID:
    """Store a flow that made an artifact from its input, and noted others."""
    flow_id = new_flow_id()
    facts: list[FlowEventKind] = [
        FlowInitialized(DEFINITION.definition_hash, 3, source.hash),
        StepStarted(0, "acquire"),
        StepSignal(0, "acquire", "noted"),
    ]
    await store.append_kinds(flow_id, facts[:1], artifacts=[source])
    await store.append_kinds(flow_id, facts[1:], artifacts=list(noted))
    finished: list[FlowEventKind] = [StepFinished(0, "acquire", (made.hash,), F), FlowCompleted(F)]
    await store.append_kinds(flow_id, finished, artifacts=[made])
    return flow_id


async def test_lineage_names_the_bundle_and_is_whole_again_after_its_import(
    provider_of_archivist: PoolProvider, tmp_path: Path
) -> None:
    provider = provider_of_archivist
    store, models = PgEventStore(provider), PgReadModels(provider)
    first = await ran(store, SOURCE, MADE, NOTED)
    second = await ran(store, MADE, LATER, NOTED)
    whole = await models.ancestors(LATER.hash)
    assert [each.artifact_hash for each in whole.related] == [MADE.hash, SOURCE.hash]
    assert whole.kept == ()
    bundle = await archive_flows(store, [first], tmp_path, actor="Ada", patience=0)

    cut = await models.ancestors(LATER.hash)
    assert [(each.artifact_hash, each.flow_id) for each in cut.related] == [(MADE.hash, second)]
    (kept,) = cut.kept
    assert (kept.artifact_hash, kept.flow_id, kept.bundle_sha256) == (
        MADE.hash,
        first,
        bundle.sha256,
    )
    assert await models.producers(MADE.hash) == []
    described = await describe_artifact(provider, MADE.hash)
    assert (described.flow_id, described.version, described.ts) == (first, None, None)
    of_first = await list_artifacts(provider, None, first, limit=9)
    assert [(each.hash, each.version) for each in of_first] == [
        (MADE.hash, None),
        (NOTED.hash, None),
    ]
    assert await list_artifacts(provider, "Made", first, limit=1) == of_first[:1]

    await import_bundle(store, bundle.path)
    assert await models.ancestors(LATER.hash) == whole
    assert [each.flow_id for each in await models.producers(MADE.hash)] == [first]
    described = await describe_artifact(provider, MADE.hash)
    (event,) = [each for each in await store.list(first) if each.version == described.version]
    assert (event.event_type, described.ts) == ("stepfinished", event.ts)
    of_first = await list_artifacts(provider, None, first, limit=9)
    assert [(each.hash, each.version) for each in of_first] == [
        (SOURCE.hash, 0),
        (MADE.hash, 3),
        (NOTED.hash, None),  # no event names it
    ]
    await store.aclose()


async def test_a_list_of_all_artifacts_ends_with_those_of_archived_flows(
    provider_of_archivist: PoolProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = provider_of_archivist
    store = PgEventStore(provider)
    first = await ran(store, SOURCE, MADE)
    second = await ran(store, MADE, LATER, NOTED)
    await ran(store, LATER, NOTED, MADE)
    bundle = await archive_flows(store, [first], tmp_path, actor="Ada", patience=0)
    await import_bundle(store, bundle.path)
    await archive_flows(store, [first], tmp_path, actor="Ada", patience=0)
    later = await archive_flows(store, [second], tmp_path, actor="Ada", patience=0)
    await ran(store, Artifact.from_payload(kind="Fresh", payload=1), MADE)

    everything, where = await list_all_artifacts(provider, None, limit=99)
    kept = [(each.hash, each.flow_id, each.version) for each in everything[1:]]
    assert everything[0].kind == "Fresh"
    assert kept[-1] == (MADE.hash, first, None)
    assert {each[:2] for each in kept[:-1]} == {(LATER.hash, second), (NOTED.hash, second)}
    assert [(each.artifact_hash, each.flow_id, None) for each in where] == kept
    assert {each.bundle_sha256 for each in where[:-1]} == {later.sha256}
    monkeypatch.setattr(search, "FLOWS_A_PAGE", 1)
    assert await list_all_artifacts(provider, None, limit=99) == (everything, where)
    for limit in range(4):
        cut, _ = await list_all_artifacts(provider, None, limit=limit)
        assert cut == everything[:limit]
    of_kind, _ = await list_all_artifacts(provider, "Made", limit=9)
    assert [each.hash for each in of_kind] == [MADE.hash]

    await import_bundle(store, later.path)
    again, still = await list_all_artifacts(provider, None, limit=99)
    assert {each.flow_id for each in still} == {first}
    assert {each.hash for each in again} == {each.hash for each in everything}
    named = {each.hash: each.version for each in again}
    assert named[LATER.hash] is not None
    await store.aclose()

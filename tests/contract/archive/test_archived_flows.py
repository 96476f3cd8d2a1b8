"""Flows leave the log for a verified bundle, and come back from it, in every store."""

import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from chem_persistence import (
    ArchivedBundle,
    ArchiveHeld,
    Artifact,
    ArtifactNotFound,
    BranchCreated,
    EventsArchived,
    FeedPosition,
    FlowArchived,
    FlowCompleted,
    FlowDiffers,
    FlowEventKind,
    FlowInitialized,
    FlowNotCompleted,
    FlowParent,
    FlowSealed,
    InMemoryEventStore,
    InMemoryFlowRepository,
    InvalidArgument,
    NotArchived,
    ResultOrigin,
    StepFinished,
    StepWaits,
    StoreError,
    archive_ended,
    archive_flows,
    audit_archive,
    export_flows,
    import_bundle,
    seal_flow,
    verify_bundle,
)
from chem_persistence.domain.definition import definition_artifacts
from chem_persistence.store.leasing.children import CHILDREN, child_id
from chem_persistence.store.transfer.ports import FlowEnd
from chem_persistence.store.transfer.register import ArchivedFlow
from tests.contract.archive.conftest import Store, archived
from tests.support.archiving import LATE, ended_flow
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id

VALUE = Artifact.from_payload(kind="Value", payload={"n": 1.0})
FINISHED = StepFinished(0, "acquire", (VALUE.hash,), "f" * 64)


async def family(store: Store) -> tuple[UUID, UUID]:
    """Store a flow that ran a child; return both."""
    parent = new_flow_id()
    child = child_id(parent, 0, 0)
    begin = FlowInitialized(DEFINITION.definition_hash, 3, parent=FlowParent(parent, 0, 0))
    await store.append_kinds(child, [begin, LATE, FlowCompleted("f" * 64)], artifacts=[VALUE])
    waits = StepWaits(0, "acquire", None, {CHILDREN: 1})
    await store.append_kinds(parent, [initialized(), waits, FlowCompleted("f" * 64)])
    return parent, child


async def is_stored(store: Store, artifact_hash: str) -> bool:
    return artifact_hash in await store.label_artifacts([artifact_hash])


async def test_a_flow_leaves_and_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    flow_id, other = await ended_flow(store, [VALUE]), await ended_flow(store)
    bundle = await archived(store, tmp_path, flow_id)
    assert bundle.flows == (flow_id,)
    assert bundle.path == tmp_path / f"{bundle.sha256}.zip"
    assert list(tmp_path.iterdir()) == [bundle.path]
    report = verify_bundle(bundle.path)
    assert (report.findings, report.sha256) == ((), bundle.sha256)
    assert not await is_stored(store, VALUE.hash)
    before = [event.seq for event in await store.read_feed()]
    assert (await import_bundle(store, bundle.path)).new_flows == (flow_id,)
    assert (await import_bundle(store, bundle.path)).new_flows == ()
    back = await store.list(flow_id)
    assert min(event.seq for event in back) > max(before)
    assert await store.get_artifact(VALUE.hash) == VALUE
    with pytest.raises(FlowSealed):
        await store.append_kind(flow_id, LATE)
    again = await archived(store, tmp_path, flow_id)
    assert again == bundle, "the same events make the same bundle"
    rows = await store.find_archived([flow_id, other])
    assert [(row.flow_id, row.events, row.bundle_sha256, row.actor) for row in rows] == [
        (flow_id, 4, bundle.sha256, "Ada")
    ] * 2
    assert rows[0].last_seq < rows[1].first_seq
    assert rows == await store.read_register(0, 9)
    assert len(await store.list(other)) == 3
    audit = await audit_archive(store, tmp_path)
    assert (audit.findings, audit.flows, audit.bundles) == ([], 2, 1)


async def test_both_stores_archive_a_flow_in_the_same_bytes(store: Store, tmp_path: Path) -> None:
    there, flow_id = InMemoryEventStore(), await ended_flow(store, [VALUE])
    await seal_flow(store, flow_id)
    await export_flows(store, [flow_id], tmp_path / "sealed.zip")
    await import_bundle(there, tmp_path / "sealed.zip")
    (tmp_path / "sealed.zip").unlink()
    bundle = await archived(store, tmp_path, flow_id)
    assert await archived(there, tmp_path, flow_id) == bundle
    (own,), (other,) = [await each.find_archived([flow_id]) for each in (store, there)]
    assert (own.events, own.link) == (other.events, other.link)


async def test_who_reads_an_archived_flow_is_told(store: Store, tmp_path: Path) -> None:
    flow_id, other, unknown = await ended_flow(store), await ended_flow(store), new_flow_id()
    reading = aiter(store.iterate(flow_id))
    await anext(reading)
    bundle = await archived(store, tmp_path, flow_id)
    repository = InMemoryFlowRepository(store)

    async def iterated() -> None:
        async for _ in store.iterate(flow_id):
            pass

    async def exported() -> None:
        async for _ in store.stored_events(flow_id):
            pass

    async def in_a_transaction() -> None:
        async with store.transaction() as transaction:
            await transaction.list(flow_id)

    for told in (
        store.list(flow_id),
        store.list(flow_id, after_version=3),
        store.list_many([other, flow_id]),
        iterated(),
        exported(),
        in_a_transaction(),
        repository.load(flow_id, None, DEFINITION),
        store.append_kind(flow_id, initialized()),
        store.append_kind(flow_id, LATE, expected_version=4),
        archive_flows(store, [flow_id], tmp_path, actor="Ada"),
        seal_flow(store, flow_id),
    ):
        with pytest.raises(FlowArchived) as caught:
            await told
        assert (caught.value.flow_id, caught.value.bundle_sha256) == (flow_id, bundle.sha256)
    assert await store.list(unknown) == []
    assert set(await store.child_states([flow_id, other, unknown])) == {other}
    assert await store.child_outputs([flow_id]) == {}
    assert await store.cancelled_flows([flow_id]) == set()
    assert await store.branches([flow_id], 9) == {}
    assert await store.list_artifacts(flow_id) == []
    assert {event.flow_id for event in await store.read_feed()} == {other}


async def test_another_history_does_not_come_back_under_the_id(
    store: Store, tmp_path: Path
) -> None:
    """A bundle that was exported before the seal would let the flow go on."""
    flow_id = await ended_flow(store, [VALUE])
    await export_flows(store, [flow_id], tmp_path / "early.zip")
    bundle = await archived(store, tmp_path, flow_id)
    with pytest.raises(FlowDiffers):
        await import_bundle(store, tmp_path / "early.zip")
    assert await store.read_feed() == []
    await import_bundle(store, bundle.path)


async def test_a_flow_takes_its_children_along_and_a_child_does_not_go_alone(
    store: Store, tmp_path: Path
) -> None:
    parent, child = await family(store)
    with pytest.raises(InvalidArgument, match=f"is a child of flow {parent}"):
        await archived(store, tmp_path, child)
    assert len(await store.list(child)) == 3
    bundle = await archived(store, tmp_path, parent)
    assert set(bundle.flows) == {parent, child}
    assert await store.read_feed() == []


async def test_what_is_not_over_is_not_archived(store: Store, tmp_path: Path) -> None:
    flow_id, done = new_flow_id(), await ended_flow(store)
    await store.append_kind(flow_id, initialized())
    with pytest.raises(FlowNotCompleted):
        await archived(store, tmp_path, done, flow_id)
    assert list(tmp_path.iterdir()) == []
    assert len(await store.list(done)) == 3


async def test_a_sealed_flow_is_archived_at_its_head_and_a_lost_reply_is_found(
    store: Store,
) -> None:
    flow_id, other = await ended_flow(store), await ended_flow(store)
    unsealed = (await store.heads_at([(flow_id, 3)]))[0].link
    assert unsealed is not None
    await seal_flow(store, flow_id)
    head = (await store.heads_at([(flow_id, 4)]))[0]
    assert (head.events, head.link is None) == (4, False)
    end = FlowEnd(flow_id, 4, head.link or b"")
    for wrong in (FlowEnd(flow_id, 3, unsealed), FlowEnd(flow_id, 4, unsealed)):
        with pytest.raises(ArchiveHeld, match="of which the last is this seal"):
            await store.archive_sealed([wrong], bundle_sha256="b" * 64, actor="Ada")
    for _ in range(2):
        await store.archive_sealed([end], bundle_sha256="b" * 64, actor="Ada")
    assert len(await store.find_archived([flow_id])) == 1
    with pytest.raises(ArchiveHeld):
        await store.archive_sealed([end], bundle_sha256="c" * 64, actor="Ada")
    heads = await store.heads_at([(flow_id, 4), (other, 9)])
    assert [(each.events, each.link) for each in heads] == [(0, None), (3, None)]


async def test_flows_of_an_age_leave_in_batches_and_one_that_cannot_stays(
    store: Store, tmp_path: Path
) -> None:
    flow_ids = [await ended_flow(store, [VALUE]) for _ in range(5)]
    parent, child = await family(store)
    held, running = new_flow_id(), new_flow_id()
    begin = FlowInitialized(DEFINITION.definition_hash, 3, parent=FlowParent(held, 0, 0))
    await store.append_kind(child_id(held, 0, 0), begin)
    waits = StepWaits(0, "acquire", None, {CHILDREN: 1})
    await store.append_kinds(held, [initialized(), waits, FlowCompleted("f" * 64)])
    await store.append_kind(running, initialized())
    late = await ended_flow(store)
    last = (await store.list(late))[-1].ts
    assert await store.list_ended(last, limit=99) == sorted([*flow_ids, parent, held])
    ended = archive_ended(store, last, tmp_path, actor="Ada", batch=4, patience=0)
    outcomes = [outcome async for outcome in ended]
    (stays,) = [outcome for outcome in outcomes if isinstance(outcome, NotArchived)]
    assert (stays.flow_id, type(stays.error)) == (held, FlowNotCompleted)
    bundles = [outcome for outcome in outcomes if isinstance(outcome, ArchivedBundle)]
    gone = {flow_id for bundle in bundles for flow_id in bundle.flows}
    assert gone == {*flow_ids, parent, child}
    assert {bundle.path for bundle in bundles} == set(tmp_path.iterdir())
    left = {event.flow_id for event in await store.read_feed()}
    assert left == {held, child_id(held, 0, 0), running, late}
    nothing = archive_ended(
        store, datetime.now(UTC) - timedelta(days=90), tmp_path, actor="Ada", batch=4
    )
    assert [outcome async for outcome in nothing] == []


async def content() -> AsyncIterator[bytes]:
    yield b"frames"


async def streamed_flow(store: Store) -> tuple[UUID, str]:
    """Store a flow that is over with a streamed artifact; return both."""
    flow_id = new_flow_id()
    async with store.transaction() as transaction:
        frames = await transaction.put_stream(kind="Frames", chunks=content(), media_type="x/y")
        facts: list[FlowEventKind] = [initialized(), LATE, FlowCompleted("f" * 64)]
        await transaction.append_kinds(flow_id, facts, artifacts=[frames])
    return flow_id, frames.hash


async def test_an_artifact_stays_as_long_as_a_flow_uses_it(store: Store, tmp_path: Path) -> None:
    """Who brings it again uses it, alone or in a transaction, small or streamed."""
    first, second = [await ended_flow(store, [VALUE]) for _ in range(2)]
    third = new_flow_id()
    async with store.transaction() as transaction:
        facts: list[FlowEventKind] = [initialized(), LATE, FlowCompleted("f" * 64)]
        await transaction.append_kinds(third, facts, artifacts=[VALUE])
    streams = [await streamed_flow(store) for _ in range(2)]
    definitions = definition_artifacts(DEFINITION)
    defined = await ended_flow(store, definitions)
    for flow_id in (first, second):
        bundle = await archived(store, tmp_path, flow_id)
        with zipfile.ZipFile(bundle.path) as files:
            assert f"artifacts/{VALUE.hash}" in files.namelist()
        assert await store.get_artifact(VALUE.hash) == VALUE
    bundle = await archived(store, tmp_path, third)
    with pytest.raises(ArtifactNotFound):
        await store.get_artifact(VALUE.hash)
    await import_bundle(store, bundle.path)
    assert await store.get_artifact(VALUE.hash) == VALUE
    for flow_id, frames in streams:
        assert b"".join([part async for part in store.read_artifact(frames)]) == b"frames"
        await archived(store, tmp_path, flow_id)
    assert not await is_stored(store, streams[0][1])
    await archived(store, tmp_path, defined)
    assert [await is_stored(store, each.hash) for each in definitions] == [True] * len(definitions)


async def test_who_takes_a_result_over_uses_it_until_it_is_archived(
    store: Store, tmp_path: Path
) -> None:
    first = await ended_flow(store, [VALUE], more=[FINISHED])
    reused = StepFinished(0, "acquire", (VALUE.hash,), "f" * 64, reused_from=ResultOrigin(first, 2))
    second = await ended_flow(store, more=[reused])
    assert len(await store.find_results(["f" * 64])) == 1
    await archived(store, tmp_path, first)
    assert await store.find_results(["f" * 64]) == {}
    assert await is_stored(store, VALUE.hash)
    bundle = await archived(store, tmp_path, second)
    assert not await is_stored(store, VALUE.hash)
    for flow_id in (new_flow_id(), new_flow_id()):
        with pytest.raises(StoreError, match="was archived meanwhile"):
            await store.append_kinds(flow_id, [initialized(), reused])
        assert await store.list(flow_id) == []
    await import_bundle(store, bundle.path)  # what it took over comes along
    assert await store.get_artifact(VALUE.hash) == VALUE


async def test_a_follower_goes_on_and_is_told_what_it_has_missed(
    store: Store, tmp_path: Path
) -> None:
    seen = await ended_flow(store)
    await seal_flow(store, seen)
    missed, live = [await ended_flow(store) for _ in range(2)]
    half = (await store.list(missed))[0]
    position, number = await store.position(half.seq), half.seq
    await archived(store, tmp_path, seen, missed)
    assert await store.newest_that_holds([position]) == position
    with pytest.raises(EventsArchived) as told:
        await store.read_feed_page(position)
    assert (told.value.position, told.value.flows, told.value.count) == (position, [missed], 1)
    page = await store.read_feed_page(told.value.past_archive())
    assert [event.flow_id for event in page.events] == [live] * 3
    assert page.position.archived == 2
    with pytest.raises(EventsArchived) as all_told:
        await store.read_feed_page(FeedPosition.start())
    assert set(all_told.value.flows) == {seen, missed}
    assert [event.flow_id for event in await store.read_feed(after_seq=number)] == [live] * 3
    await archived(store, tmp_path, live)  # the position's own flow, which it had read to its end
    with pytest.raises(EventsArchived) as sealed:  # but for its seal
        await store.read_feed_page(page.position)
    bundle = await archived(store, tmp_path, await ended_flow(store))
    with pytest.raises(EventsArchived):
        await store.read_feed_page(sealed.value.past_archive())
    await import_bundle(store, bundle.path)
    position = (await store.position()).with_archived(4)
    assert (await store.read_feed_page(position)).events == []
    assert (await store.position()).archived == 4


async def test_an_export_with_its_tree_says_which_relatives_were_archived(
    store: Store, tmp_path: Path
) -> None:
    root, branch = new_flow_id(), await ended_flow(store)
    made = BranchCreated(branch, root, root, "acquire", "d" * 64)
    await store.append_kinds(root, [initialized(), made])
    bundle = await archived(store, tmp_path, branch)
    told = list[ArchivedFlow]()
    report = await export_flows(
        store, [root], tmp_path / "tree.zip", tree=True, on_left_out=told.append
    )
    assert [(row.flow_id, row.bundle_sha256) for row in told] == [(branch, bundle.sha256)]
    assert report.flows == 1
    await import_bundle(store, bundle.path)
    report = await export_flows(
        store, [root], tmp_path / "tree.zip", tree=True, on_left_out=told.append
    )
    assert (report.flows, len(told)) == (2, 1)

"""A bundle is taken in as a whole, by every store: ids, versions, times and links stay."""

import asyncio
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    ArtifactTooLarge,
    FlowCompleted,
    FlowDiffers,
    FlowEventKind,
    FlowInitialized,
    FlowNotFound,
    InMemoryEventStore,
    InvalidArgument,
    InvalidBundle,
    RetryScheduled,
    StepFinished,
    StepSignal,
    export_flows,
    flow_page,
    import_bundle,
)
from tests.support.bundles import (
    EVENTS,
    LARGE,
    SMALL_FLOW,
    chained,
    exported,
    rewritten,
    small_store,
    stored_events,
)
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.histories import PLAUSIBLE_KINDS, TickingClock
from tests.support.flows.sample_flow import FLOW_ID, sample_store
from tests.support.leases.desk import HOUR, Desk, failed
from tests.support.leases.desk import given as given_to_workers
from tests.support.leases.families import Add, Picky, mapped
from tests.support.leases.staff import chain, client_of, submit, working
from tests.support.servers.backends import Backend

VALUE = Artifact.from_payload(kind="Value", payload={"n": 1.0})


async def test_what_is_exported_elsewhere_has_the_same_bytes(desk: Desk, tmp_path: Path) -> None:
    before = await exported(await sample_store(), tmp_path / "a.zip", FLOW_ID)
    imported = await import_bundle(desk.store, tmp_path / "a.zip")
    assert (imported.flows, imported.new_flows, imported.new_events) == (1, (FLOW_ID,), 202)
    assert await exported(desk.store, tmp_path / "b.zip", FLOW_ID) == before
    there = InMemoryEventStore()
    await import_bundle(there, tmp_path / "b.zip")
    assert await exported(there, tmp_path / "c.zip", FLOW_ID) == before


async def test_links_times_and_metadata_stay_and_seqs_are_new(desk: Desk, tmp_path: Path) -> None:
    store = await small_store(artifacts=(LARGE,))
    await exported(store, tmp_path / "a.zip")
    await desk.store.append_kind(new_flow_id(), initialized())
    await import_bundle(desk.store, tmp_path / "a.zip")
    before, after = await stored_events(store), await stored_events(desk.store)
    assert [event.link for event in after] == [event.link for event in before]
    events = await desk.store.list(SMALL_FLOW)
    assert [replace(event, seq=0) for event in events] == [
        replace(event, seq=0) for event in await store.list(SMALL_FLOW)
    ]
    assert events[0].seq > 1
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    assert await desk.store.get_artifact(LARGE.hash) == LARGE


async def test_an_import_that_is_repeated_stores_nothing(desk: Desk, tmp_path: Path) -> None:
    await exported(await small_store(artifacts=(LARGE,)), tmp_path / "a.zip")
    await import_bundle(desk.store, tmp_path / "a.zip")
    before = await desk.store.read_feed()
    again = await import_bundle(desk.store, tmp_path / "a.zip")
    assert (again.flows, again.new_flows, again.new_events) == (1, (), 0)
    assert await desk.store.read_feed() == before


async def test_a_flow_that_went_on_elsewhere_goes_on_here(desk: Desk, tmp_path: Path) -> None:
    store = await small_store()
    await exported(store, tmp_path / "early.zip")
    await store.append_kind(SMALL_FLOW, StepSignal(1, "sleep", "late"), artifacts=[VALUE])
    await exported(store, tmp_path / "late.zip")
    await import_bundle(desk.store, tmp_path / "early.zip")
    late = await import_bundle(desk.store, tmp_path / "late.zip")
    assert (late.new_flows, late.new_events) == ((), 1)
    earlier = await import_bundle(desk.store, tmp_path / "early.zip")
    assert earlier.new_events == 0
    assert (
        await exported(desk.store, tmp_path / "again.zip") == (tmp_path / "late.zip").read_bytes()
    )


async def test_a_flow_with_other_events_is_refused_and_nothing_is_stored(
    desk: Desk, tmp_path: Path
) -> None:
    store, other = await small_store(), UUID(int=1)
    await store.append_kind(other, initialized())
    await exported(store, tmp_path / "a.zip")
    await import_bundle(desk.store, tmp_path / "a.zip")
    await desk.store.append_kind(SMALL_FLOW, StepSignal(1, "sleep", "here"))
    await store.append_kind(SMALL_FLOW, StepSignal(1, "sleep", "there"))
    await exported(store, tmp_path / "b.zip", other, SMALL_FLOW)
    with pytest.raises(FlowDiffers, match=f"{SMALL_FLOW}, version 5") as raised:
        await import_bundle(desk.store, tmp_path / "b.zip")
    assert (raised.value.flow_id, raised.value.version) == (SMALL_FLOW, 5)
    assert await desk.store.list(other) == []


async def test_no_worker_runs_an_imported_flow_by_itself(desk: Desk, tmp_path: Path) -> None:
    store, definition, flow_ids = InMemoryEventStore(), "e" * 64, [uuid4() for _ in range(4)]
    more: list[list[FlowEventKind]] = [
        [],
        [failed(), RetryScheduled("acquire", 1, "again")],
        [StepSignal(0, "acquire", "called")],
        [FlowCompleted("f" * 64)],
    ]
    for flow_id, kinds in zip(flow_ids, more, strict=True):
        await store.append_kinds(flow_id, [given_to_workers(-HOUR, definition), *kinds])
    await exported(store, tmp_path / "a.zip", *flow_ids)
    await import_bundle(desk.store, tmp_path / "a.zip")
    rows = [await desk.row(flow_id) for flow_id in flow_ids]
    assert [row and row.due for row in rows] == ["never", "never", "never", None]
    await desk.forget(flow_ids[0])
    await desk.leases.rebuild()
    assert await desk.leases.claim([definition], uuid4(), 10, HOUR) == []
    assert (await desk.seen(flow_ids[0])).due == "never"
    await desk.store.append_kind(flow_ids[1], StepSignal(0, "acquire", "go on"))
    assert (await desk.seen(flow_ids[1])).due == "now"


async def test_children_and_branches_come_along_with_a_tree(desk: Desk, tmp_path: Path) -> None:
    parent = mapped(Picky())
    flow_id = await submit(desk, parent, 3)
    async with working(desk, [parent]):
        await client_of(desk).result(parent, flow_id)
    alone = await export_flows(desk.store, [flow_id], tmp_path / "alone.zip")
    whole = await export_flows(desk.store, [flow_id], tmp_path / "tree.zip", tree=True)
    assert (alone.flows, whole.flows) == (1, 4)
    there = InMemoryEventStore()
    assert len((await import_bundle(there, tmp_path / "tree.zip")).new_flows) == 4
    await export_flows(there, [flow_id], tmp_path / "again.zip", tree=True)
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "tree.zip").read_bytes()
    assert await flow_page(there, flow_id)


async def test_a_branch_comes_along_with_its_parent(desk: Desk, tmp_path: Path) -> None:
    old, new = chain(Add(1), Add(2, "more")), chain(Add(1), Add(3, "more"))
    flow_id = await submit(desk, old, 1)
    async with working(desk, [old, new]):
        await client_of(desk).result(old, flow_id)
        branch = await client_of(desk).branch(flow_id, new, reason="more")
        await client_of(desk).result(new, branch)
    tree = await export_flows(desk.store, [flow_id], tmp_path / "tree.zip", tree=True)
    assert tree.flows == 2
    there = InMemoryEventStore()
    assert set((await import_bundle(there, tmp_path / "tree.zip")).new_flows) == {flow_id, branch}
    await exported(there, tmp_path / "again.zip", flow_id, branch)
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "tree.zip").read_bytes()
    alone = await export_flows(there, [branch], tmp_path / "branch.zip", tree=True)
    assert (alone.flows, alone.findings) == (1, ())


async def test_a_flow_is_not_exported_without_an_artifact_that_it_names(
    backend: Backend, tmp_path: Path
) -> None:
    flow_id = new_flow_id()
    kinds: list[FlowEventKind] = [
        initialized(),
        StepFinished(0, "acquire", ("a" * 64,), "f" * 64),
    ]
    await backend.store.append_kinds(flow_id, kinds)
    with pytest.raises(ArtifactNotFound):
        await export_flows(transfer(backend), [flow_id], tmp_path / "a.zip")
    with pytest.raises(FlowNotFound):
        await export_flows(transfer(backend), [new_flow_id()], tmp_path / "a.zip")
    with pytest.raises(InvalidArgument):
        await export_flows(transfer(backend), [], tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


async def test_an_artifact_above_the_limit_of_the_store_is_refused(
    backend: Backend, tmp_path: Path
) -> None:
    text = Artifact.from_payload(kind="Text", payload="x" * (3 * 2**20))
    await exported(await small_store(artifacts=(text,)), tmp_path / "a.zip")
    with pytest.raises(ArtifactTooLarge):
        await import_bundle(transfer(backend), tmp_path / "a.zip")
    assert await backend.store.list(SMALL_FLOW) == []


async def test_a_file_that_is_no_bundle_is_refused(backend: Backend, tmp_path: Path) -> None:
    content = await exported(await small_store(), tmp_path / "a.zip")
    bad = tmp_path / "bad.zip"
    for changed in (
        b"",
        b"PK",
        content[:-1],
        content + b"\0",
        content[:500] + b"?" + content[501:],
    ):
        bad.write_bytes(changed)
        with pytest.raises(InvalidBundle, match=r"bad\.zip"):
            await import_bundle(transfer(backend), bad)
    assert await backend.store.list(SMALL_FLOW) == []


@settings(max_examples=15, deadline=None)
@given(kinds=PLAUSIBLE_KINDS)
def test_any_history_travels(
    kinds: Sequence[FlowEventKind], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def travel(path: Path) -> None:
        store, flow_id = InMemoryEventStore(clock=TickingClock()), UUID(int=7)
        for kind in kinds:
            fact: Any = kind
            if isinstance(kind, StepFinished):
                fact = replace(kind, outputs=(VALUE.hash,))
            elif isinstance(kind, FlowInitialized):
                fact = replace(kind, input=VALUE.hash)
            await store.append_kind(flow_id, fact, artifacts=[VALUE], metadata={"k": kind.variant})
        before = await exported(store, path, flow_id)
        there = InMemoryEventStore()
        await import_bundle(there, path)
        assert await exported(there, path, flow_id) == before

    asyncio.run(travel(tmp_path_factory.mktemp("bundles") / "a.zip"))


def second(old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    """Return a change of the second event."""
    return lambda lines: [lines[0], lines[1].replace(old, new), *lines[2:]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (second(b'"step_id":"embed"', b'"step_id":"embed","x":1'), "unknown field"),
        (second(b'"stepstarted"', b'"stepthought"'), "stepthought"),
        (second(b'"step_id":"embed","step_index":0', b'"step_index":0,"step_id":"embed"'), "canon"),
        (second(b'"step_index":0', b'"step_index":0.0'), "got `float`"),
        (second(b'"n":0.5', b'"n":1e999'), "version 1"),
        (second(b"Z", b"+00:00"), "line 2"),
        (second(b'"metadata":{', b'"metadata":[{'), "is not JSON"),
        (lambda lines: [lines[0][:13] + lines[1][13:49] + lines[0][49:], *lines[1:]], "the id of"),
    ],
)
async def test_what_verifies_but_no_store_accepts_is_refused(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], reason: str
) -> None:
    path, store = tmp_path / "run.zip", InMemoryEventStore()
    await exported(await small_store(), path)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        old_end = manifest["flows"][str(SMALL_FLOW)]["link"].encode()
        events, end = chained(archive.read(EVENTS), change)
    path.write_bytes(rewritten(path, events=lambda _: events, ends=(old_end, end)))
    with pytest.raises(InvalidBundle, match=re.escape(reason)):
        await import_bundle(store, path)
    assert await store.list(SMALL_FLOW) == []


def transfer(backend: Backend) -> Any:
    """Return the store of a backend, which implements more ports than the backend says."""
    return backend.store

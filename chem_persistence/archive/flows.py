"""The archive: flows are sealed, written into a bundle that is verified, and leave the log."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET

from chem_persistence.archive.seal import seal_flow
from chem_persistence.bundles.contents import BundledFlow, read_flows
from chem_persistence.bundles.export import export_flows
from chem_persistence.bundles.reader import BundleReader
from chem_persistence.bundles.verify import BundleReport
from chem_persistence.errors import (
    ArchiveHeld,
    ChemPersistenceError,
    FlowArchived,
    FlowNotCompleted,
    InvalidArgument,
)
from chem_persistence.store.leasing.children import child_id
from chem_persistence.store.transfer.ports import ArchiveStore, FlowEnd

__all__ = ["ArchivedBundle", "NotArchived", "archive_ended", "archive_flows"]

_IDS_A_READ = 1_000
_PAUSE = 0.25


class ArchivedBundle(msgspec.Struct, frozen=True):
    """The bundle that flows were archived in: its file, its SHA-256, and the flows."""

    path: Path
    sha256: str
    flows: tuple[UUID, ...]


class NotArchived(msgspec.Struct, frozen=True):
    """A flow that stays, with its children, and why."""

    flow_id: UUID
    error: ChemPersistenceError


async def archive_flows(
    store: ArchiveStore,
    flow_ids: Iterable[UUID],
    directory: Path | str,
    *,
    actor: str,
    patience: float = 10.0,
) -> ArchivedBundle:
    """Archive flows that are over, with their children: they leave the log for one bundle.

    Each flow is sealed. The bundle is a file of `directory` that is named by its SHA-256; it is
    complete, verified and on the disk before anything is deleted. Then the flows leave the log all
    at once, and their ids and heads are registered. `actor` is who archives them. A durable
    consumer that has not consumed a flow to its seal holds it: it is waited for, for `patience`
    seconds.

    Raises:
        InvalidArgument: a flow is the child of another one in the log, which would lose its result.
        FlowNotFound: a flow has no events.
        FlowArchived: a flow was archived before.
        FlowNotCompleted: a flow, or a child, is neither completed nor cancelled.
        ArchiveHeld: a consumer has not consumed a flow, or has it parked. The flows are sealed.
        UnreadableEvent, ArtifactNotFound, ArtifactCorrupt: an event or an artifact is missing, or
            was changed.
        StoreUnavailable: the store cannot be reached; the flows may or may not be archived, and the
            bundle stays.
        StoreError: the store refused, for lack of a privilege, for example.
        OSError: the bundle cannot be written.
    """
    await store.check_archivist()
    flows = await _families(store, list(flow_ids))
    return await _archive(store, flows, Path(directory), actor, patience)


async def archive_ended(
    store: ArchiveStore,
    before: datetime,
    directory: Path | str,
    *,
    actor: str,
    batch: int = 100,
    patience: float = 10.0,
) -> AsyncIterator[ArchivedBundle | NotArchived]:
    """Archive all flows that ended before a time, in batches; yield each bundle, and who stays.

    `batch` is how many flows, with their children, a bundle has at most. A flow that cannot be
    archived stays, and the others go on.

    Raises:
        StoreUnavailable, StoreError, OSError: as `archive_flows`.
    """
    await store.check_archivist()
    after: UUID | None = None
    while ended := await store.list_ended(before, after=after, limit=batch):
        after = ended[-1]
        async for outcome in _archive_batch(store, ended, Path(directory), actor, patience):
            yield outcome


async def _archive_batch(
    store: ArchiveStore, flow_ids: Sequence[UUID], directory: Path, actor: str, patience: float
) -> AsyncIterator[ArchivedBundle | NotArchived]:
    """Archive flows in one bundle, or in halves, and these again, if that cannot be."""
    try:
        flows = await _families(store, flow_ids)
        yield await _archive(store, flows, directory, actor, patience)
    except _HELD_BACK as error:
        if len(flow_ids) == 1:
            yield NotArchived(flow_ids[0], error)
            return
        middle = len(flow_ids) // 2
        for half in (flow_ids[:middle], flow_ids[middle:]):
            async for outcome in _archive_batch(store, half, directory, actor, 0.0):
                yield outcome


_HELD_BACK = (ArchiveHeld, FlowArchived, FlowNotCompleted, InvalidArgument)


async def _families(store: ArchiveStore, flow_ids: Sequence[UUID]) -> list[BundledFlow]:
    """Return flows and their children, after checking that all are over and no parent is left."""
    found: dict[UUID, BundledFlow] = {}
    waiting = list(dict.fromkeys(flow_ids))
    while waiting:
        children: list[UUID] = []
        for flow in await read_flows(store, waiting, tree=False):
            if flow.ending is None:
                raise FlowNotCompleted(flow.flow_id)
            found[flow.flow_id] = flow
            for step_index, count in flow.children.items():
                children += [child_id(flow.flow_id, step_index, item) for item in range(count)]
        waiting = []
        for start in range(0, len(children), _IDS_A_READ):
            some = children[start : start + _IDS_A_READ]
            waiting += [each for each in await store.child_states(some) if each not in found]
    for flow in found.values():
        await _check_parent(store, flow, found)
    return list(found.values())


async def _check_parent(
    store: ArchiveStore, flow: BundledFlow, found: dict[UUID, BundledFlow]
) -> None:
    if flow.first is None or flow.first.parent is UNSET:
        return
    parent = flow.first.parent.flow_id
    if parent not in found and await store.child_states([parent]):
        raise InvalidArgument(
            "flow_ids",
            f"flow {flow.flow_id} is a child of flow {parent}, which would lose its result: "
            "archive that one, and its children come along",
        )


async def _archive(
    store: ArchiveStore,
    flows: Sequence[BundledFlow],
    directory: Path,
    actor: str,
    patience: float,
) -> ArchivedBundle:
    flow_ids = sorted(flow.flow_id for flow in flows)
    for flow_id in flow_ids:
        await seal_flow(store, flow_id, actor=actor)
    draft = directory / f".{uuid4()}.zip"
    report = await export_flows(store, flow_ids, draft)
    path = directory / f"{report.sha256}.zip"
    was_there = path.exists()
    await asyncio.to_thread(_publish, draft, path)
    with BundleReader(path) as bundle:
        ends = list(bundle.ends().values())
    try:
        await _wait_for_consumers(store, ends, report, actor, patience)
    except ArchiveHeld:
        if not was_there:
            path.unlink()
        raise
    return ArchivedBundle(path, report.sha256, tuple(flow_ids))


async def _wait_for_consumers(
    store: ArchiveStore, ends: Sequence[FlowEnd], report: BundleReport, actor: str, patience: float
) -> None:
    """Archive flows; try again until consumers had `patience` seconds to consume the seals."""
    end = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await store.archive_sealed(ends, bundle_sha256=report.sha256, actor=actor)
        except ArchiveHeld:
            if asyncio.get_running_loop().time() >= end:
                raise
        await asyncio.sleep(_PAUSE)


def _publish(draft: Path, path: Path) -> None:
    """Move a file to its path, and write the folder to the disk."""
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

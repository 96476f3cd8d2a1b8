"""What goes into a bundle: flows as far as they have come, and the artifacts that they name."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TypeAlias
from uuid import UUID

import msgspec

from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.domain.definition import DEFINITION_KINDS, FlowDefinition, listed_steps
from chem_persistence.domain.events import (
    SAVED,
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
)
from chem_persistence.domain.hash_chain import GENESIS
from chem_persistence.errors import ArtifactNotFound, ArtifactTooLarge, FlowNotFound
from chem_persistence.store.artifact_reads import list_artifacts
from chem_persistence.store.codec import StoredEvent, decode_kind
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.leasing.children import ChildReader, child_count, child_id
from chem_persistence.store.transfer.events import canonical_event, content_after
from chem_persistence.store.transfer.ports import ArtifactLabel, ArtifactUses, TransferStore

LABELS_A_READ = IDS_A_READ = 1_000

__all__ = ["BundledArtifact", "BundledFlow", "StepRun", "read_artifacts_of", "read_flows"]


_Event: TypeAlias = tuple[datetime, int]
"""The time and the version of an event."""


class StepRun(msgspec.Struct):
    """What became of a step: when its last attempt began and ended, and its outputs."""

    step_id: str
    began: datetime | None = None
    ended: datetime | None = None
    error: str | None = None
    outputs: tuple[str, ...] = ()


class BundledFlow(msgspec.Struct, kw_only=True):
    """A flow up to its event number `events`, whose link of the hash chain is `link`."""

    flow_id: UUID
    events: int = 0
    link: bytes = GENESIS
    began: datetime
    last_at: datetime
    first: FlowInitialized | None = None
    ending: FlowCompleted | FlowCancelled | None = None
    definition: FlowDefinition | None = None
    steps: dict[int, StepRun] = {}
    children: dict[int, int] = {}
    branches: list[UUID] = []
    needed: dict[str, _Event] = {}
    """The artifacts that events name, by hash, and the first of these events."""

    wanted: dict[str, _Event] = {}
    """The artifacts that come along if they are stored, in the same way."""

    @property
    def folder(self) -> str:
        """The folder of the flow in the bundle."""
        return f"flows/{self.flow_id}"

    def relatives(self) -> Iterator[UUID]:
        """Yield the ids of the children that there may be, and of the branches."""
        for step_index, count in sorted(self.children.items()):
            for item in range(count):
                yield child_id(self.flow_id, step_index, item)
        yield from self.branches


class BundledArtifact(msgspec.Struct, frozen=True):
    """An artifact, with the event of the bundle that it is stored with.

    `users` are other flows of the bundle that brought it, and whose events do not name it.
    """

    label: ArtifactLabel
    flow_id: UUID
    version: int
    users: tuple[UUID, ...] = ()

    @property
    def file(self) -> str:
        """The file in the bundle."""
        if self.label.kind in DEFINITION_KINDS and self.label.is_json:
            return f"definitions/{self.label.hash}.json"
        return f"artifacts/{self.label.hash}"


async def read_flows(
    store: TransferStore, flow_ids: Iterable[UUID], *, tree: bool
) -> list[BundledFlow]:
    """Return flows in the order of their ids; with `tree` also their children and branches.

    Raises:
        FlowNotFound: a flow has no events.
        UnreadableEvent: an event does not decode, or does not continue the hash chain.
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    found: dict[UUID, BundledFlow] = {}
    waiting = sorted(set(flow_ids))
    named = frozenset(waiting)
    seen = set(waiting)
    while waiting:
        flow_id = waiting.pop()
        try:
            flow = found[flow_id] = await _read_flow(store, flow_id)
        except FlowNotFound:
            if flow_id in named:
                raise
            continue
        if tree:
            async for relative in _stored(store, flow.relatives()):
                if relative not in seen:
                    seen.add(relative)
                    waiting.append(relative)
    flows = [found[flow_id] for flow_id in sorted(found)]
    await _add_definitions(store, flows)
    return flows


async def _stored(store: TransferStore, flow_ids: Iterator[UUID]) -> AsyncIterator[UUID]:
    """Yield those of the flows that have events, as far as the store tells it of many at once."""
    while ids := list(islice(flow_ids, IDS_A_READ)):
        known = set(await store.child_states(ids) if isinstance(store, ChildReader) else ids)
        for flow_id in ids:
            if flow_id in known:
                yield flow_id


async def _read_flow(store: TransferStore, flow_id: UUID) -> BundledFlow:
    flow: BundledFlow | None = None
    async for stored in store.stored_events(flow_id):
        event = canonical_event(stored)
        if flow is None:
            flow = BundledFlow(flow_id=flow_id, began=event.ts, last_at=event.ts)
        content_after(flow.link, event)
        kind = decode_kind(event.payload, flow_id, event.version, event.event_type)
        _fold(flow, event, kind)
        flow.events, flow.link, flow.last_at = event.version + 1, event.link, event.ts
    if flow is None:
        raise FlowNotFound(flow_id)
    for stored_with in await list_artifacts(store, flow_id):
        if stored_with.version < flow.events:
            at = stored_with.produced_at, stored_with.version
            flow.wanted.setdefault(stored_with.artifact_hash, at)
    if isinstance(store, ArtifactUses):  # which event brought one is not known
        for used in await store.used_artifacts(flow_id):
            flow.wanted.setdefault(used, (flow.began, 0))
    return flow


async def _add_definitions(store: TransferStore, flows: Iterable[BundledFlow]) -> None:
    """Add the definitions of flows, each read once, and the artifacts of their steps."""
    known: dict[str, tuple[FlowDefinition | None, Sequence[str]]] = {}
    for flow in flows:
        if flow.first is None:
            continue
        named = flow.first.definition_hash
        if named not in known:
            steps: Sequence[str] = ()
            with suppress(ArtifactNotFound, ArtifactTooLarge):
                steps = listed_steps(await store.get_artifact(named))
            known[named] = await read_definition(store, named), steps
        flow.definition, steps = known[named]
        for artifact_hash in (named, *steps):
            flow.wanted.setdefault(artifact_hash, (flow.began, 0))


def _fold(flow: BundledFlow, event: StoredEvent, kind: FlowEventKind) -> None:
    """Add an event to what is known of its flow."""
    at = event.ts, event.version
    match kind:
        case FlowInitialized():
            flow.first = kind
            if kind.input is not None:
                flow.needed.setdefault(kind.input, at)
        case StepStarted() | StepFinished() | StepFailed():
            _fold_attempt(flow, at, kind)
        case StepWaits():
            known = flow.children.get(kind.step_index, 0)
            flow.children[kind.step_index] = max(known, child_count(kind.data))
        case BranchCreated() if kind.branch_id != flow.flow_id:
            flow.branches.append(kind.branch_id)
        case UserInteractionProvided():
            flow.wanted.setdefault(kind.decision_hash, at)
        case StepSignal(signal=signal, data={"artifact": str() as saved}) if signal == SAVED:
            flow.wanted.setdefault(saved, at)
        case FlowCompleted() | FlowCancelled():
            flow.ending = kind
        case _:
            pass


def _fold_attempt(
    flow: BundledFlow, at: _Event, kind: StepStarted | StepFinished | StepFailed
) -> None:
    """Add the beginning or the end of an attempt at a step."""
    run = flow.steps.setdefault(kind.step_index, StepRun(kind.step_id))
    match kind:
        case StepStarted():
            run.began, run.ended, run.error = at[0], None, None
        case StepFinished(outputs=outputs):
            run.ended, run.error, run.outputs = at[0], None, outputs
            for output in outputs:
                flow.needed.setdefault(output, at)
        case StepFailed(error=error):
            run.ended, run.error = at[0], error.error_class


async def read_artifacts_of(
    store: TransferStore, flows: Sequence[BundledFlow]
) -> list[BundledArtifact]:
    """Return the artifacts of flows in the order of their hashes, described by the store.

    Each belongs to the event that named it first by its time, as an input or an output; if none
    does, to the first flow that brought it, by its id. Neither depends on the store.

    Raises:
        ArtifactNotFound: the store does not have an artifact that an event names.
        ArtifactCorrupt: the description of an artifact does not decode.
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    owners = _owners(flows)
    labels: dict[str, ArtifactLabel] = {}
    hashes = sorted(filter(is_content_hash, owners))
    for start in range(0, len(hashes), LABELS_A_READ):
        labels.update(await store.label_artifacts(hashes[start : start + LABELS_A_READ]))
    for flow in flows:
        for needed in flow.needed:
            if needed not in labels:
                raise ArtifactNotFound(needed)
    users = _users(flows, owners)
    return [
        BundledArtifact(
            labels[name],
            *owners[name],
            () if labels[name].kind in DEFINITION_KINDS else tuple(users.get(name, ())),
        )
        for name in hashes
        if name in labels
    ]


def _owners(flows: Sequence[BundledFlow]) -> Mapping[str, tuple[UUID, int]]:
    """Return the flow and the version of the event that each artifact is stored with.

    An import stores flows in the order of their ids, so that the first one that brings an artifact
    stores it there, too; when the others brought it is not known there.
    """
    first: dict[str, tuple[datetime, UUID, int]] = {}
    for flow in flows:
        for artifact_hash, (ts, version) in flow.needed.items():
            event = ts, flow.flow_id, version
            first[artifact_hash] = min(event, first.get(artifact_hash, event))
    owners = {name: (flow_id, version) for name, (_, flow_id, version) in first.items()}
    for flow in flows:  # in the order of their ids
        for artifact_hash, (_, version) in flow.wanted.items():
            owners.setdefault(artifact_hash, (flow.flow_id, version))
    return owners


def _users(
    flows: Sequence[BundledFlow], owners: Mapping[str, tuple[UUID, int]]
) -> Mapping[str, list[UUID]]:
    """Return the flows that brought each artifact, except its owner and those that name it."""
    users: dict[str, list[UUID]] = {}
    for flow in flows:
        for artifact_hash in flow.wanted:
            if artifact_hash not in flow.needed and owners[artifact_hash][0] != flow.flow_id:
                users.setdefault(artifact_hash, []).append(flow.flow_id)
    return users

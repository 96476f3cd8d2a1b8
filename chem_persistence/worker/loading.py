"""The states of flows that were claimed together, read in few queries."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import outweighs
from chem_persistence.domain.events import (
    FlowEvent,
    RetryScheduled,
    StepWaits,
    UserInteractionRequested,
)
from chem_persistence.domain.instance import FlowInstance, StepStatus, initial_instance
from chem_persistence.domain.replay import replay
from chem_persistence.engine.children.kept import take_artifacts
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.leases.ending import cancellation, cancelled_with
from chem_persistence.engine.leases.own_children import called_before
from chem_persistence.engine.next_step import Run, next_step
from chem_persistence.engine.watching import WatchingStep
from chem_persistence.errors import ChemPersistenceError, FlowArchived, UnreadableEvent
from chem_persistence.store.artifact_reads import read_artifacts
from chem_persistence.store.checks import LARGE_BYTES
from chem_persistence.store.leasing.children import ChildReader, parent_of
from chem_persistence.store.leasing.leases import Claim, LeasingEventStore
from chem_persistence.store.ports import EventReader
from chem_persistence.store.program.what_ran import last_program
from chem_persistence.store.reuse.choice import may_reuse

__all__ = ["Loaded", "Unloadable", "WorkerStore", "load_claims"]

_WAITS = (RetryScheduled, StepWaits, UserInteractionRequested)
"""The events that may say until when a flow waits."""


@runtime_checkable
class WorkerStore(LeasingEventStore, EventReader, ChildReader, Protocol):
    """What a worker needs of a store."""


class Loaded(msgspec.Struct, frozen=True):
    """A claimed flow's state; `input` is the artifact that its next step works on, if it was read.

    `cancelled` is the reason for which somebody asked to cancel it, or its `parent`. `until` is set
    if a retry of the flow is scheduled for then, or a step waits until then, and something was said
    to the flow after that; `longest` is how long it was to wait by the clock of the process that
    stored that, which no wait after it exceeds, however wrong this machine's clock is. `ran` is the
    program that ran the flow last, as its log says. `may_reuse` is whether its steps may take
    results over.
    """

    claim: Claim
    instance: FlowInstance
    input: Artifact | None
    cancelled: str | None
    until: datetime | None
    longest: timedelta
    parent: UUID | None
    ran: Mapping[str, Any] | None
    may_reuse: bool

    @property
    def asks(self) -> bool:
        """Whether the step waits for a person's answer."""
        steps, cursor = self.instance.steps, self.instance.cursor
        return cursor < len(steps) and steps[cursor].status is StepStatus.AWAITING_USER_INPUT

    @property
    def is_take_over(self) -> bool:
        """Whether the step was started by a worker that died, or lost its lease."""
        steps, cursor = self.instance.steps, self.instance.cursor
        return (
            cursor < len(steps)
            and steps[cursor].status is StepStatus.RUNNING
            and steps[cursor].starts > 0
        )


class Unloadable(msgspec.Struct, frozen=True):
    """A claimed flow whose state cannot be read, and why."""

    claim: Claim
    error: Exception


async def load_claims(
    store: WorkerStore, registry: Mapping[str, Flow[Any, Any]], claims: Sequence[Claim]
) -> list[Loaded | Unloadable]:
    """Read the states of claimed flows, and the artifacts on which they go on.

    Raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    logs = await _read_logs(store, [claim.flow_id for claim in claims])
    loaded: list[Loaded | Unloadable] = []
    for claim in claims:
        events = logs[claim.flow_id]
        if isinstance(events, Exception):
            loaded.append(Unloadable(claim, events))
            continue
        try:
            loaded.append(_load(claim, events, registry[claim.definition_hash]))
        except ChemPersistenceError as error:
            loaded.append(Unloadable(claim, error))
    return await _with_inputs(store, registry, await _with_parents(store, loaded))


async def _with_parents(
    store: ChildReader, loaded: list[Loaded | Unloadable]
) -> list[Loaded | Unloadable]:
    """Return what was loaded; a child whose parent is cancelled is to be cancelled.

    Whoever cancels the parent cancels the children that there are; others may be submitted
    meanwhile, by a process that does not know of it yet.
    """
    children = [each for each in loaded if isinstance(each, Loaded) and each.parent is not None]
    parents = {each.parent for each in children if each.parent is not None}
    if not parents or not (given_up := await store.cancelled_flows(parents)):
        return loaded
    return [
        msgspec.structs.replace(each, cancelled=cancelled_with(each.parent))
        if isinstance(each, Loaded) and each.parent in given_up and each.cancelled is None
        else each
        for each in loaded
    ]


async def _read_logs(
    store: EventReader, flow_ids: Sequence[UUID]
) -> Mapping[UUID, list[FlowEvent] | Exception]:
    """Return the events of each flow, or the error with which they cannot be read."""
    try:
        return await store.list_many(flow_ids)
    except (UnreadableEvent, FlowArchived) as error:
        if len(flow_ids) == 1:
            return {flow_ids[0]: error}
    logs: dict[UUID, list[FlowEvent] | Exception] = {}
    for flow_id in flow_ids:
        logs |= await _read_logs(store, [flow_id])
    return logs


def _load(claim: Claim, events: Sequence[FlowEvent], flow: Flow[Any, Any]) -> Loaded:
    instance = replay(initial_instance(claim.flow_id, flow.definition), events, flow.definition)
    parent = parent_of(events)
    until = called_before(flow, instance, events)
    return Loaded(
        claim,
        instance,
        None,
        cancellation(events),
        until,
        timedelta(0) if until is None else until - _began_to_wait(events),
        None if parent is None else parent.flow_id,
        last_program(reversed(events)),
        may_reuse(events),
    )


def _began_to_wait(events: Sequence[FlowEvent]) -> datetime:
    """Return when the last event that says until when the flow waits was stored."""
    return next(event.ts for event in reversed(events) if isinstance(event.kind, _WAITS))


async def _with_inputs(
    store: WorkerStore, registry: Mapping[str, Flow[Any, Any]], loaded: list[Loaded | Unloadable]
) -> list[Loaded | Unloadable]:
    wanted: dict[int, str] = {}
    for place, each in enumerate(loaded):
        if isinstance(each, Loaded):
            definition = registry[each.claim.definition_hash].definition
            match next_step(each.instance, definition):
                case Run(step_index=index, input=str() as artifact_hash) if not isinstance(
                    registry[each.claim.definition_hash].steps[index], WatchingStep
                ):
                    wanted[place] = artifact_hash
                case _:
                    pass
    hashes = list(dict.fromkeys(wanted.values()))
    read = take_artifacts(store, hashes)
    async for artifact in read_artifacts(store, [each for each in hashes if each not in read]):
        if isinstance(artifact, Artifact) and not _is_large(artifact):
            read[artifact.hash] = artifact
    for place, artifact_hash in wanted.items():
        each = loaded[place]
        if artifact_hash in read and isinstance(each, Loaded):
            loaded[place] = msgspec.structs.replace(each, input=read[artifact_hash])
    return loaded


def _is_large(artifact: Artifact) -> bool:
    """Return whether an artifact is not kept until its flow has begun: many may begin at once."""
    if artifact.content is not None:
        return len(artifact.content) > LARGE_BYTES
    return outweighs(artifact.payload, LARGE_BYTES)

"""Branch a flow: a new flow that takes over its results up to a step, and goes on by itself."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    BranchCreated,
    FlowEvent,
    FlowInitialized,
    ResultOrigin,
    StepFinished,
)
from chem_persistence.engine.attempt import decoded_input
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.parameters.changes import Params
from chem_persistence.engine.parameters.recorded import recorded_flow, recorded_input
from chem_persistence.engine.parameters.stored import flow_with_params_of
from chem_persistence.errors import (
    ConcurrencyConflict,
    InvalidArgument,
)
from chem_persistence.store.definitions import (
    read_definition,
    remember_definition,
    unseen_definitions,
)
from chem_persistence.store.leasing.branches import BRANCHED_FROM, root_of
from chem_persistence.store.leasing.submission import Submission
from chem_persistence.store.ports import StreamingEventStore
from chem_persistence.store.reuse.choice import may_reuse, reuse_metadata

__all__ = ["Branch", "branch_of", "branched_flow", "store_branch"]


class Branch(msgspec.Struct, frozen=True):
    """A flow that is to be branched: what it takes over, and where it parts from its parent.

    `kept` has the step's success for each step that is not run again, and where that came from.
    """

    submitted: Submission
    parent: UUID
    root: UUID
    kept: tuple[StepFinished, ...]
    step_id: str
    params_hash: str


async def branched_flow(
    store: StreamingEventStore,
    first: FlowEvent,
    flow: Flow[Any, Any] | None,
    value: Any,
    params: Params | None,
) -> tuple[Flow[Any, Any], Any]:
    """Return what a branch runs, with its parameters, and the value that is its input.

    `first` is the first event of its parent.

    Raises what `EventStore.get_artifact` and `EventStore.list` raise, and:
        InvalidArgument: see `FlowClient.branch`.
        InvalidPayload: the parent's input cannot be read as the type that `flow` takes.
    """
    if flow is None:
        if value is not None:
            raise InvalidArgument("input", "is for a flow whose code is given")
        flow, value = await recorded_flow(store, first.flow_id), await recorded_input(store, first)
    else:
        if params is not None:
            flow = await flow_with_params_of(store, flow, first.flow_id)
        if value is None and (artifact := await recorded_input(store, first)) is not None:
            value = decoded_input(flow.steps[0], artifact)
    return (flow if params is None else flow.with_params(params, by="person")), value


async def branch_of(
    store: StreamingEventStore,
    flow: Flow[Any, Any],
    events: Sequence[FlowEvent],
    submitted: Submission,
    from_step: str | None,
) -> Branch:
    """Return what a branch takes over of a flow with these events, up to `from_step`.

    Without `from_step` these are all results up to the first step that differs, has another input,
    or is not finished. If the flow takes no results over, the steps that the branch runs do not
    either.

    Raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
        InvalidArgument: the definition of the flow is not stored; the new flow has no step
            `from_step`, or its steps differ before that; or nothing is left to run.
    """
    flow_id, first = events[0].flow_id, events[0].kind
    stored = None
    if isinstance(first, FlowInitialized):
        stored = await read_definition(store, first.definition_hash)
    if stored is None or not isinstance(first, FlowInitialized):
        raise InvalidArgument("flow_id", f"the definition of flow {flow_id} is not stored")
    is_same_input = first.input == submitted.fact.input
    kept = _kept(flow_id, events, stored, flow.definition) if is_same_input else []
    index = _first_run(flow.definition, len(kept), from_step)
    parting = flow.definition.steps[index]
    metadata = {**submitted.metadata, **reuse_metadata(reuse=may_reuse(events))}
    return Branch(
        msgspec.structs.replace(submitted, metadata=metadata),
        flow_id,
        root_of(events[0]),
        tuple(kept[:index]),
        parting.id,
        parting.definition_hash,
    )


def _kept(
    flow_id: UUID, events: Sequence[FlowEvent], old: FlowDefinition, new: FlowDefinition
) -> list[StepFinished]:
    """Return the successes of the first steps that both definitions have, as a branch has them."""
    finished: dict[int, StepFinished] = {}
    for event in events:
        if isinstance(event.kind, StepFinished):
            origin = event.kind.reused_from
            if origin is UNSET:
                origin = ResultOrigin(flow_id, event.version)
            finished[event.kind.step_index] = msgspec.structs.replace(
                event.kind, reused_from=origin
            )
    kept: list[StepFinished] = []
    for index, (own, other) in enumerate(zip(old.steps, new.steps, strict=False)):
        if own.definition_hash != other.definition_hash or index not in finished:
            break
        kept.append(finished[index])
    return kept


def _first_run(definition: FlowDefinition, kept: int, from_step: str | None) -> int:
    """Return the index of the first step that the branch runs.

    Raises:
        InvalidArgument: see `branch_of`.
    """
    if from_step is None:
        if kept == len(definition.steps):
            raise InvalidArgument(
                "from_step", "is needed: no step of the flow differs, so nothing would be run"
            )
        return kept
    ids = [step.id for step in definition.steps]
    if from_step not in ids:
        raise InvalidArgument("from_step", f"the flow has no step {from_step!r}")
    index = ids.index(from_step)
    if index > kept:
        raise InvalidArgument(
            "from_step",
            f"the result of step {ids[kept]!r}, which comes before {from_step!r}, cannot be taken "
            "over: the step or its input differs, or it is not finished",
        )
    return index


async def store_branch(
    store: StreamingEventStore, branch: Branch, *, reason: str, actor: str | None
) -> bool:
    """Append a branch's beginning and, to its parent, that it was made; False if it is there.

    Raises what `EventStore.append_kinds` raises but `ConcurrencyConflict`, and:
        InvalidArgument: a flow with the branch's id exists that is not this branch.
    """
    submitted, parent = branch.submitted, branch.parent
    definitions = unseen_definitions(store, submitted.definition)
    given: Sequence[Artifact] = [] if submitted.given is None else [submitted.given]
    said: Mapping[str, Any] = {"reason": reason} | ({} if actor is None else {"actor": actor})
    origin = {"parent": str(parent), "root": str(branch.root), "from_step": branch.step_id}
    branched = {**said, BRANCHED_FROM: origin}
    made = BranchCreated(submitted.flow_id, parent, branch.root, branch.step_id, branch.params_hash)
    try:
        async with store.transaction() as transaction:
            await transaction.append_kind(
                submitted.flow_id,
                submitted.fact,
                artifacts=[*given, *definitions],
                expected_version=0,
                metadata={**branched, **submitted.metadata},
            )
            if branch.kept:
                await transaction.append_kinds(
                    submitted.flow_id, branch.kept, expected_version=1, metadata=branched
                )
            await transaction.append_kind(parent, made, metadata=said)
    except ConcurrencyConflict as error:
        events = await store.list(submitted.flow_id, limit=1 + len(branch.kept))
        facts = [event.kind for event in events]
        there = facts[0] if facts else None
        if (
            isinstance(there, FlowInitialized)
            and facts[1:] == list(branch.kept)
            and events[0].metadata.get(BRANCHED_FROM) == origin
            and (there.definition_hash, there.input)
            == (submitted.fact.definition_hash, submitted.fact.input)
        ):
            return False
        raise InvalidArgument(
            "branch_id", f"flow {submitted.flow_id} exists, and is not this branch"
        ) from error
    remember_definition(store, submitted.definition)
    return True

"""Run a completed flow again, and compare what comes out with what is recorded."""

from collections import Counter
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from uuid_utils.compat import uuid7

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import (
    AUDITED,
    FlowInitialized,
    FlowParent,
    LibrarySignal,
    StepFinished,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.instance import FlowInstance, StepSlot, StepStatus, initial_instance
from chem_persistence.domain.replay import replay
from chem_persistence.engine.engine import FlowEngine
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.parameters.stored import flow_as_begun
from chem_persistence.errors import (
    ArtifactNotFound,
    DefinitionMismatch,
    FlowAwaitsUser,
    FlowHasFailed,
    FlowIsWaiting,
    FlowNotCompleted,
    FlowNotFound,
    StepRaised,
)
from chem_persistence.memory.event_store import InMemoryEventStore
from chem_persistence.memory.flow_repository import InMemoryFlowRepository
from chem_persistence.store.definitions import explained_mismatch
from chem_persistence.store.leasing.children import child_id
from chem_persistence.store.ports import EventStore
from chem_persistence.store.reuse.choice import reuse_metadata
from chem_persistence.views.agreement import (
    Agreement,
    Tolerance,
    ValueDifference,
    compare_artifacts,
    worst,
)

__all__ = ["Audit", "StepAudit", "audit_flow", "record_audit"]

MOST_DIFFERENCES = 100
"""The number of differing values that are kept of each step."""


class StepAudit(msgspec.Struct, frozen=True, kw_only=True):
    """What a step gave when it ran again, beside what is recorded.

    `differing` counts the values that are not equal, and `differences` has the first 100 of them.
    `reason` says why the step gave nothing to compare, or None. `on_other_input` is whether the
    step before it gave another output than is recorded, on which this one then ran.
    """

    step_id: str
    agreement: Agreement
    differing: int = 0
    differences: tuple[ValueDifference, ...] = ()
    on_other_input: bool = False
    reason: str | None = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """A completed flow that was run again; `agreement` is that of the step that agrees least."""

    flow_id: UUID
    tolerance: Tolerance
    steps: tuple[StepAudit, ...]

    @property
    def agreement(self) -> Agreement:
        """How far the flow agrees with its record."""
        return worst(step.agreement for step in self.steps)


class _Twin(InMemoryEventStore):
    """The store of the second run: it reads artifacts of the first one, and changes nothing."""

    def __init__(self, origin: EventStore) -> None:
        super().__init__()
        self._origin = origin

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Return an artifact of this run, else of the recorded one."""
        try:
            return await super().get_artifact(artifact_hash)
        except ArtifactNotFound:
            return await self._origin.get_artifact(artifact_hash)


async def audit_flow(
    store: EventStore, flow: Flow[Any, Any], flow_id: UUID, tolerance: Tolerance | None = None
) -> Audit:
    """Run a completed flow again, in memory, and compare the outputs of each step.

    The flow has another id there, and nothing is stored: see `record_audit`. Its steps really run,
    with their retries, waits and child flows, also those whose results were taken over; questions
    are answered as they were. Each step gets what the step before it gave now. Without a
    `tolerance` only equal values agree.

    Raises:
        FlowNotFound: no flow has this id.
        FlowNotCompleted: the flow is not completed.
        DefinitionMismatch: the flow was started with other steps.
        ArtifactNotFound, ArtifactCorrupt: an artifact is not in the store, or has other bytes.
        UnreadableEvent, UnreplayableEvent: the log of the flow is damaged.
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    flow = await flow_as_begun(store, flow, flow_id)
    recorded = await _completed(store, flow, flow_id)
    twin, again = _Twin(store), uuid7()
    reason = await _run_again(twin, store, flow, again, recorded)
    repeated = await InMemoryFlowRepository(twin).load(again, None, flow.definition)
    chosen, steps = tolerance or Tolerance(), []
    is_other = False
    for left, right in zip(recorded.steps, repeated.steps, strict=True):
        step = await _compared(twin, left, right, chosen, reason)
        steps.append(msgspec.structs.replace(step, on_other_input=is_other))
        is_other = left.outputs[:1] != right.outputs[:1]
    return Audit(flow_id=flow_id, tolerance=chosen, steps=tuple(steps))


async def record_audit(store: EventStore, audit: Audit, *, actor: str) -> None:
    """Store the result of an audit as a signal of the flow's last step; `actor` is who audited.

    Raises what `EventStore.append_kind` raises.
    """
    index, last = len(audit.steps) - 1, audit.steps[-1].step_id
    data = {
        "agreement": audit.agreement.value,
        "relative": audit.tolerance.relative,
        "absolute": audit.tolerance.absolute,
        "steps": {step.step_id: step.agreement.value for step in audit.steps},
    }
    signal = LibrarySignal(index, last, AUDITED, data)
    await store.append_kind(audit.flow_id, signal, metadata={"actor": actor})


async def _completed(store: EventStore, flow: Flow[Any, Any], flow_id: UUID) -> FlowInstance:
    events = await store.list(flow_id)
    if not events:
        raise FlowNotFound(flow_id)
    try:
        instance = replay(initial_instance(flow_id, flow.definition), events, flow.definition)
    except DefinitionMismatch as error:
        raise await explained_mismatch(store, error, flow.definition) from error
    if not instance.completed:
        raise FlowNotCompleted(flow_id)
    return instance


async def _run_again(
    twin: _Twin, origin: EventStore, flow: Flow[Any, Any], again: UUID, recorded: FlowInstance
) -> str | None:
    """Run the flow to its end, or as far as it comes; return why it came no further."""
    definition = flow.definition
    given = [] if recorded.input is None else [await twin.get_artifact(recorded.input)]
    first = FlowInitialized(
        definition.definition_hash, len(definition.steps), recorded.input, name=flow.name or UNSET
    )
    never = reuse_metadata(reuse=False)
    await twin.append_kinds(again, [first], artifacts=given, expected_version=0, metadata=never)
    engine = FlowEngine(twin, InMemoryFlowRepository(twin), flow)
    answers = _Answers(twin, origin, again, recorded.id)
    while True:
        try:
            await engine.run_to_end(again)
        except (FlowAwaitsUser, FlowIsWaiting) as error:
            if not await answers.give():
                return str(error)
        except StepRaised as error:
            return str(error.__cause__)
        except FlowHasFailed as error:
            return str(error)
        else:
            return None


class _Answers:
    """Answers the questions of the second run as those of the first one were answered.

    The n-th question of a step gets its n-th recorded answer; a result that was taken over has
    those of its origin. A child's id follows from its parent's, so that each flow of the second run
    is known to be one of the first.
    """

    def __init__(self, twin: _Twin, origin: EventStore, again: UUID, flow_id: UUID) -> None:
        self._twin = twin
        self._origin = origin
        self._first_run = {again: flow_id}
        self._seen = 0
        self._given: Counter[tuple[UUID, int]] = Counter()

    async def give(self) -> bool:
        """Answer all questions since the last call; return whether there was an answer."""
        is_given = False
        while events := await self._twin.read_feed(after_seq=self._seen):
            self._seen = events[-1].seq
            for event in events:
                match event.kind:
                    case FlowInitialized(parent=FlowParent(flow_id=parent) as child):
                        origin = child_id(self._first_run[parent], child.step_index, child.item)
                        self._first_run[event.flow_id] = origin
                    case UserInteractionRequested() as asked:
                        is_given |= await self._answer(event.flow_id, asked)
                    case _:
                        pass
        return is_given

    async def _answer(self, flow_id: UUID, asked: UserInteractionRequested) -> bool:
        index = asked.step_index
        answers = await self._recorded(self._first_run[flow_id], index)
        number = self._given[flow_id, index]
        self._given[flow_id, index] += 1
        if number >= len(answers):
            return False
        answer = UserInteractionProvided(index, asked.step_id, answers[number])
        await self._twin.append_kind(flow_id, answer)
        return True

    async def _recorded(self, flow_id: UUID, step_index: int) -> list[Any]:
        """Return the answers that a step got, in the flow whose result it has."""
        answers: list[Any] = []
        for event in await self._origin.list(flow_id):
            fact = event.kind
            if isinstance(fact, StepFinished) and fact.step_index == step_index:
                if origin := fact.reused_from:
                    (first,) = await self._origin.list(
                        origin.flow_id, after_version=origin.version - 1, limit=1
                    )
                    assert isinstance(first.kind, StepFinished)  # noqa: S101  # so it is stored
                    return await self._recorded(origin.flow_id, first.kind.step_index)
            elif isinstance(fact, UserInteractionProvided) and fact.step_index == step_index:
                answers.append(fact.provided)
        return answers


async def _compared(
    twin: _Twin, left: StepSlot, right: StepSlot, tolerance: Tolerance, reason: str | None
) -> StepAudit:
    """Compare what a step gave; `reason` is why the flow did not reach its end, or None."""
    if right.status is not StepStatus.FINISHED:
        reason = reason if right.has_begun else "the flow did not come so far"
        return StepAudit(step_id=left.step_id, agreement=Agreement.DIFFERENT, reason=reason)
    if len(left.outputs) != len(right.outputs):
        reason = f"it has {len(right.outputs)} outputs, of which {len(left.outputs)} are recorded"
        return StepAudit(step_id=left.step_id, agreement=Agreement.DIFFERENT, reason=reason)
    agreements, found = [], list[ValueDifference]()
    for own, other in zip(left.outputs, right.outputs, strict=True):
        pair = await twin.get_artifact(own), await twin.get_artifact(other)
        agreement, differences = compare_artifacts(*pair, tolerance)
        agreements.append(agreement)
        found += differences
    return StepAudit(
        step_id=left.step_id,
        agreement=worst(agreements),
        differing=len(found),
        differences=tuple(found[:MOST_DIFFERENCES]),
    )

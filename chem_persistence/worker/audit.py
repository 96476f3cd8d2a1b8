"""Run a completed flow again, and compare what comes out with what is recorded."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from uuid_utils.compat import uuid7

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import (
    AUDITED,
    FlowInitialized,
    LibrarySignal,
    UserInteractionProvided,
)
from chem_persistence.domain.instance import FlowInstance, StepSlot, StepStatus, initial_instance
from chem_persistence.domain.replay import replay
from chem_persistence.engine.engine import FlowEngine
from chem_persistence.engine.flow import Flow
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
from chem_persistence.store.ports import EventStore
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
    with their retries, waits and child flows; a question of the flow's own is answered as it was.
    Each step gets what the step before it gave now. Without a `tolerance` only equal values agree.

    Raises:
        FlowNotFound: no flow has this id.
        FlowNotCompleted: the flow is not completed.
        DefinitionMismatch: the flow was started with another definition.
        ArtifactNotFound, ArtifactCorrupt: an artifact is not in the store, or has other bytes.
        UnreadableEvent, UnreplayableEvent: the log of the flow is damaged.
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    recorded = await _completed(store, flow, flow_id)
    twin, again = _Twin(store), uuid7()
    reason = await _run_again(twin, flow, again, recorded)
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
    twin: _Twin, flow: Flow[Any, Any], again: UUID, recorded: FlowInstance
) -> str | None:
    """Run the flow to its end, or as far as it comes; return why it came no further."""
    definition = flow.definition
    given = [] if recorded.input is None else [await twin.get_artifact(recorded.input)]
    first = FlowInitialized(
        definition.definition_hash, len(definition.steps), recorded.input, name=flow.name or UNSET
    )
    await twin.append_kinds(again, [first], artifacts=given, expected_version=0)
    engine = FlowEngine(twin, InMemoryFlowRepository(twin), flow)
    answers = dict(_answers(recorded))
    while True:
        try:
            await engine.run_to_end(again)
        except FlowAwaitsUser as error:
            if (answer := answers.pop(error.step_id, None)) is None:
                return str(error)
            await twin.append_kind(again, answer)
        except StepRaised as error:
            return str(error.__cause__)
        except (FlowHasFailed, FlowIsWaiting) as error:
            return str(error)
        else:
            return None


def _answers(recorded: FlowInstance) -> Iterator[tuple[str, UserInteractionProvided]]:
    """Yield the recorded answers, by the ids of their steps."""
    for index, slot in enumerate(recorded.steps):
        if slot.answer is not None:
            provided = slot.answer.provided
            yield slot.step_id, UserInteractionProvided(index, slot.step_id, provided)


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

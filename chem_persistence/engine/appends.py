"""The state of one flow that is run, and its appends.

Each append expects the version of the last one. So a process that another one has overtaken notices
it at its next append: that of the outcome, when the work is done. An outcome and what follows from
it (the next start, or the completion) are one append: half the commits.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, assert_never

from msgspec import UNSET
from msgspec.structs import replace

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    StepFinished,
    StepStarted,
)
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.domain.replay import replay
from chem_persistence.engine.children.kept import keep_artifact
from chem_persistence.engine.next_step import Await, Complete, Refuse, Run, after_steps
from chem_persistence.engine.reuse import Results, Reuse
from chem_persistence.engine.steps.steps_fit import Steps
from chem_persistence.store.clock import SystemClock
from chem_persistence.store.definitions import remember_definition, unseen_definitions
from chem_persistence.store.history import history_checked
from chem_persistence.store.ports import Clock, EventStore
from chem_persistence.store.reuse.choice import reuse_metadata
from chem_persistence.telemetry.flow_log import log_step_reused

__all__ = ["FlowAppends"]


class FlowAppends:
    """One flow, whose state after everything that was appended is `instance`.

    `introduction` is the metadata of the next append, which says what runs the flow from then on.
    `may_reuse` is whether its steps may take results over, and those of the flows that they run.
    `is_appending` is whether an outcome may be on its way to the log: what is lost if the task is
    cancelled meanwhile.
    """

    def __init__(
        self,
        store: EventStore,
        steps: Steps,
        definition: FlowDefinition,
        instance: FlowInstance,
    ) -> None:
        self.instance = instance
        self.retry_after: timedelta | None = None
        self.measured_as: str | None = None  # the definition by which steps are measured, if any
        self.has_parked = False
        self.look_after: timedelta | None = None
        self.introduction: Mapping[str, Any] | None = None
        self._store = store
        # a store that is not the library's own may have no such attribute
        self.clock: Clock = getattr(store, "clock", None) or SystemClock()
        self._steps = steps
        self._definition = definition
        self._pending: list[FlowEventKind] = []  # part of the next append
        self._pending_artifacts: list[Artifact] = []
        self._output: Artifact | None = None  # of the last step: the next one need not read it
        self._saving = asyncio.Lock()
        self._started: int | None = None  # the step whose start this run has appended
        self.is_appending = False
        self.may_reuse = True
        self._results: Results | None = None
        self._reuse: Reuse | None = None  # if a step asks for it

    def take_over(self, results: Results | None, *, may_reuse: bool) -> None:
        """Set what finds the results that steps take over, and whether they may."""
        self.may_reuse = may_reuse
        if may_reuse and results is not None:
            self._results = results
            if any(step.reuse == "any" for step in self._steps):
                self._reuse = Reuse(results, self._steps, self._definition)

    def start_with(self, given: Artifact | None, name: str = "") -> None:
        """Begin an empty flow with this input; the first event is part of the next append."""
        definition = self._definition
        flow_input = None if given is None else given.hash
        steps = len(definition.steps)
        self._pending = [
            FlowInitialized(definition.definition_hash, steps, flow_input, name=name or UNSET)
        ]
        definitions = unseen_definitions(self._store, definition)
        self._pending_artifacts = [*definitions] if given is None else [given, *definitions]
        self._output = given
        if not self.may_reuse:
            self.introduction = {**(self.introduction or {}), **reuse_metadata(reuse=False)}
        self.instance = replace(self.instance, input=flow_input)

    async def _artifact(self, artifact_hash: str | None) -> Artifact | None:
        """Return the artifact with this hash, from the store unless this run has just made it."""
        if artifact_hash is None:
            return None
        if self._output is not None and self._output.hash == artifact_hash:
            return self._output
        return await self._store.get_artifact(artifact_hash)

    async def _reused(self, instance: FlowInstance, *, go_on: bool) -> list[StepFinished]:
        """Return the results that the next steps take over: one, or with `go_on` all there are.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        if self._reuse is None:
            return []
        self.is_appending = True  # the outcome that the results follow waits for them
        try:
            return await self._reuse.results(instance, most=None if go_on else 1)
        finally:
            self.is_appending = False

    async def _take_over(self, reused: Sequence[StepFinished], *, go_on: bool) -> None:
        """Append results that the next steps take over, and what follows them."""
        await self._append([*reused, *self._ahead(reused, go_on=go_on)], [])
        self._have_taken_over(reused)

    def _have_taken_over(self, reused: Sequence[StepFinished]) -> None:
        if reused and self._reuse is not None:
            self._output = self._reuse.output
        for fact in reused:
            if fact.reused_from:
                log_step_reused(self.instance.id, fact.step_id, fact.reused_from.flow_id)

    def keep_output(self, store: object) -> None:
        """Keep the output of the flow, if it is completed, for a parent that this process runs."""
        if self.instance.completed and self._output is not None:
            keep_artifact(store, self._output)

    def _ahead(self, done: Sequence[StepFinished], *, go_on: bool) -> list[FlowEventKind]:
        """Return what follows steps that have finished in the same append."""
        match after_steps(self.instance, done, self._definition):
            case Complete(flow_fingerprint=fingerprint):
                return [FlowCompleted(fingerprint)]
            case Run(step_index=index, step_id=step_id) if go_on and self.may_start_ahead(index):
                return [StepStarted(index, step_id)]
            case Run() | Await() | Refuse():
                return []  # the next call of `advance` meets the same decision
            case _ as never:
                assert_never(never)

    def may_start_ahead(self, index: int) -> bool:
        """Return whether the start of a step may be part of the append of the outcome before it."""
        del index
        return True

    async def _append(self, kinds: Sequence[FlowEventKind], artifacts: Sequence[Artifact]) -> None:
        with history_checked():
            events = await self._store.append_kinds(
                self.instance.id,
                [*self._pending, *kinds],
                artifacts=[*self._pending_artifacts, *artifacts],
                expected_version=self.instance.version,
                metadata=self.introduction,
            )
        if self._pending:
            remember_definition(self._store, self._definition)
        self._pending, self._pending_artifacts, self.introduction = [], [], None
        self.instance = replay(self.instance, events, self._definition)
        last = kinds[-1] if kinds else None
        self._started = last.step_index if isinstance(last, StepStarted) else None

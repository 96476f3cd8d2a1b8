"""One flow on its way: what is appended, and when.

Each append expects the version of the last one, so a second process on the same flow is noticed at once. An
outcome and what follows from it (the next start, or the completion) are one append: half the commits.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    StepFailed,
    StepFinished,
    StepStarted,
)
from chem_persistence.domain.fingerprints import flow_fingerprint
from chem_persistence.domain.instance import FlowInstance, StepStatus
from chem_persistence.domain.replay import replay
from chem_persistence.engine.attempt import Attempt
from chem_persistence.engine.failure import describe_failure
from chem_persistence.engine.steps_fit import Steps
from chem_persistence.errors import (
    ArtifactCorrupt,
    FlowAwaitsUser,
    FlowHasFailed,
    InvalidPayload,
    StepRaised,
)
from chem_persistence.store.ports import EventStore
from chem_persistence.telemetry.flow_log import log_step_failed, log_step_finished
from chem_persistence.telemetry.hooks import watched_step

__all__ = ["Run"]


class Run:
    """Advances one flow; `instance` is its state after everything that was appended."""

    def __init__(
        self,
        store: EventStore,
        steps: Steps,
        definition: FlowDefinition,
        instance: FlowInstance,
    ) -> None:
        self.instance = instance
        self._store = store
        self._steps = steps
        self._definition = definition
        self._waiting: list[FlowEventKind] = []  # goes in with the next append
        self._waiting_artifacts: list[Artifact] = []
        self._known: dict[
            str, Artifact
        ] = {}  # what this run has just stored and the next step takes
        self._started: int | None = None  # the step whose start this run has appended

    def start_with(self, given: Artifact | None) -> None:
        """Begin an empty flow, on this input."""
        definition = self._definition
        flow_input = None if given is None else given.hash
        self._waiting = [
            FlowInitialized(definition.definition_hash, len(definition.steps), flow_input)
        ]
        self._waiting_artifacts = [] if given is None else [given]
        self.instance = replace(self.instance, input=flow_input)

    async def advance(self, *, go_on: bool) -> None:
        """Run the step at the cursor; with `go_on` its outcome already starts the step after it.

        Raises:
            StepRaised, FlowHasFailed, FlowAwaitsUser, ConcurrencyConflict, StoreUnavailable: see `FlowEngine`.
        """
        index = self.instance.cursor
        if index == len(self._steps):
            await self._append([self._completion(self.instance)], [])
            return
        slot = self.instance.steps[index]
        if slot.status is StepStatus.FAILED:
            raise FlowHasFailed(self.instance.id, slot.step_id)
        if slot.status is StepStatus.AWAITING_USER_INPUT:
            raise FlowAwaitsUser(self.instance.id, slot.step_id)
        number = slot.attempts + (self._started != index)
        work = self._attempt(index, go_on=go_on)
        await watched_step(work, self.instance.id, index, slot.step_id, number)

    async def _attempt(self, index: int, *, go_on: bool) -> None:
        given = await self._input_of(index)
        if self._started != index:
            await self._append([StepStarted(index, self._steps[index].id)], [])
        attempt = Attempt(
            self._steps[index],
            given,
            definition_hash=self._definition.steps[index].definition_hash,
            store=self._store,
            flow_id=self.instance.id,
            step_index=index,
            number=self.instance.steps[index].attempts,
        )
        try:
            artifacts = await attempt.produce()
        except Exception as error:
            await self._fail(index, attempt, error)
            raise StepRaised(self.instance.id, self._steps[index].id) from error
        try:
            await self._finish(index, attempt, artifacts, go_on=go_on)
        except (InvalidPayload, ArtifactCorrupt) as error:  # the store refuses what the step made
            await self._fail(index, attempt, error)
            raise StepRaised(self.instance.id, self._steps[index].id) from error

    async def _finish(
        self, index: int, attempt: Attempt, artifacts: Sequence[Artifact], *, go_on: bool
    ) -> None:
        step_id = self._steps[index].id
        outputs = tuple(artifact.hash for artifact in artifacts)
        finished = StepFinished(index, step_id, outputs, attempt.fingerprint)
        kinds: list[FlowEventKind] = [*attempt.context.signals, finished]
        after = self._preview(index, finished)
        following = after.cursor
        if following == len(self._steps):
            kinds.append(self._completion(after))
        elif go_on and after.steps[following].status in (StepStatus.PENDING, StepStatus.RUNNING):
            kinds.append(StepStarted(following, self._steps[following].id))
        await self._append(kinds, artifacts)
        self._known = {artifact.hash: artifact for artifact in artifacts[:1]}
        log_step_finished(self.instance.id, step_id, attempt.context.attempt)

    async def _fail(self, index: int, attempt: Attempt, error: Exception) -> None:
        described = describe_failure(error)
        failed = StepFailed(index, self._steps[index].id, described, attempt.fingerprint)
        await self._append([*attempt.context.signals, failed], [])
        log_step_failed(
            self.instance.id, failed.step_id, attempt.context.attempt, described.error_class
        )

    def _preview(self, index: int, finished: StepFinished) -> FlowInstance:
        """Give the state that the step's success leads to, as far as fingerprints and the cursor go."""
        slots = list(self.instance.steps)
        slots[index] = replace(
            slots[index],
            status=StepStatus.FINISHED,
            fingerprint=finished.fingerprint,
            outputs=finished.outputs,
        )
        return replace(self.instance, steps=tuple(slots))

    def _completion(self, instance: FlowInstance) -> FlowCompleted:
        return FlowCompleted(flow_fingerprint(self._definition.definition_hash, instance))

    async def _input_of(self, index: int) -> Artifact | None:
        """Find the artifact that the step works on: the flow's input, or the first output of the step before it."""
        if index == 0:
            wanted = self.instance.input
        else:
            wanted = next(iter(self.instance.steps[index - 1].outputs), None)
        if wanted is None:
            return None
        for artifact in (*self._waiting_artifacts, *self._known.values()):
            if artifact.hash == wanted:
                return artifact
        return await self._store.get_artifact(wanted)

    async def _append(self, kinds: Sequence[FlowEventKind], artifacts: Sequence[Artifact]) -> None:
        events = await self._store.append_kinds(
            self.instance.id,
            [*self._waiting, *kinds],
            artifacts=[*self._waiting_artifacts, *artifacts],
            expected_version=self.instance.version,
        )
        self._waiting, self._waiting_artifacts = [], []
        self.instance = replay(self.instance, events, self._definition)
        last = kinds[-1]
        self._started = last.step_index if isinstance(last, StepStarted) else None

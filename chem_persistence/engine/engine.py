"""The engine: it goes on from wherever the log ends, one append at a time."""

from contextlib import suppress
from typing import Generic, TypeVar
from uuid import UUID

from uuid_utils.compat import uuid7

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import RetryScheduled
from chem_persistence.domain.fingerprints import flow_fingerprint
from chem_persistence.domain.instance import FlowInstance, StepStatus, initial_instance
from chem_persistence.engine.run import Run
from chem_persistence.engine.step import Step
from chem_persistence.engine.steps_fit import Steps, extended, members, step_types
from chem_persistence.errors import ChemPersistenceError, FlowAlreadyCompleted, InvalidArgument
from chem_persistence.store.attribution import trace_of
from chem_persistence.store.ports import EventStore, FlowRepository
from chem_persistence.telemetry.flow_log import log_completed, log_goes_on, log_step_retry
from chem_persistence.telemetry.hooks import (
    count_step_retry,
    describe_flow,
    link_to_trace,
    watched_flow,
    watched_schedule_retry,
)

__all__ = ["FlowBuilder", "FlowChain", "FlowEngine"]

Input = TypeVar("Input")
Output = TypeVar("Output")
Next = TypeVar("Next")


class FlowEngine(Generic[Input]):
    """Runs flows of one definition, many at once; everything it knows of a flow is in the log.

    Two engines, in one process or in two, may be told to run the same flow: one of them goes on, the
    other gets a `ConcurrencyConflict`.
    """

    def __init__(
        self,
        store: EventStore,
        repository: FlowRepository,
        steps: Steps,
        definition: FlowDefinition,
    ) -> None:
        self.definition = definition
        self._store = store
        self._repository = repository
        self._steps = steps
        self._last_flow_id: UUID | None = None

    @staticmethod
    def builder(store: EventStore, repository: FlowRepository) -> "FlowBuilder":
        """Begin a chain of steps."""
        return FlowBuilder(store, repository)

    async def run_to_end(self, flow_id: UUID | None = None, input: Input | None = None) -> UUID:  # noqa: A002
        """Start a new flow, or go on with the one named, until it is completed; gives its id.

        A flow that has no events yet is started under the id given. A step that was interrupted runs again, a
        finished one never. `input` may be given again when going on; it must then be the same.

        Raises:
            StepRaised: a step raised; its `StepFailed` is in the log and the original is the cause.
            FlowAlreadyCompleted: the flow named is completed.
            FlowHasFailed: a step failed earlier and no retry is scheduled.
            FlowAwaitsUser: a step waits for a person's answer.
            DefinitionMismatch: the flow named was started with another definition.
            ConcurrencyConflict: someone else went on with the flow.
            InvalidArgument: the input is missing, of another type, or not the one the flow was started with.
            InvalidPayload: the input or an output is not I-JSON, or too large.
            ArtifactNotFound, ArtifactCorrupt: the store lacks what a step takes, or has something else.
            UnreadableEvent, UnreplayableEvent: the log of the flow named is damaged.
            StoreUnavailable: the store cannot be reached; run the same flow again later.
            StoreError: the store refused, for want of a right, say.
        """
        return (await watched_flow(self._run(flow_id, input, to_end=True), flow_id)).id

    async def run_step(
        self,
        flow_id: UUID | None = None,
        input: Input | None = None,  # noqa: A002
    ) -> FlowInstance:
        """Run one step of a flow, which is started if need be, and give the state after it.

        The last step also completes the flow. Raises what `run_to_end` raises.
        """
        return await watched_flow(self._run(flow_id, input, to_end=False), flow_id)

    async def schedule_retry(self, flow_id: UUID, *, reason: str) -> FlowInstance:
        """Let a failed flow go on: its failed step is pending again, and `run_to_end` will run it.

        Raises:
            InvalidArgument: no step of the flow has failed.
            ConcurrencyConflict: someone else went on with the flow.
        """
        return await watched_schedule_retry(self._schedule_retry(flow_id, reason), flow_id)

    async def load(self, flow_id: UUID | None = None) -> FlowInstance:
        """Replay a flow from the store; the default is the one this engine ran last.

        Raises what `FlowRepository.load` raises, and:
            InvalidArgument: no flow is named, and none was run.
        """
        return await self._repository.load(self._asked(flow_id), None, self.definition)

    async def event_variants(self, flow_id: UUID | None = None) -> list[str]:
        """Give the distinct variants of a flow's events, in order of first appearance."""
        return list(dict.fromkeys(await self.event_trace(flow_id)))

    async def event_trace(self, flow_id: UUID | None = None) -> list[str]:
        """Give the letter of every event of a flow, in log order.

        Raises what `EventStore.list` raises, and:
            InvalidArgument: no flow is named, and none was run.
        """
        return [event.variant for event in await self._store.list(self._asked(flow_id))]

    async def flow_fingerprint(self, flow_id: UUID | None = None) -> str:
        """Compute a flow's fingerprint from its replay: the same for the same definition and input.

        Raises what `load` raises, and:
            FlowNotCompleted: a step is not finished.
        """
        return flow_fingerprint(self.definition.definition_hash, await self.load(flow_id))

    async def _run(
        self, flow_id: UUID | None, value: Input | None, *, to_end: bool
    ) -> FlowInstance:
        run = await self._begin(flow_id, value)
        log_goes_on(run.instance.id, run.instance.version)
        await self._introduce(run.instance)
        await run.advance(go_on=to_end)
        while to_end and not run.instance.completed:
            await run.advance(go_on=True)
        if run.instance.completed:
            log_completed(run.instance.id)
        return run.instance

    async def _introduce(self, instance: FlowInstance) -> None:
        """Say which flow goes on, and link what watches it to the trace in which it began."""
        if (
            describe_flow(instance.id, self.definition.definition_hash, instance.version)
            and instance.version
        ):
            with suppress(ChemPersistenceError):  # whoever watches must not stop the flow
                for first in await self._store.list(instance.id, limit=1):
                    link_to_trace(trace_of(first.metadata) or "")

    async def _schedule_retry(self, flow_id: UUID, reason: str) -> FlowInstance:
        instance = await self.load(flow_id)
        await self._introduce(instance)
        slot = next((slot for slot in instance.steps if slot.status is StepStatus.FAILED), None)
        if slot is None:
            raise InvalidArgument("flow_id", f"no step of flow {flow_id} has failed")
        retry = RetryScheduled(slot.step_id, slot.retry_count + 1, reason)
        await self._store.append_kind(flow_id, retry, expected_version=instance.version)
        count_step_retry(
            slot.step_id, retry.retry_index, "" if slot.error is None else slot.error.error_class
        )
        log_step_retry(flow_id, slot.step_id, retry.retry_index)
        return await self.load(flow_id)

    async def _begin(self, flow_id: UUID | None, value: Input | None) -> Run:
        if value is not None:
            self._check_input(value)
        given = self._input_artifact(value)
        if flow_id is None:
            flow_id = uuid7()
            instance = initial_instance(flow_id, self.definition)
        else:
            instance = await self._repository.load(flow_id, None, self.definition)
        if instance.completed:
            raise FlowAlreadyCompleted(flow_id)
        run = Run(self._store, self._steps, self.definition, instance)
        if instance.version == 0:
            self._check_input(value)
            run.start_with(given)
        elif given is not None and given.hash != instance.input:
            raise InvalidArgument("input", f"flow {flow_id} was started with another input")
        self._last_flow_id = flow_id
        return run

    def _check_input(self, value: Input | None) -> None:
        takes = step_types(self._steps[0])[0]
        if not isinstance(value, members(takes)):
            raise InvalidArgument(
                "input", f"step {self._steps[0].id!r} does not take {type(value).__qualname__}"
            )

    @staticmethod
    def _input_artifact(value: Input | None) -> Artifact | None:
        if value is None:
            return None
        return Artifact.from_payload(kind=type(value).__qualname__, payload=value)

    def _asked(self, flow_id: UUID | None) -> UUID:
        asked = flow_id if flow_id is not None else self._last_flow_id
        if asked is None:
            raise InvalidArgument("flow_id", "this engine has run no flow yet: name one")
        return asked


class FlowBuilder:
    """Where a chain of steps begins."""

    def __init__(self, store: EventStore, repository: FlowRepository) -> None:
        self._store = store
        self._repository = repository

    def first_step(self, step: Step[Input, Output]) -> "FlowChain[Input, Output]":
        """Begin with this step; its input type is the flow's.

        Raises:
            InvalidDefinition: the step has no id, or does not say its types, or takes what cannot be read from JSON.
        """
        return FlowChain(self._store, self._repository, extended((), step))


class FlowChain(Generic[Input, Output]):
    """Steps that fit so far: together they take a flow's `Input` and give `Output`."""

    def __init__(self, store: EventStore, repository: FlowRepository, steps: Steps) -> None:
        self._store = store
        self._repository = repository
        self._steps = steps

    def add_step(self, step: Step[Output, Next]) -> "FlowChain[Input, Next]":
        """Add a step that takes what the last one gives.

        Raises:
            InvalidDefinition: its types do not fit, it has no id or one that is taken, it does not say its types, a
                source stands after the first step, or any step after a sink.
        """
        return FlowChain(self._store, self._repository, extended(self._steps, step))

    def build(self) -> FlowEngine[Input]:
        """Make the engine that runs flows of these steps."""
        definition = FlowDefinition(tuple(step.definition() for step in self._steps))
        return FlowEngine(self._store, self._repository, self._steps, definition)

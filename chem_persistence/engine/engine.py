"""The engine: it continues each flow from the end of its log, one append at a time."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar
from uuid import UUID

from uuid_utils.compat import uuid7

from chem_persistence.domain.events import FlowEvent, RetryScheduled
from chem_persistence.domain.fingerprints import flow_fingerprint
from chem_persistence.domain.instance import FlowInstance, StepStatus, initial_instance
from chem_persistence.engine.flow import Flow, extended
from chem_persistence.engine.introduced import Introduced
from chem_persistence.engine.last_flow import LastFlow
from chem_persistence.engine.leases.held_flow import HeldFlow
from chem_persistence.engine.leases.own_children import OwnChildren, rest, wait_for_time
from chem_persistence.engine.leases.own_flow import OwnFlows, is_leased
from chem_persistence.engine.next_step import failed_step
from chem_persistence.engine.parameters.changes import Params
from chem_persistence.engine.reuse import results_of
from chem_persistence.engine.run import FlowRun
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.steps_fit import Steps
from chem_persistence.engine.watching import SharedStore
from chem_persistence.errors import (
    ChemPersistenceError,
    DefinitionMismatch,
    FlowAlreadyCompleted,
    FlowNotFound,
    FlowWasCancelled,
    InvalidArgument,
)
from chem_persistence.store.attribution import trace_of
from chem_persistence.store.clock import SystemClock
from chem_persistence.store.definitions import explained_mismatch
from chem_persistence.store.history import history_checked
from chem_persistence.store.leasing.leases import LeasingEventStore
from chem_persistence.store.ports import Clock, EventStore, FlowRepository
from chem_persistence.store.reuse.choice import may_reuse
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

_PAUSED = (StepStatus.WAITING, StepStatus.AWAITING_USER_INPUT)


class FlowEngine(Generic[Input]):
    """Runs a `Flow` in this process, many times at once; all that it knows of a run is in the log.

    A flow is run under a lease, from its first append on: a second engine, or a worker, does not
    run it at the same time, and a worker may go on with it if the process dies. Flows whose first
    event was appended by hand have none. If two engines run such a flow, a step that both start
    runs in both: the one that started it later stores its outcome and goes on, the other gets a
    `ConcurrencyConflict` when its work is done.

    The questions (`load`, `event_variants`, `event_trace`, `flow_fingerprint`) take a flow id.
    Without one they are about the flow of this engine's last run, which is a convenience for a
    program that runs one flow after another. Name the flow wherever several run at once: after
    runs that overlapped, a question without an id raises `InvalidArgument`.
    """

    def __init__(
        self, store: EventStore, repository: FlowRepository, flow: Flow[Input, Any]
    ) -> None:
        self.flow = flow
        self.definition = flow.definition
        self._store = store
        self._repository = repository
        self._last_flow = LastFlow()
        self._introduced = Introduced()
        self._others: dict[str, Flow[Input, Any]] = {}  # with other parameters, by definition
        self._clock: Clock = getattr(store, "clock", None) or SystemClock()
        self._results = results_of(store)
        self._given = OwnFlows(store, flow) if isinstance(store, LeasingEventStore) else None
        if flow.inner and not (self._given and isinstance(store, SharedStore)):
            raise InvalidArgument("store", "gives no flows to workers, which a step of this runs")

    @staticmethod
    def builder(store: EventStore, repository: FlowRepository) -> "FlowBuilder":
        """Return a builder of an engine on this store, whose flow has no name."""
        return FlowBuilder(store, repository)

    async def run_to_end(
        self,
        flow_id: UUID | None = None,
        input: Input | None = None,  # noqa: A002
        *,
        params: Params | None = None,
        reuse: bool = True,
    ) -> UUID:
        """Start a new flow, or go on with the one named, until it is completed; return its id.

        A flow that has no events yet is started under the id given. A step that was started and has
        no outcome runs again once its flow is nobody's; a finished one never.
        `input` may be given again when going on; it must then be the same. If the `retry` of a step
        tries its failure again, that is waited for, and so is the time until which a step waits.
        Flows that a step runs are given to workers, and run in this process as well.

        `params` are those in which the flow differs from this engine's; see `Flow.with_params`. An
        engine knows the flows that it began with them; another one needs them to go on.

        Steps with `reuse = "any"` take over the results of equal steps. With `reuse=False` no step
        of a new flow does, and no step of its children, in this process or in another one.

        Raises:
            StepRaised: a step raised, or returned what is not of its declared type; its
                `StepFailed` is in the log and the original is the cause.
            FlowAlreadyCompleted: the flow named is completed.
            FlowHasFailed: a step failed earlier and no retry is scheduled.
            FlowAwaitsUser: a step waits for a person's answer.
            FlowIsWaiting: a step waits until something happens to the flow.
            FlowIsRunning: a worker or another program runs the flow, or did so until it died less
                than 30 s ago.
            StaleLease: this program lost the lease of the flow, since it stood still or could not
                reach the store for too long.
            FlowWasCancelled: the flow named was cancelled.
            DefinitionMismatch: the flow named was started with another definition.
            ConcurrencyConflict: somebody else appended what a step came to, so that this run's
                attempt was superseded; what the step returned is not stored.
            HistoryLost: the flow has fewer events than when it was loaded.
            InvalidArgument: the input is missing, is not a value of the type that the first step
                takes, or is not the one that the flow was started with; a parameter is unknown, or
                of another type; or `reuse` is false, and the flow was started without that.
            InvalidPayload: the input is not I-JSON, or too large.
            ArtifactNotFound, ArtifactCorrupt: the store does not have a step's input, or has other
                bytes under its hash.
            UnreadableEvent, UnreplayableEvent: the log of the flow named is damaged.
            StoreUnavailable: the store cannot be reached; run the same flow again later.
            StoreError: the store refused the append, for lack of a privilege, for example.
        """
        running = self._run(flow_id, input, params, to_end=True, reuse=reuse)
        return (await watched_flow(running, flow_id)).id

    async def run_step(
        self,
        flow_id: UUID | None = None,
        input: Input | None = None,  # noqa: A002
        *,
        reuse: bool = True,
    ) -> FlowInstance:
        """Run one step of a flow, which is started if it has no events; return its state after it.

        The last step also completes the flow. A step whose failure is tried again is pending. After
        the step, a flow that was due for workers is due again, and one that a program has begun is
        left to nobody. `reuse` is as for `run_to_end`, and so is what this raises.
        """
        running = self._run(flow_id, input, None, to_end=False, reuse=reuse)
        return await watched_flow(running, flow_id)

    async def schedule_retry(self, flow_id: UUID, *, reason: str) -> FlowInstance:
        """Make the failed step of a flow pending again, so that `run_to_end` runs it.

        Raises:
            FlowNotFound: the flow has no events.
            FlowWasCancelled: the flow was cancelled.
            InvalidArgument: no step of the flow has failed.
            ConcurrencyConflict: another process or task went on with the flow.
            HistoryLost: the flow has fewer events than when it was loaded.
        """
        return await watched_schedule_retry(self._schedule_retry(flow_id, reason), flow_id)

    async def load(self, flow_id: UUID | None = None, *, missing_ok: bool = False) -> FlowInstance:
        """Return a flow's state, replayed from the store; the default flow is the last that ran.

        With `missing_ok` the state of a flow without events is that of one that has not begun.

        Raises what `FlowRepository.load` raises, and:
            FlowNotFound: the flow has no events, and `missing_ok` is false.
            InvalidArgument: no flow is named, and none was run, or several at the same time.
        """
        named = self._last_flow.named_or_last(flow_id)
        instance = (await self._load(named))[1]
        if instance.version == 0 and not missing_ok:
            raise FlowNotFound(named)
        return instance

    async def event_variants(self, flow_id: UUID | None = None) -> list[str]:
        """Return the distinct variants of a flow's events, in order of first appearance.

        Raises what `event_trace` raises.
        """
        return list(dict.fromkeys(await self.event_trace(flow_id)))

    async def event_trace(self, flow_id: UUID | None = None) -> list[str]:
        """Return the letter of every event of a flow, in log order.

        Raises what `EventStore.list` raises, and:
            FlowNotFound: the flow has no events.
            InvalidArgument: no flow is named, and none was run, or several at the same time.
        """
        named = self._last_flow.named_or_last(flow_id)
        events: list[FlowEvent] = await self._store.list(named)
        if not events:
            raise FlowNotFound(named)
        return [event.variant for event in events]

    async def flow_fingerprint(self, flow_id: UUID | None = None) -> str:
        """Return a flow's fingerprint, from its replay: the same for equal definition and input.

        Raises what `load` raises, and:
            FlowNotCompleted: a step is not finished.
        """
        flow, instance = await self._load(self._last_flow.named_or_last(flow_id))
        if instance.version == 0:
            raise FlowNotFound(instance.id)
        return flow_fingerprint(flow.definition_hash, instance)

    async def _run(
        self,
        flow_id: UUID | None,
        value: Input | None,
        params: Params | None,
        *,
        to_end: bool,
        reuse: bool,
    ) -> FlowInstance:
        with self._last_flow.run():
            flow, run, held = await self._begin(flow_id, value, params, reuse=reuse)
            instance = run.instance
            log_goes_on(instance.id, instance.version)
            await self._introduce(flow, instance)
            begun = await self._given.begin(flow, held, to_end=to_end) if self._given else None
            if held and not begun:  # another program has begun it since
                flow, run, _ = await self._begin(instance.id, value, params, reuse=reuse)
            instance = begun or await self._run_on(flow, run, to_end=to_end)
            if instance.completed:
                log_completed(instance.id)
            return instance

    async def _run_on(self, flow: Flow[Input, Any], run: FlowRun, *, to_end: bool) -> FlowInstance:
        """Run a flow from where it is, under its lease unless it was begun without one."""
        instance = run.instance
        if self._given and instance.version and await is_leased(self._store, instance.id):
            return await self._given.run(flow, instance.id, to_end=to_end)
        await self._wait(flow, instance, to_end=to_end)
        return await self._advanced(flow, run, to_end=to_end)

    async def _load(
        self, flow_id: UUID, flow: Flow[Input, Any] | None = None
    ) -> tuple[Flow[Input, Any], FlowInstance]:
        """Load a flow as the one that is given, or as one that this engine runs."""
        expected = flow or self.flow
        try:
            return expected, await self._repository.load(flow_id, None, expected.definition)
        except DefinitionMismatch as error:
            other = None if flow else self._others.get(error.actual)
            if other is None:
                raise await explained_mismatch(self._store, error, expected.definition) from error
            return await self._load(flow_id, other)

    def _with(self, params: Params) -> Flow[Input, Any]:
        """Return the engine's flow with other parameters, and remember it."""
        flow = self.flow.with_params(params, by="submission")
        return self._others.setdefault(flow.definition_hash, flow)

    async def _introduce(self, flow: Flow[Input, Any], instance: FlowInstance) -> None:
        """Describe the flow in the current span, and link it to the trace in which it began."""
        if describe_flow(instance.id, flow.definition_hash, instance.version) and instance.version:
            with suppress(ChemPersistenceError):  # telemetry must not stop the flow
                for first in await self._store.list(instance.id, limit=1):
                    link_to_trace(trace_of(first.metadata) or "")

    async def _schedule_retry(self, flow_id: UUID, reason: str) -> FlowInstance:
        flow, instance = await self._load(flow_id)
        if instance.version == 0:
            raise FlowNotFound(flow_id)
        await self._introduce(flow, instance)
        slot = failed_step(instance)
        retry = RetryScheduled(slot.step_id, slot.retry_count + 1, reason)
        with history_checked():
            await self._store.append_kind(flow_id, retry, expected_version=instance.version)
        count_step_retry(
            slot.step_id, retry.retry_index, "" if slot.error is None else slot.error.error_class
        )
        log_step_retry(flow_id, slot.step_id, retry.retry_index)
        return await self.load(flow_id)

    async def _begin(
        self, flow_id: UUID | None, value: Input | None, params: Params | None, *, reuse: bool
    ) -> tuple[Flow[Input, Any], FlowRun, HeldFlow | None]:
        flow = None if params is None else self._with(params)
        given = None if value is None else self.flow.input_artifact(value)
        if flow_id is None:
            flow_id, flow = uuid7(), flow or self.flow
            instance = initial_instance(flow_id, flow.definition)
        else:
            flow, instance = await self._load(flow_id, flow)
        if instance.completed:  # whatever the input is
            raise FlowAlreadyCompleted(flow_id)
        if instance.cancelled is not None:
            raise FlowWasCancelled(flow_id, instance.cancelled)
        held = self._given.new(flow, instance) if self._given and not instance.version else None
        run = held.run if held else FlowRun(self._store, flow.steps, flow.definition, instance)
        run.introduction = self._introduced.introduction(instance, flow)
        allowed = reuse
        if instance.version:
            allowed = may_reuse(await self._store.list(flow_id, limit=1))
            if allowed and not reuse:
                raise InvalidArgument("reuse", f"flow {flow_id} was started with reuse")
        run.take_over(self._results, may_reuse=allowed)
        if instance.version == 0:
            flow.check_input_class(value)
            run.start_with(given, flow.name)
        elif given is not None and given.hash != instance.input:
            raise InvalidArgument("input", f"flow {flow_id} was started with another input")
        self._last_flow.begin(flow_id)
        return flow, run, held

    async def _wait(self, flow: Flow[Input, Any], instance: FlowInstance, *, to_end: bool) -> None:
        """Wait until the time of a step that waits, of a flow that is not locked."""
        if any(slot.status in _PAUSED for slot in instance.steps):
            events = await self._store.list(instance.id)
            await wait_for_time(flow, instance, events, self._clock, to_end=to_end)

    async def _advanced(
        self, flow: Flow[Input, Any], run: FlowRun, *, to_end: bool
    ) -> FlowInstance:
        """Run a flow that is not locked to its end, or one step of it."""
        async with OwnChildren(self._store, run.instance.id, self._run_child) as children:
            await run.advance(go_on=to_end)
            while to_end and not run.instance.completed:
                if run.retry_after is not None:
                    await asyncio.sleep(run.retry_after.total_seconds())
                elif run.has_parked or run.look_after is not None:
                    await rest(flow, run.instance, children, self._clock, run.look_after)
                await run.advance(go_on=True)
        if run.introduction is None:
            self._introduced.leave(run.instance)
        return run.instance

    async def _run_child(self, flow_id: UUID) -> None:
        if self._given is not None:
            await self._given.run_child(flow_id)


class FlowBuilder:
    """Builds an engine, step by step."""

    def __init__(self, store: EventStore, repository: FlowRepository) -> None:
        self._store = store
        self._repository = repository

    def first_step(self, step: Step[Input, Output]) -> "FlowChain[Input, Output]":
        """Begin with this step; its input type is the flow's.

        Raises:
            InvalidDefinition: the step has no id, its class does not name its types, a field of
                them can never be JSON, or its input type cannot be decoded.
        """
        return FlowChain(self._store, self._repository, extended((), step))


class FlowChain(Generic[Input, Output]):
    """A sequence of steps, each of which accepts what the one before it returns.

    Together they take a flow's `Input` and return `Output`. The name is public and stays; it has
    nothing to do with the hash chain of the log.
    """

    def __init__(self, store: EventStore, repository: FlowRepository, steps: Steps) -> None:
        self._store = store
        self._repository = repository
        self._steps = steps

    def add_step(self, step: Step[Output, Next]) -> "FlowChain[Input, Next]":
        """Return the sequence with a step at its end that takes what the last one returns.

        Raises:
            InvalidDefinition: the types do not fit, the step has no id or one that is taken, its
                class does not name its types, a field of them can never be JSON, it is a source,
                or the last step is a sink.
        """
        return FlowChain(self._store, self._repository, extended(self._steps, step))

    def build(self, *, records: Sequence[str] = ()) -> FlowEngine[Input]:
        """Return the engine that runs flows of these steps; see `flow` for `records`.

        Raises:
            InvalidDefinition: a step's id is empty, or `records` names no packages.
            InvalidPayload: a step's params are not I-JSON.
        """
        built = Flow[Input, Output]("", self._steps, records)
        return FlowEngine(self._store, self._repository, built)

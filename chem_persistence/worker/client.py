"""The client of flows that workers run: it submits, waits, retries and cancels."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import (
    FlowCancelled,
    FlowEvent,
    FlowEventKind,
    RetryScheduled,
    StepError,
    StepSignal,
    UserInteractionProvided,
)
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.engine.children.cancellation import cancellation_fact
from chem_persistence.engine.children.family import cancel_all_children
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.next_step import failed_step
from chem_persistence.engine.parameters.changes import Params
from chem_persistence.engine.parameters.stored import flow_as_begun
from chem_persistence.engine.watching import SharedStore
from chem_persistence.errors import (
    ConcurrencyConflict,
    DefinitionMismatch,
    FlowAlreadyCompleted,
    FlowHasFailed,
    FlowNotFound,
    FlowWasCancelled,
    InvalidArgument,
)
from chem_persistence.store.checks import check_poll_interval
from chem_persistence.store.history import history_checked
from chem_persistence.store.leasing.children import parent_of
from chem_persistence.store.leasing.hints import ANY_DEFINITION
from chem_persistence.store.leasing.leases import HintingLeases, LeasingEventStore
from chem_persistence.store.leasing.slots import ResourceLimit, needed_slots
from chem_persistence.store.leasing.submission import submission
from chem_persistence.store.ports import EventStore, FlowRepository, StreamingEventStore
from chem_persistence.telemetry.flow_log import log_step_retry
from chem_persistence.telemetry.hooks import count_step_retry
from chem_persistence.views.observed_flow import replay_observed
from chem_persistence.worker.branches import branch_of, branched_flow, store_branch
from chem_persistence.worker.ending import ended_flow
from chem_persistence.worker.questions import answer_artifact, open_question, step_index
from chem_persistence.worker.requests.invalidation import invalidation
from chem_persistence.worker.requests.results import ResultQuestions
from chem_persistence.worker.requests.submissions import Submissions

__all__ = ["FlowClient"]

Input = TypeVar("Input")
Output = TypeVar("Output")


class FlowClient(Submissions, ResultQuestions):
    """Gives flows to workers, and asks what became of them; it needs no worker and no engine.

    It appends to `store`, and reads the results by `repository`. A call that waits reads the flow's
    new events at least every `poll_interval` seconds.
    """

    def __init__(
        self, store: EventStore, repository: FlowRepository, *, poll_interval: float = 0.25
    ) -> None:
        check_poll_interval(poll_interval)
        super().__init__(store)
        self._repository = repository
        self._poll_interval = poll_interval

    async def result(
        self,
        flow: Flow[Input, Output],
        flow_id: UUID,
        *,
        timeout: timedelta | None = None,  # noqa: ASYNC109  # a deadline
    ) -> Output:
        """Wait until a flow is completed, and return the output of its last step.

        The flow may have other parameters than `flow`.

        Raises:
            FlowHasFailed: a step failed, and no retry is scheduled.
            FlowWasCancelled: the flow was cancelled.
            TimeoutError: neither came within `timeout` (None: wait without end).
            FlowNotFound: no flow has this id.
            DefinitionMismatch: the flow was started with other steps.
            InvalidPayload: the output is not of the type that the last step declares.
            ArtifactNotFound, ArtifactCorrupt: the output is not in the store, or has other bytes.
            UnreadableEvent, UnreplayableEvent: the log of the flow is damaged.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        try:
            summary = await ended_flow(
                self._store,
                flow_id,
                flow.definition,
                longest=timeout,
                most_pause=self._poll_interval,
            )
        except DefinitionMismatch:
            begun = await flow_as_begun(self._store, flow, flow_id)
            if begun is flow:
                raise
            return await self.result(begun, flow_id, timeout=timeout)
        if summary.state is FlowState.FAILED:
            error = summary.failure or StepError("", "")
            step_id = summary.current_step or ""
            raise FlowHasFailed(flow_id, step_id, error.error_class, error.message)
        instance = await self._repository.load(flow_id, None, flow.definition)
        if instance.cancelled is not None:
            raise FlowWasCancelled(flow_id, instance.cancelled)
        output = await self._store.get_artifact(instance.steps[-1].outputs[0])
        return flow.read_output(output)

    async def wait(
        self,
        flow_id: UUID,
        *,
        timeout: timedelta | None = None,  # noqa: ASYNC109  # a deadline
    ) -> FlowState:
        """Wait until a flow is completed, was cancelled, or has failed; return which.

        A failed flow may go on: after `retry`.

        Raises:
            TimeoutError: none of them came within `timeout` (None: wait without end).
            FlowNotFound: no flow has this id.
            UnreadableEvent: the log of the flow is damaged.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        summary = await ended_flow(
            self._store, flow_id, None, longest=timeout, most_pause=self._poll_interval
        )
        return summary.state

    async def retry(self, flow_id: UUID, *, reason: str, actor: str | None = None) -> None:
        """Run the failed step of a flow again, now; `actor` is who asks.

        Raises:
            FlowNotFound: no flow has this id.
            FlowAlreadyCompleted: the flow is completed.
            FlowWasCancelled: the flow was cancelled.
            InvalidArgument: no step of the flow has failed, or its retry is scheduled already.
            HistoryLost: the flow has fewer events than when it was read: the log went back.
            UnreadableEvent, UnreplayableEvent: the log of the flow is damaged.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        while True:
            events = await self._events(flow_id)
            instance = replay_observed(flow_id, events).instance
            if instance.completed:
                raise FlowAlreadyCompleted(flow_id)
            failed = failed_step(instance)
            retry = RetryScheduled(failed.step_id, failed.retry_count + 1, reason)
            if await self._appended(flow_id, retry, len(events), actor):
                break
        error_class = "" if failed.error is None else failed.error.error_class
        count_step_retry(retry.step_id, retry.retry_index, error_class)
        log_step_retry(flow_id, retry.step_id, retry.retry_index)

    async def branch(
        self,
        flow_id: UUID,
        flow: Flow[Input, Output] | None = None,
        input: Input | None = None,  # noqa: A002
        *,
        reason: str,
        from_step: str | None = None,
        params: Params | None = None,
        branch_id: UUID | None = None,
        label: str | None = None,
        actor: str | None = None,
    ) -> UUID:
        """Branch a flow: submit another one that takes over its results up to `from_step`.

        `flow` is what the branch runs, with other parameters, for example; `input` is that of the
        parent if it is None. With `params` the steps have the parameters of the parent, but for
        these; without, those of `flow`. If `flow` is None the steps are those of the parent, as its
        definition is stored. The branch takes over the results of its first steps, of
        which neither definition nor input differ, and runs from `from_step` on, or from the first
        step that differs (None). The results keep their origin (`StepFinished.reused_from`); those
        steps have no start in the branch. Its parent has a `BranchCreated` then. With a `branch_id`
        a branch can be repeated. `actor` is who asks.

        Raises what `EventStore.append_kinds` raises but `ConcurrencyConflict`, and:
            FlowNotFound: no flow has this id.
            InvalidArgument: the flow does not take such an input; the definition of the parent is
                not stored; a step before `from_step` differs, or there is nothing to run; the flow
                `branch_id` exists and is not this branch; the store has no transactions; a
                parameter is unknown, or of another type; or there is an input and no `flow`.
        """
        if not isinstance(self._store, StreamingEventStore):
            raise InvalidArgument("store", "has no transactions, which a branch needs")
        events = await self._events(flow_id)
        run, given = await branched_flow(self._store, events[0], flow, input, params)
        submitted = submission(run, given, clock=self._clock, flow_id=branch_id, label=label)
        branch = await branch_of(self._store, run, events, submitted, from_step)
        await store_branch(self._store, branch, reason=reason, actor=actor)
        return submitted.flow_id

    async def answer(self, flow_id: UUID, step_id: str, value: Any, *, actor: str) -> None:
        """Answer the question of a step, so that its flow goes on; `actor` is who answers.

        `value` is a value of the answer's class, or JSON that fits the schema of the question. It
        is stored as an artifact too. The first answer counts.

        Raises:
            FlowNotFound: no flow has this id.
            NotWaiting: the step does not wait for a person, because it was answered, for example.
            InvalidPayload: the answer is not I-JSON, too large, or does not fit the question.
            HistoryLost: the flow has fewer events than when it was read: the log went back.
            UnreadableEvent, UnreplayableEvent: the log of the flow is damaged.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        while True:
            events = await self._events(flow_id)
            question = open_question(flow_id, step_id, events)
            answer = answer_artifact(question, value)
            fact = UserInteractionProvided(question.step_index, step_id, answer.payload)
            if await self._appended(flow_id, fact, len(events), actor, [answer]):
                return

    async def signal(
        self, flow_id: UUID, step_id: str, name: str, data: Any = None, *, actor: str | None = None
    ) -> None:
        """Send a signal to a step of a flow, and let a step that waits for an event begin anew.

        The step reads it by `StepContext.received`. The flow may have ended: then it is only
        stored. Sent twice, it is stored twice.

        Raises:
            FlowNotFound: no flow has this id.
            InvalidArgument: the flow has no such step, as far as its log names its steps.
            InvalidPayload: `name` is not a string, or begins with `chem_persistence.`; `data` is
                not I-JSON, or too large.
            HistoryLost, UnreadableEvent, UnreplayableEvent: as `answer`.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        while True:
            events = await self._events(flow_id)
            index = await step_index(self._store, flow_id, events, step_id)
            fact = StepSignal(index, step_id, name, data)
            if await self._appended(flow_id, fact, len(events), actor):
                return

    async def invalidate(self, flow_id: UUID, step_id: str, *, reason: str, actor: str) -> bool:
        """Declare a step's result invalid, so that no step takes it over; `actor` is who says so.

        The flow may have ended: it stays as it is, and so do the flows that have taken the result
        over, which `taken_over` of the store lists. Return False if the result was invalid already.

        Raises:
            FlowNotFound: no flow has this id.
            InvalidArgument: the step has no result, or took it over from another flow, where it is
                to be invalidated.
            InvalidPayload: the reason is not a string that JSON can hold.
            HistoryLost, UnreadableEvent: as `answer`.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        while True:
            events = await self._events(flow_id)
            fact = invalidation(flow_id, step_id, events, reason)
            if fact is None:
                return False
            if await self._appended(flow_id, fact, len(events), actor):
                return True

    async def cancel(
        self, flow_id: UUID, *, reason: str, actor: str | None = None, force: bool = False
    ) -> None:
        """Cancel a flow before it completes, also one that has failed; `actor` is who asks.

        The flow is cancelled at once, and a worker that runs it finds that out at the latest when
        it appends the outcome of the step. But if the log shows that a step has waited, or runs
        other flows, it may have a batch job or children under way: then a signal asks the worker
        that holds or claims the flow to end these first, unless `force` is true, or the flow was
        not given to workers. A flow that was cancelled already stays as it is.

        Raises:
            FlowNotFound: no flow has this id.
            FlowAlreadyCompleted: the flow is completed.
            HistoryLost: the flow has fewer events than when it was read: the log went back.
            InvalidPayload: the reason is not a string that JSON can hold.
            UnreadableEvent: the log of the flow is damaged.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        while True:
            events = await self._events(flow_id)
            fact = await cancellation_fact(self._store, flow_id, events, reason, force=force)
            if fact is None:
                return
            if await self._appended(flow_id, fact, len(events), actor):
                break
        if isinstance(fact, FlowCancelled):
            await self._follow_cancellation(flow_id, events, reason)

    async def set_limit(self, resource: str, most: int | None) -> None:
        """Limit how much steps use of a resource over all workers; see `Slots.set_limit`.

        Raises what that raises, and:
            InvalidArgument: the store has no leases.
        """
        await needed_slots(self._store).set_limit(resource, most)

    async def limits(self) -> list[ResourceLimit]:
        """Return the limits over all workers, and who uses what; see `Slots.limits`."""
        return await needed_slots(self._store).limits()

    async def _follow_cancellation(
        self, flow_id: UUID, events: Sequence[FlowEvent], reason: str
    ) -> None:
        """Cancel the children of a flow that was cancelled at once, and call its parent."""
        store = self._store
        if isinstance(store, SharedStore):
            await cancel_all_children(store, flow_id, events, reason, self._clock)
        parent = parent_of(events)
        if parent is not None and isinstance(store, LeasingEventStore):
            await store.leases.call([parent.flow_id])

    async def _events(self, flow_id: UUID) -> Sequence[FlowEvent]:
        """Return the events of a flow.

        Raises:
            FlowNotFound: it has none.
        """
        events = await self._store.list(flow_id)
        if not events:
            raise FlowNotFound(flow_id)
        return events

    async def _appended(
        self,
        flow_id: UUID,
        fact: FlowEventKind,
        version: int,
        actor: str | None,
        artifacts: Sequence[Artifact] = (),
    ) -> bool:
        """Append a fact to a flow that has `version` events; return False if it has more by now."""
        metadata = None if actor is None else {"actor": actor}
        with suppress(ConcurrencyConflict), history_checked():
            await self._store.append_kinds(
                flow_id, [fact], artifacts=artifacts, expected_version=version, metadata=metadata
            )
            leases = getattr(self._store, "leases", None)
            if isinstance(leases, HintingLeases) and not isinstance(fact, FlowCancelled):
                await leases.hint([ANY_DEFINITION])
            return True
        return False

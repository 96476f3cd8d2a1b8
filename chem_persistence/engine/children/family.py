"""The children of one step of a flow: they are submitted, looked at, retried and cancelled."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol
from uuid import UUID, uuid5

from msgspec import UNSET
from msgspec.structs import replace

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    FlowCompleted,
    FlowEvent,
    FlowEventKind,
    FlowInitialized,
    FlowParent,
    RetryScheduled,
    StepFailed,
    StepFinished,
    StepWaits,
)
from chem_persistence.domain.fingerprints import flow_fingerprint
from chem_persistence.domain.instance import initial_instance
from chem_persistence.engine.children.cancellation import cancellation_fact
from chem_persistence.engine.children.kept import keep_artifact, take_artifacts
from chem_persistence.engine.next_step import after_success
from chem_persistence.engine.reuse import Results, Reuse
from chem_persistence.engine.steps.steps_fit import Steps
from chem_persistence.engine.watching import SharedStore
from chem_persistence.errors import (
    ArtifactNotFound,
    ChemPersistenceError,
    ConcurrencyConflict,
    FlowAlreadyCompleted,
)
from chem_persistence.store.artifact_reads import read_artifacts
from chem_persistence.store.batches.appender import append_each
from chem_persistence.store.batches.flow_append import FlowAppend
from chem_persistence.store.definitions import remember_definition, unseen_definitions
from chem_persistence.store.leasing.children import ChildState, child_count, child_id, state_after
from chem_persistence.store.leasing.hints import ANY_DEFINITION
from chem_persistence.store.leasing.leases import HintingLeases
from chem_persistence.store.ports import Clock
from chem_persistence.store.reuse.choice import reuse_metadata

__all__ = ["ChildFlow", "Family", "cancel_all_children"]

AT_A_TIME = 200
"""The number of children that are appended to, or whose logs are read, at the same time."""


FEWEST_TOGETHER, MOST_TOGETHER = 50, 500
"""The number of children that are submitted by one call: the fewest at first, then twice as many
each time. A process that lives for a short time only leaves some to the next one that way, however
slow the store is."""


class ChildFlow(Protocol):
    """What a family needs of a flow."""

    @property
    def steps(self) -> Steps:
        """The flow's steps, in order."""
        ...

    @property
    def name(self) -> str:
        """The flow's name in its program."""
        ...

    @property
    def definition(self) -> FlowDefinition:
        """The flow's steps, as values."""
        ...


class Family:
    """The children of the step `step_index` of the flow `parent`, by the number of their item.

    Every call may be repeated by another process: what is done already is not done again. What the
    steps of children take over is found by `results`, when they are submitted; `completed` counts
    the children that needed nothing else. They take nothing over if not `may_reuse`.
    """

    def __init__(
        self,
        store: SharedStore,
        parent: UUID,
        step_index: int,
        clock: Clock,
        results: Results | None = None,
        *,
        may_reuse: bool = True,
    ) -> None:
        self.completed = 0
        self.ids: dict[int, UUID] = {}
        """The ids of the children by their item, as far as they were made."""
        self._results = results
        self._metadata = reuse_metadata(reuse=may_reuse) or None
        self._store = store
        self._parent = parent
        self._step_index = step_index
        self._clock = clock

    def child(self, item: int) -> UUID:
        """Return the id of a child."""
        known = self.ids.get(item)
        if known is None:
            known = self.ids[item] = child_id(self._parent, self._step_index, item)
        return known

    async def states(self, items: Iterable[int]) -> Mapping[int, ChildState]:
        """Return the states of those children that were submitted, in the order given.

        Raises what `ChildReader.child_states` raises.
        """
        flow_ids = {item: self.child(item) for item in items}
        found = await self._store.child_states(list(flow_ids.values()))
        return {item: found[flow] for item, flow in flow_ids.items() if flow in found}

    async def submit(self, members: Sequence[tuple[int, ChildFlow, Artifact | None]]) -> None:
        """Submit children to workers (item, flow, input); one that exists stays as it is.

        Raises what `EventStore.append_kinds` raises but `ConcurrencyConflict`.
        """
        unseen = {  # of each definition the first child: they are submitted in order
            flow.definition.definition_hash: (item, flow, given)
            for item, flow, given in reversed(members)
            if unseen_definitions(self._store, flow.definition)
        }
        if unseen:  # with these the definitions are stored
            await self._submit(list(unseen.values()))
        firsts = {item for item, _, _ in unseen.values()}
        others = [each for each in members if each[0] not in firsts]
        first, together = 0, FEWEST_TOGETHER
        while first < len(others):
            await self._submit(others[first : first + together])
            first, together = first + together, min(2 * together, MOST_TOGETHER)

    async def _submit(self, members: Sequence[tuple[int, ChildFlow, Artifact | None]]) -> None:
        appends = await self._first_appends(members)
        answers = await append_each(self._store, appends)
        for (_, flow, given), append, answer in zip(members, appends, answers, strict=True):
            match answer:
                case ConcurrencyConflict():
                    pass  # it was submitted before
                case ChemPersistenceError():
                    raise answer
                case _:
                    self.completed += isinstance(append.kinds[-1], FlowCompleted)
                    remember_definition(self._store, flow.definition)
                    if given is not None:
                        keep_artifact(self._store, given)

    async def _first_appends(
        self, members: Sequence[tuple[int, ChildFlow, Artifact | None]]
    ) -> list[FlowAppend]:
        """Return the appends with which children begin, with what they take over."""
        reused: Sequence[Sequence[FlowEventKind]] = [()] * len(members)
        if self._results is not None:  # looked up side by side: few queries
            reused = await asyncio.gather(*[self._reused(*each) for each in members])
        return [
            self._first_append(*each, taken) for each, taken in zip(members, reused, strict=True)
        ]

    def _first_append(
        self, item: int, flow: ChildFlow, given: Artifact | None, reused: Sequence[FlowEventKind]
    ) -> FlowAppend:
        definition = flow.definition
        fact = FlowInitialized(
            definition.definition_hash,
            len(definition.steps),
            None if given is None else given.hash,
            due=self._clock.now(),
            parent=FlowParent(self._parent, self._step_index, item),
            name=flow.name or UNSET,
        )
        definitions = unseen_definitions(self._store, definition)
        return FlowAppend(
            self.child(item),
            (fact, *reused),
            definitions if given is None else (given, *definitions),
            expected_version=0,
            metadata=self._metadata,
        )

    async def _reused(
        self, item: int, flow: ChildFlow, given: Artifact | None
    ) -> list[StepFinished | FlowCompleted]:
        """Return the results that the first steps of a child take over, and its end if all do."""
        if self._results is None:
            return []
        definition = flow.definition
        instance = replace(
            initial_instance(self.child(item), definition), input=given and given.hash
        )
        reused = await Reuse(self._results, flow.steps, definition).results(instance)
        for finished in reused:
            instance = after_success(instance, finished)
        if len(reused) < len(flow.steps):
            return [*reused]
        fingerprint = flow_fingerprint(definition.definition_hash, instance)
        return [*reused, FlowCompleted(fingerprint)]

    async def outputs(self, items: Sequence[int]) -> list[Artifact]:
        """Read the outputs of completed children.

        Raises what `EventStore.get_artifact` raises.
        """
        flow_ids = [self.child(item) for item in items]
        hashes = await self._store.child_outputs(flow_ids)
        wanted = list(dict.fromkeys(hashes[flow_id] for flow_id in flow_ids))
        found = take_artifacts(self._store, wanted)
        left = [each for each in wanted if each not in found]
        async for read in read_artifacts(self._store, left):
            if not isinstance(read, Artifact):
                raise read
            found[read.hash] = read
        try:
            return [found[hashes[flow_id]] for flow_id in flow_ids]
        except KeyError as error:
            raise ArtifactNotFound(str(error.args[0])) from error

    async def failure(self, item: int) -> str:
        """Return in words why a child has not completed.

        Raises what `EventStore.list` raises.
        """
        flow_id = self.child(item)
        events = await self._store.list(flow_id)
        if not _has_failed(events):
            return f"flow {flow_id} was cancelled"
        failed = _last_failure(events)
        return (
            f"flow {flow_id} failed at step {failed.step_id!r} with {failed.error.error_class}: "
            f"{failed.error.message}"
        )

    async def retry(self, items: Sequence[int], retry_index: int) -> None:
        """Schedule a retry of failed children, once for each retry of the parent's step.

        The id of the event follows from the child, the parent and its retry: a process that takes
        over finds what was done.

        Raises what `EventStore.append_kind` raises.
        """
        for first in range(0, len(items), AT_A_TIME):
            flow_ids = [self.child(item) for item in items[first : first + AT_A_TIME]]
            logs = await self._store.list_many(flow_ids)
            await _in_parts(
                [partial(self._retry, flow, logs[flow], retry_index) for flow in flow_ids]
            )
        await self._hint(items)

    async def _retry(self, flow_id: UUID, events: Sequence[FlowEvent], retry_index: int) -> None:
        event_id = uuid5(flow_id, f"{self._parent}/{retry_index}")
        reason = f"retry {retry_index} of flow {self._parent}"
        while True:
            is_done = any(event.event_id == event_id for event in events)
            fact = None if is_done else _retry_of(events, reason)
            if fact is None:
                return
            with suppress(ConcurrencyConflict):
                await self._store.append_kind(
                    flow_id, fact, expected_version=len(events), event_id=event_id
                )
                return
            events = await self._store.list(flow_id)

    async def cancel(self, items: Iterable[int], reason: str) -> None:
        """Cancel the children that were submitted and have not ended, or ask them to end.

        Raises what `EventStore.append_kind` raises.
        """
        states = await self.states(items)
        ended = (ChildState.COMPLETED, ChildState.CANCELLED)
        alive = [self.child(item) for item, state in states.items() if state not in ended]
        for first in range(0, len(alive), AT_A_TIME):
            part = alive[first : first + AT_A_TIME]
            logs = await self._store.list_many(part)
            await _in_parts([partial(self._cancel, flow, logs[flow], reason) for flow in part])
        await self._hint(alive)

    async def _hint(self, changed: Sequence[object]) -> None:
        """Send idle workers a hint that there may be something to do, if there were changes."""
        leases = getattr(self._store, "leases", None)
        if changed and isinstance(leases, HintingLeases):
            await leases.hint([ANY_DEFINITION])

    async def _cancel(self, flow_id: UUID, events: Sequence[FlowEvent], reason: str) -> None:
        with suppress(FlowAlreadyCompleted):
            while True:
                fact = await cancellation_fact(self._store, flow_id, events, reason, force=False)
                if fact is None:
                    return
                with suppress(ConcurrencyConflict):
                    await self._store.append_kind(flow_id, fact, expected_version=len(events))
                    return
                events = await self._store.list(flow_id)


async def cancel_all_children(
    store: SharedStore, flow_id: UUID, events: Sequence[FlowEvent], reason: str, clock: Clock
) -> None:
    """Cancel the children of all steps of a flow with these events that have waited for some.

    Raises what `Family.cancel` raises.
    """
    for event in events:
        fact = event.kind
        if isinstance(fact, StepWaits) and (count := child_count(fact.data)):
            await Family(store, flow_id, fact.step_index, clock).cancel(range(count), reason)


async def _in_parts(
    calls: Sequence[Callable[[], Awaitable[None]]], at_a_time: int = AT_A_TIME
) -> None:
    """Make many calls, some at a time, so that their appends share commits.

    Raises the first error of a part, after all calls of it have ended.
    """
    for first in range(0, len(calls), at_a_time):
        part = [call() for call in calls[first : first + at_a_time]]
        for outcome in await asyncio.gather(*part, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome


def _has_failed(events: Sequence[FlowEvent]) -> bool:
    return state_after(event.event_type for event in reversed(events)) is ChildState.FAILED


def _last_failure(events: Sequence[FlowEvent]) -> StepFailed:
    return [event.kind for event in events if isinstance(event.kind, StepFailed)][-1]


def _retry_of(events: Sequence[FlowEvent], reason: str) -> RetryScheduled | None:
    """Return the next retry of a flow that has failed; None if it has not."""
    if not _has_failed(events):
        return None
    step_id = _last_failure(events).step_id
    before = [
        event.kind.retry_index
        for event in events
        if isinstance(event.kind, RetryScheduled) and event.kind.step_id == step_id
    ]
    return RetryScheduled(step_id, max(before, default=0) + 1, reason)

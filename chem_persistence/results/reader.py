"""Reads the rows of results from a store: runs and children in keyset pages, then their values."""

import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from msgspec import UNSET

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent, StepFinished, StepWaits
from chem_persistence.errors import FlowNotFound, InvalidArgument
from chem_persistence.results.places import Place, maps_of, place_of, step_ids
from chem_persistence.results.rows import ResultRow
from chem_persistence.store.artifact_reads import read_artifacts
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.leasing.children import child_count, child_id
from chem_persistence.store.outcomes.reader import FlowOutcome, OutcomeFilter, OutcomeReader
from chem_persistence.store.ports import EventStore

__all__ = ["Question", "RowReader", "RowStore"]

PROBED = 1_024
"""How many items are looked for at a time if it is not known how many a map has.

Children are submitted in order, fewer than so many at the same time: where none is found, none
follows.
"""

MOST_DEFINITIONS = 64
"""The definitions of so many flows at most are remembered while rows are read."""


@runtime_checkable
class RowStore(EventStore, OutcomeReader, Protocol):
    """A store from which rows are read."""


class Question(NamedTuple):
    """Which rows: of one run, or of those that `chosen` lists; see `FlowClient.results`."""

    run: UUID | None
    chosen: OutcomeFilter
    step: str | None
    page_size: int
    limit: int | None


class _Found(NamedTuple):
    """A flow that is a row, and the run to which it belongs."""

    outcome: FlowOutcome
    run: FlowOutcome
    item: int | None


class _Family(NamedTuple):
    """The children of a map: the step that submitted them, and how many there are if known."""

    parent: UUID
    step_index: int
    size: int | None


class RowReader:
    """Reads the rows that a question asks for, in memory bounded by `page_size` and one row."""

    def __init__(self, store: RowStore, question: Question) -> None:
        self._store = store
        self._question = question
        self._places: OrderedDict[str | None, Place | None] = OrderedDict()

    async def rows(self) -> AsyncIterator[ResultRow]:
        """Yield the rows: the newest runs first, the children of a map in the order of the items.

        Raises what `Results` documents.
        """
        size, limit, count = self._question.page_size, self._question.limit, 0
        group: list[_Found] = []
        if limit == 0:
            return
        async for found in self._found():
            group.append(found)
            count += 1
            if len(group) == size or count == limit:
                async for row in self._with_values(group):
                    yield row
                group = []
            if count == limit:
                return
        async for row in self._with_values(group):
            yield row

    async def _with_values(self, group: Sequence[_Found]) -> AsyncIterator[ResultRow]:
        """Yield the rows of some flows, with their inputs and outputs, read in few queries."""
        hashes = [
            artifact_hash
            for found in group
            for artifact_hash in (found.outcome.input, found.outcome.output)
            if artifact_hash is not None
        ]
        origins = [found.outcome.origin for found in group if found.outcome.origin is not None]
        flow_ids = list({origin.flow_id for origin in origins})
        invalid = await self._store.invalidated_results(flow_ids) if flow_ids else ()
        reads = read_artifacts(self._store, hashes)
        for found in group:
            values = []
            for artifact_hash in (found.outcome.input, found.outcome.output):
                read = None if artifact_hash is None else await anext(reads)
                if read is not None and not isinstance(read, Artifact):
                    raise read
                values.append(None if read is None else read.payload)
            yield _row(found, *values, invalidated=found.outcome.origin in invalid)

    async def _found(self) -> AsyncIterator[_Found]:
        is_first = True
        async for run in self._runs():
            place = await self._place(run, is_newest=is_first)
            is_first = False
            if place is None:
                continue
            if place.map_index is not None:
                async for found in self._children(run, place.map_index, place.step):
                    yield found
            elif self._question.chosen.state in {None, run.state}:
                yield _Found(run, run, None)

    async def _runs(self) -> AsyncIterator[FlowOutcome]:
        run, chosen, step, page_size, _ = self._question
        if run is not None:
            found = await self._store.flow_outcomes([run], step)
            if run not in found:
                raise FlowNotFound(run)
            if chosen.label in {None, found[run].label} and (
                chosen.since is None or found[run].started_at >= chosen.since
            ):
                yield found[run]
            return
        chosen = await self._filtered(chosen)
        last: FlowOutcome | None = None
        while True:
            page = await self._store.list_outcomes(chosen, step, before=last, limit=page_size)
            for outcome in page:
                yield outcome
            if len(page) < page_size:
                return
            last = page[-1]

    async def _filtered(self, chosen: OutcomeFilter) -> OutcomeFilter:
        """Return the filter with which the store itself selects runs by state, if they are rows.

        Those of another definition than the newest one are selected when they have been read.
        """
        if chosen.state is None:
            return chosen
        newest = await self._store.list_outcomes(
            chosen._replace(state=None), None, before=None, limit=1
        )
        if not newest or newest[0].definition_hash is None:
            return chosen._replace(state=None)
        place = await self._place(newest[0], is_newest=True)
        if place is None or place.map_index is not None:
            return chosen._replace(state=None)
        return chosen._replace(state_of=newest[0].definition_hash)

    async def _place(self, run: FlowOutcome, *, is_newest: bool) -> Place | None:
        """Return where the rows of a run are; of an older run without the step there are none.

        Raises:
            InvalidArgument: it is the newest run, and no flow has the step.
        """
        key, step = run.definition_hash, self._question.step
        if key not in self._places:
            definition = None if key is None else await read_definition(self._store, key)
            if definition is None:
                place: Place | None = Place(None, step)
            else:
                children = await self._definitions_of_children(definition)
                place = place_of(definition, children, step)
                if place is None and is_newest:
                    there = step_ids(definition, children)
                    reason = f"flow {run.flow_id} has no step {step!r}; its steps are {there}"
                    raise InvalidArgument("step", reason)
            self._places[key] = place
            if len(self._places) > MOST_DEFINITIONS:
                self._places.popitem(last=False)
        return self._places[key]

    async def _definitions_of_children(
        self, definition: FlowDefinition
    ) -> dict[str, FlowDefinition]:
        found = {
            child: await read_definition(self._store, child) for _, child in maps_of(definition)
        }
        return {child: stored for child, stored in found.items() if stored is not None}

    async def _children(
        self, run: FlowOutcome, map_index: int, step: str | None
    ) -> AsyncIterator[_Found]:
        family = await self._family(run.flow_id, map_index)
        size = PROBED if family.size is None else self._question.page_size
        for first in itertools.count(0, size):
            end = first + size if family.size is None else min(first + size, family.size)
            ids = {
                child_id(family.parent, family.step_index, item): item for item in range(first, end)
            }
            there = await self._store.flow_outcomes(list(ids), step)
            for flow_id, item in ids.items():
                outcome = there.get(flow_id)
                if outcome and self._question.chosen.state in {None, outcome.state}:
                    yield _Found(outcome, run, item)
            if end == family.size or (family.size is None and not there):
                return

    async def _family(self, run: UUID, map_index: int) -> _Family:
        """Return the children of a run's map; if it was taken over, those of the run that ran it.

        Their number is not known while the map has not waited, as it need not if all children were
        completed by what they took over.
        """
        parent, index, events = run, map_index, await self._store.list(run)
        origins = [
            fact.reused_from
            for fact in _facts_of_step(events, map_index)
            if isinstance(fact, StepFinished)
        ]
        if origins and (origin := origins[-1]) is not UNSET:
            parent, events = origin.flow_id, await self._store.list(origin.flow_id)
            taken = events[origin.version].kind if origin.version < len(events) else None
            index = taken.step_index if isinstance(taken, StepFinished) else map_index
        counts = [
            child_count(fact.data)
            for fact in _facts_of_step(events, index)
            if isinstance(fact, StepWaits)
        ]
        return _Family(parent, index, (counts or [0])[-1] or None)


def _facts_of_step(events: Sequence[FlowEvent], index: int) -> Iterator[StepFinished | StepWaits]:
    for event in events:
        if isinstance(event.kind, StepFinished | StepWaits) and event.kind.step_index == index:
            yield event.kind


def _row(found: _Found, given: object, output: object, *, invalidated: bool) -> ResultRow:
    outcome = found.outcome
    return ResultRow(
        flow_id=outcome.flow_id,
        run=found.run.flow_id,
        item=found.item,
        label=found.run.label,
        state=outcome.state,
        invalidated=invalidated,
        began=outcome.started_at,
        input=given,
        output=output,
        input_hash=outcome.input,
        output_hash=outcome.output,
        failed_step=outcome.failed_step,
        failure=outcome.failure,
    )

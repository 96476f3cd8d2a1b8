"""`append_many`: of the stores of this library, and of any store."""

import asyncio
import sys
from abc import abstractmethod
from collections.abc import Awaitable, Iterable, Sequence

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import ChemPersistenceError, InvalidArgument, StoreUnavailable
from chem_persistence.store.append_request import AppendCall
from chem_persistence.store.appender import Appender
from chem_persistence.store.attribution import attributed, current_scope
from chem_persistence.store.batches.flow_append import (
    AppendAsTuple,
    BatchEventStore,
    FlowAnswer,
    FlowAppend,
)
from chem_persistence.store.ports import EventStore
from chem_persistence.telemetry.hooks import watched_appends
from chem_persistence.telemetry.listening import API, found

__all__ = ["BatchAppender", "append_each"]

FIELDS_OF_A_TUPLE = 4

AT_A_TIME = 500
"""The number of appends that wait at once for a store that has no `append_many`."""


class BatchAppender(Appender[Artifact]):
    """The appends of a store, which implements `_append` and `_append_many`."""

    @abstractmethod
    async def _append_many(self, calls: Sequence[AppendCall]) -> list[list[FlowEvent] | Exception]:
        """Encode and store calls for different flows, and return what became of each, in order."""

    async def append_many(self, appends: Sequence[FlowAppend | AppendAsTuple]) -> list[FlowAnswer]:
        """Append to many flows, to each all or nothing; see `BatchEventStore.append_many`."""
        calls = self._calls(appends)
        _check_distinct(calls)
        appending: Awaitable[list[FlowAnswer]] = self._answers(calls)
        if found.observer is not None:
            events = sum(len(call.kinds) for call in calls)
            appending = watched_appends(appending, len(calls), events)
        return await appending

    async def _answers(self, calls: Sequence[AppendCall]) -> list[FlowAnswer]:
        return _known(await self._append_many(calls))

    def _calls(self, appends: Sequence[FlowAppend | AppendAsTuple]) -> list[AppendCall]:
        """Return the appends as calls, attributed as each one alone would be."""
        is_attributed = current_scope.get(None) or API in sys.modules
        calls: list[AppendCall] = []
        for given in appends:
            each = given if isinstance(given, FlowAppend) else _named(given)
            metadata = attributed(each.metadata) if is_attributed else each.metadata
            calls.append(
                AppendCall(
                    each.flow_id,
                    each.kinds,
                    each.artifacts,
                    each.expected_version,
                    each.event_ids,
                    metadata,
                )
            )
        return calls


def _named(given: AppendAsTuple) -> FlowAppend:
    if len(given) != FIELDS_OF_A_TUPLE:
        raise InvalidArgument(
            "appends",
            f"a tuple has {len(given)} fields instead of flow_id, kinds, artifacts and "
            "expected_version: use FlowAppend",
        )
    return FlowAppend(*given)


def _check_distinct(calls: Sequence[AppendCall]) -> None:
    seen: set[object] = set()
    for call in calls:
        if call.flow_id in seen:
            raise InvalidArgument(
                "appends",
                f"flow {call.flow_id} occurs twice: append all its events by one FlowAppend, or "
                "by calls that follow each other",
            )
        seen.add(call.flow_id)


def _known(outcomes: Sequence[list[FlowEvent] | Exception]) -> list[FlowAnswer]:
    """Return the answers if all are known.

    Raises:
        StoreUnavailable: if it is not known whether one of them is stored.
    """
    answers: list[FlowAnswer] = []
    unknown: list[StoreUnavailable] = []
    for outcome in outcomes:
        match outcome:
            case list():
                answers.append(outcome)
            case StoreUnavailable():
                unknown.append(outcome)
            case ChemPersistenceError():
                answers.append(outcome)
            case _:
                raise outcome
    if unknown:
        first = unknown[0]
        raise StoreUnavailable(
            f"{len(unknown)} of {len(outcomes)} appends may or may not be stored; the first: "
            f"{first.reason}",
            first.sqlstate,
        ) from first
    return answers


async def append_each(store: EventStore, appends: Sequence[FlowAppend]) -> list[FlowAnswer]:
    """Append to many flows as `append_many` does: by one call if the store can.

    Raises what `BatchEventStore.append_many` raises.
    """
    if isinstance(store, BatchEventStore):
        return await store.append_many(appends)
    outcomes: list[list[FlowEvent] | Exception] = []
    for first in range(0, len(appends), AT_A_TIME):
        outcomes += await _side_by_side(store, appends[first : first + AT_A_TIME])
    return _known(outcomes)


async def _side_by_side(
    store: EventStore, appends: Iterable[FlowAppend]
) -> list[list[FlowEvent] | Exception]:
    appending = (
        store.append_kinds(
            each.flow_id,
            each.kinds,
            artifacts=each.artifacts,
            expected_version=each.expected_version,
            event_ids=each.event_ids,
            metadata=each.metadata,
        )
        for each in appends
    )
    outcomes: list[list[FlowEvent] | Exception] = []
    for outcome in await asyncio.gather(*appending, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
            raise outcome
        outcomes.append(outcome)
    return outcomes

"""The flows that a worker serves: those that it was given, with any parameters.

A submission may set parameters. Its definition is then one that no worker was given, but the log
has it. So a worker looks now and then for the definitions of the flows that wait, and at once when
it hears of one that it does not know; those that are of its flows are served like the others.
"""

import logging
from collections.abc import Container, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.parameters.stored import with_stored_params
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.leasing.definitions import DefinitionLister
from chem_persistence.store.ports import EventStore

__all__ = ["ServedFlows"]

SECONDS_BETWEEN_LOOKS = 15.0

LONGEST_SHARE = 0.005
"""The share of the time that looking may take: with very many flows it is done less often."""

MOST_AT_ONCE, MOST_OTHERS, MOST_FOUND = 100, 10_000, 1_000
"""The definitions that one look reads, that are known to be others', and that are served."""

_logger = logging.getLogger("chem_persistence.worker")


class _Heard(Container[str]):
    """The definitions of which a worker follows hints: its own, and those it has to look at."""

    def __init__(self, served: "ServedFlows") -> None:
        self._served = served

    def __contains__(self, definition: object) -> bool:
        return self._served.hear(definition)


class ServedFlows(Mapping[str, Flow[Any, Any]]):
    """The flows that a worker serves, by their definitions; `look` finds more of them."""

    def __init__(self, flows: Iterable[Flow[Any, Any]]) -> None:
        self._given = {flow.definition_hash: flow for flow in flows}
        self._flows = dict(self._given)  # replaced, never changed: other threads read it
        self._others: set[str] = set()
        self._is_due, self._look_at = True, 0.0
        self.heard: Container[str] = _Heard(self)

    def __getitem__(self, definition: str) -> Flow[Any, Any]:
        return self._flows[definition]

    def __iter__(self) -> Iterator[str]:
        return iter(self._flows)

    def __len__(self) -> int:
        return len(self._flows)

    def hear(self, definition: object) -> bool:
        """Return whether a hint concerns this worker, as far as it knows; if not, look soon."""
        if definition in self._flows:
            return True
        if definition in self._others:
            return False
        self._is_due = True
        return True

    async def look(self, leases: object, store: EventStore) -> None:
        """Look for waiting flows with other parameters, if it is time to.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        begun = monotonic()
        if not isinstance(leases, DefinitionLister) or not (self._is_due or begun > self._look_at):
            return
        self._is_due = False
        known = [*self._flows, *self._others]
        for definition_hash in await leases.other_definitions(known, MOST_AT_ONCE):
            await self._try(definition_hash, store)
        self._look_at = begun + max(SECONDS_BETWEEN_LOOKS, (monotonic() - begun) / LONGEST_SHARE)

    async def _try(self, definition_hash: str, store: EventStore) -> None:
        definition = await read_definition(store, definition_hash)
        found = None if definition is None else self._of(definition)
        if found is not None:
            _logger.info("serves flow %r with the parameters of %s", found.name, definition_hash)
            self._serve(definition_hash, found)
            return
        if len(self._others) >= MOST_OTHERS:
            self._others.clear()
        self._others.add(definition_hash)

    def _of(self, definition: FlowDefinition) -> Flow[Any, Any] | None:
        found = (with_stored_params(flow, definition) for flow in self._given.values())
        return next((flow for flow in found if flow is not None), None)

    def _serve(self, definition_hash: str, flow: Flow[Any, Any]) -> None:
        found = {key: each for key, each in self._flows.items() if key not in self._given}
        kept = list(found.items())[-(MOST_FOUND - 1) :]  # what is left out is found again
        self._flows = {**self._given, **dict(kept), definition_hash: flow}

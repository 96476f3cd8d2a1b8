"""How many flows want a worker: counted now and then, and only for a program that has metrics."""

import logging
from collections.abc import Collection
from time import monotonic

from chem_persistence.errors import ChemPersistenceError
from chem_persistence.store.leasing.leases import FlowCounter, Leases
from chem_persistence.telemetry.gauges import backlogs
from chem_persistence.telemetry.hooks import is_observed

__all__ = ["Backlog"]

_logger = logging.getLogger("chem_persistence.worker")

SECONDS_BETWEEN_COUNTS = 15.0

LONGEST_SHARE = 0.01
"""The share of the time that counting may take: with very many flows it is done less often."""


class Backlog:
    """The flows of a worker's definitions that are due, or wait, as the metrics show them."""

    def __init__(self, definitions: Collection[str]) -> None:
        self._definitions = definitions
        self._count_at = 0.0

    async def count(self, leases: Leases) -> None:
        """Count the flows, unless that was done lately or nobody would hear of it."""
        begun = monotonic()
        if begun < self._count_at or not isinstance(leases, FlowCounter) or not is_observed():
            return
        self._count_at = begun + SECONDS_BETWEEN_COUNTS
        try:
            counted = await leases.count_flows(self._definitions)
        except ChemPersistenceError as error:
            _logger.info("the flows are not counted: %s", type(error).__name__)
            return
        taken = monotonic() - begun
        self._count_at = begun + max(SECONDS_BETWEEN_COUNTS, taken / LONGEST_SHARE)
        backlogs.keep(self, counted)

    def end(self) -> None:
        """Show the flows no more."""
        self._count_at = 0.0
        backlogs.forget(self)

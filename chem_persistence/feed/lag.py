"""How far a consumer is behind: read now and then, and only for a program that has metrics."""

import logging
from time import monotonic

from chem_persistence.errors import ChemPersistenceError
from chem_persistence.feed.parts import ConsumerAdmin
from chem_persistence.telemetry.gauges import ConsumerLag, consumer_lags
from chem_persistence.telemetry.hooks import is_observed

__all__ = ["Lag"]

_logger = logging.getLogger("chem_persistence.consumers")

SECONDS_BETWEEN_READS = 15.0


class Lag:
    """The lag of a consumer and its parked flows, as the metrics show them."""

    def __init__(self) -> None:
        self._read_at = 0.0

    async def read(self, admin: ConsumerAdmin) -> None:
        """Read the lag, unless that was done lately or nobody would hear of it."""
        present = monotonic()
        if present < self._read_at or not is_observed():
            return
        self._read_at = present + SECONDS_BETWEEN_READS
        try:
            status = await admin.status()
        except ChemPersistenceError as error:
            _logger.info("the lag is not read: %s", type(error).__name__)
            return
        if status is not None:
            consumer_lags.keep(self, ConsumerLag(status.name, status.lag, len(status.parked)))

    def end(self) -> None:
        """Show the lag no more."""
        self._read_at = 0.0
        consumer_lags.forget(self)

"""Find out whether the program has set a provider of OpenTelemetry.

A program that sets one has imported the API of OpenTelemetry; until then it is not imported here.
"""

from __future__ import annotations

import logging
import sys
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chem_persistence.telemetry.observer import Observer

__all__ = ["API", "Found", "found", "look", "observer"]

API = "opentelemetry.trace"

SECONDS_BETWEEN_LOOKS = 0.1
"""To ask the API whether a provider is set takes 3 us, too long for every append."""


class Found:
    """The observer, None until a provider is found, and when to look for one again."""

    observer: Observer | None = None
    look_again = 0.0


found = Found()
_logger = logging.getLogger("chem_persistence.telemetry")


def observer() -> Observer | None:
    """Return the observer; None if the program has set no provider.

    A provider that is set late is noticed by the next run of a flow, and by an append or a read
    within 0.1 s.
    """
    if found.observer is not None or API not in sys.modules or monotonic() < found.look_again:
        return found.observer
    return look()


def look() -> Observer | None:
    """Ask the API whether the program has set a provider, and return the observer."""
    if found.observer is None and API in sys.modules and found.look_again < inf:
        found.look_again = monotonic() + SECONDS_BETWEEN_LOOKS
        try:
            # imported here, as it takes 70 ms
            from chem_persistence.telemetry.observer import Observer, is_heard  # noqa: PLC0415

            if is_heard():
                found.observer = Observer()
        except (ImportError, TypeError) as error:  # an append must not fail for it
            found.look_again = inf
            _logger.warning("no telemetry: opentelemetry-api is older than 1.30 (%s)", error)
    return found.observer

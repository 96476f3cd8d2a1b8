"""Finding out, at next to no cost, whether anybody listens.

A program that sets a provider has imported the API of OpenTelemetry; until then it is not imported here either.
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
"""Asking the API whether a provider is set takes 3 us, which an append had better not pay each time."""


class Found:
    """Whom to tell, as far as is known, and when it is worth another look."""

    observer: Observer | None = None
    look_again = 0.0


found = Found()
_logger = logging.getLogger("chem_persistence.telemetry")


def observer() -> Observer | None:
    """Give whom to tell; None when nobody listens.

    A provider that is set late is noticed at once by a flow that begins, and by an append or a read within 0.1 s.
    """
    if found.observer is not None or API not in sys.modules or monotonic() < found.look_again:
        return found.observer
    return look()


def look() -> Observer | None:
    """Give whom to tell, after a look whether the program has set a provider."""
    if found.observer is None and API in sys.modules and found.look_again < inf:
        found.look_again = monotonic() + SECONDS_BETWEEN_LOOKS
        try:
            from chem_persistence.telemetry.observer import Observer, is_heard  # noqa: PLC0415  # it takes 70 ms

            if is_heard():
                found.observer = Observer()
        except (ImportError, TypeError) as error:  # not worth the failure of an append
            found.look_again = inf
            _logger.warning("no telemetry: opentelemetry-api is older than 1.30 (%s)", error)
    return found.observer

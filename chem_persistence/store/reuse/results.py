"""The port that finds the results of earlier steps, and what became of a flow's own results.

A result is a `StepFinished` of a step that ran. It is found by its fingerprint, which equal work on
equal input has, unless it was invalidated. A `StepFinished` that was taken over is no result of its
own: it would outlive the invalidation of its origin.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable
from uuid import UUID

import msgspec

from chem_persistence.domain.events import ResultOrigin
from chem_persistence.store.ports import EventStore

__all__ = ["Result", "ResultReader", "ResultStore", "TakenOver"]


class Result(msgspec.Struct, frozen=True, gc=False):
    """The outputs of a step that ran, as artifact hashes, and the event that names them."""

    origin: ResultOrigin
    outputs: tuple[str, ...]


class TakenOver(msgspec.Struct, frozen=True, kw_only=True):
    """The event `version` of `flow_id`, with which the step took over the result `origin`."""

    flow_id: UUID
    version: int
    step_id: str
    origin: ResultOrigin


@runtime_checkable
class ResultReader(Protocol):
    """Finds results of steps.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def find_results(
        self, fingerprints: Sequence[str], *, most: int = 1
    ) -> Mapping[str, Sequence[Result]]:
        """Return the results of these fingerprints that were not invalidated.

        Of each fingerprint the oldest ones come, at most `most`, in the order of the log; one
        without any is left out.
        """
        ...

    async def taken_over(self, flow_id: UUID, *, limit: int = 1_000) -> list[TakenOver]:
        """Return the steps that took results of a flow over, in the order of the log.

        Raises:
            InvalidArgument: the flow id cannot name a flow, or the limit is negative.
        """
        ...


@runtime_checkable
class ResultStore(EventStore, ResultReader, Protocol):
    """A store in which results are found again."""

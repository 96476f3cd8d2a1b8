"""Events of one kind that a step emits one after another, put together so that what lies between them is seen."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from chem_persistence.domain.events import StepSignal, event_type
from chem_persistence.views.flow_view import EventView

__all__ = ["event_runs"]

SHORTEST_RUN = 6
_SIGNAL = event_type(StepSignal)


def event_runs(events: Sequence[EventView]) -> Iterator[Sequence[EventView]]:
    """Give the events in order: alone, or the signals of a step that follow each other, if they are many."""
    for of_step, run in groupby(
        events, lambda event: event.step if event.event_type == _SIGNAL else None
    ):
        together = tuple(run)
        if of_step is not None and len(together) >= SHORTEST_RUN:
            yield together
        else:
            yield from ((event,) for event in together)

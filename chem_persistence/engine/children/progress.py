"""What a process remembers of the children of a map from one look to the next.

The log says what became of each child, and a look that reads the states of thousands costs more
than their steps. A child that is completed or cancelled stays so: its state is read once. Children
are submitted in the order of the items, so that of those which may be missing only the next ones
are looked for. All of this is forgotten with the process; another one reads it from the log.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, TypeAlias
from uuid import UUID
from weakref import WeakKeyDictionary

from chem_persistence.engine.children.family import Family
from chem_persistence.engine.watching import Look, SharedStore
from chem_persistence.store.leasing.children import ChildState

__all__ = ["Progress", "forget_progress", "progress_of"]

MOST_STEPS = 64
"""Of so many steps at most the children are remembered; the one not looked at for longest goes."""

_Step: TypeAlias = tuple[UUID, int]

_FOR_GOOD = (ChildState.COMPLETED, ChildState.CANCELLED)

_known: WeakKeyDictionary[SharedStore, OrderedDict[_Step, "Progress"]] = WeakKeyDictionary()
"""By the store from which it was read: what was read from another one may be of another log."""


class Progress:
    """The states of the children that are known to be submitted, and what is the same in each look.

    `items` are those of the map, if they are few enough to be kept.
    """

    def __init__(self) -> None:
        self.ids: dict[int, UUID] = {}
        self.items: tuple[Any, ...] | None = None
        self._states: dict[int, ChildState] = {}
        self._open: set[int] = set()  # those whose states may change
        self._next = 0  # all items before it were submitted

    @property
    def states(self) -> Mapping[int, ChildState]:
        """The states of the submitted children as they were last read, in the order of the items.

        Only those are known that had to be, to find `at_once` that run.
        """
        return dict(sorted(self._states.items()))

    @property
    def running(self) -> int:
        """The number of children that run."""
        return sum(self._states[item] is ChildState.RUNNING for item in self._open)

    async def read(self, family: Family, count: int, at_once: int) -> list[int]:
        """Read what may have changed; return which of `count` items to submit, so that they run.

        Raises what `Family.states` raises.
        """
        await self._read(family, sorted(self._open))
        while unknown := self._unknown(count, at_once - self.running):
            await self._read(family, unknown)
            if missing := [item for item in unknown if item not in self._states]:
                return missing
        return []

    def _unknown(self, count: int, most: int) -> list[int]:
        """Return the first items, `most` of them at most, that are not known to be submitted."""
        while self._next in self._states:
            self._next += 1
        rest = (item for item in range(self._next, count) if item not in self._states)
        return list(islice(rest, max(0, most)))

    def submitted(self, items: Iterable[int]) -> None:
        """Note that children were submitted, by this process or another one."""
        for item in items:
            self._states.setdefault(item, ChildState.RUNNING)
            self._open.add(item)

    async def _read(self, family: Family, items: list[int]) -> None:
        found = await family.states(items) if items else {}
        for item in items:
            state = found.get(item)
            self._open.discard(item)
            if state is None:  # not submitted, or the log went back to an earlier state
                self._states.pop(item, None)
                self._next = min(self._next, item)
                continue
            self._states[item] = state
            if state not in _FOR_GOOD:
                self._open.add(item)


def progress_of(look: Look) -> Progress:
    """Return what is known of the children of the step that is looked at."""
    steps = _known.setdefault(look.store, OrderedDict())
    step = (look.flow_id, look.step_index)
    progress = steps.setdefault(step, Progress())
    steps.move_to_end(step)
    if len(steps) > MOST_STEPS:
        steps.popitem(last=False)
    return progress


def forget_progress(look: Look) -> None:
    """Forget the children of a step that has an outcome."""
    _known.get(look.store, OrderedDict()).pop((look.flow_id, look.step_index), None)

"""The search of the explicit-state models: breadth first, until a state breaks an invariant."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

__all__ = ["Found", "search"]

State = TypeVar("State")


class Found(NamedTuple):
    """The number of states, and what is wrong with one of them, and the way to it; or nothing."""

    states: int
    fault: str | None
    way: Sequence[str]


def search(
    start: State,
    steps: Callable[[State], Iterable[tuple[str, State]]],
    wrong: Callable[[State], str | None],
) -> Found:
    """Visit the states that `steps` lead to, each once, until `wrong` names a fault of one."""
    came_from: dict[State, tuple[str, State] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        if fault := wrong(state):
            return Found(len(came_from), fault, _way(came_from, state))
        for label, following in steps(state):
            if following not in came_from:
                came_from[following] = (label, state)
                waiting.append(following)
    return Found(len(came_from), None, ())


def _way(came_from: dict[State, tuple[str, State] | None], state: State) -> list[str]:
    way: list[str] = []
    while (step := came_from[state]) is not None:
        label, state = step
        way.append(label)
    return way[::-1]

"""An explicit-state model of flows whose steps take slots of limited resources.

`explore` visits every state that any interleaving of the transitions reaches within a bound, and
returns the shortest way to one that breaks an invariant. Each transition stands for this code:

- "claims": `Leases.claim`, of a flow that is due, or whose lease has ended.
- "locks": one `SELECT ... FOR UPDATE` of the function `lock_resources`, in a transaction that ends
  with "takes".
- "reads": the statements of `free_ended_slots`, by which a slot is free: a snapshot.
- "takes": the rest of `take_resource_slots`, its commit, and the append of the start, or the
  give-back of a flow that finds too little, `Leases.give_back`.
- "ends", "fails": `_append_outcome`; "is tried again": a `RetryScheduled` of a person.
- "dies": a worker is killed; "is stopped": it loses its lease, and its process goes on until
  "hears": it drops the flow. Such a process is a user until the step has an outcome by another
  one; what it does after that no lease can prevent.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.unit.leases.search import Found, search

__all__ = ["Bound", "Guards", "explore"]

NOBODY = -1
MOST = {"a": 1, "b": 1}
WANTS = (("a",), ("b", "a"), ("a", "b"))
"""The resources that each flow uses a slot of, in the order in which its step names them."""


class Guards(NamedTuple):
    """What keeps the invariants; a guard that is False was taken out."""

    lock: bool = True
    """Who takes slots has locked their resources."""

    order: bool = True
    """Resources are locked in one order."""

    late: bool = True
    """Whether a slot is free is read by a statement that begins when the locks are held."""

    whole: bool = True
    """A step takes all that it uses, or nothing."""

    turn: bool = True
    """What a flow wants that has waited longer is kept for it."""

    kept: bool = True
    """A slot belongs to the step of a flow, not to a lease."""


class Bound(NamedTuple):
    """How much happens at most."""

    failures: int = 1
    deaths: int = 1


class Flow(NamedTuple):
    """A flow of one step; `holds` are the locks of its transaction, `read` are free slots."""

    status: str = "pending"  # of the step's row: pending, running, failed, over
    holder: str = "nobody"  # nobody, asks, works
    holds: tuple[str, ...] = ()
    read: tuple[tuple[str, int], ...] | None = None
    goes_on: bool = False  # a process that has lost its lease still works


class State(NamedTuple):
    """All that there is: `line` are the flows that wait, the longest one first."""

    flows: tuple[Flow, ...]
    slots: tuple[tuple[str, int], ...]  # each resource's one slot, and the flow that it names
    line: tuple[int, ...]
    left: Bound
    fault: str | None = None


def explore(guards: Guards, bound: Bound) -> Found:
    """Visit all states, each once, until one breaks an invariant."""
    start = State(tuple(Flow() for _ in WANTS), tuple((r, NOBODY) for r in MOST), (), bound)
    return search(start, lambda state: _steps(guards, state), lambda state: _wrong(guards, state))


def _wrong(guards: Guards, state: State) -> str | None:
    if state.fault is not None:
        return state.fault
    for resource, most in MOST.items():
        using = [
            number
            for number, flow in enumerate(state.flows)
            if resource in WANTS[number]
            and (flow.holder == "works" or (flow.goes_on and flow.status == "running"))
        ]
        if len(using) > most:
            return "too many users"
    is_over = all(flow.status in ("over", "failed") for flow in state.flows)
    if not is_over and next(_steps(guards, state), None) is None:
        return "a deadlock"
    return None


def _steps(guards: Guards, state: State) -> Iterator[tuple[str, State]]:
    for number, flow in enumerate(state.flows):
        name = f"flow {number}"
        match flow.holder:
            case "nobody" if flow.status in ("pending", "running"):
                read = None if guards.late else _free(state)
                if not _waits_in_vain(state, number):
                    yield (
                        f"{name} claims",
                        _with(state, number, flow._replace(holder="asks", read=read)),
                    )
            case "nobody" if flow.status == "failed":
                yield (
                    f"{name} is tried again",
                    _with(state, number, flow._replace(status="pending")),
                )
            case "asks":
                yield from _asks(guards, state, number)
            case "works":
                yield from _works(guards, state, number)
            case _:
                pass
        if flow.goes_on:
            yield f"{name} hears", _with(state, number, flow._replace(goes_on=False))


def _waits_in_vain(state: State, number: int) -> bool:
    """Return whether a flow in the line would find what it found before: it is not asked again."""
    if number not in state.line:
        return False
    free = dict(_free(state))
    own = {resource for resource, user in state.slots if user == number}
    return not all(resource in free or resource in own for resource in WANTS[number])


def _asks(guards: Guards, state: State, number: int) -> Iterator[tuple[str, State]]:
    flow, name = state.flows[number], f"flow {number}"
    wanted = sorted(WANTS[number]) if guards.order else WANTS[number]
    missing = [resource for resource in wanted if resource not in flow.holds]
    if guards.lock and missing:
        if all(missing[0] not in other.holds for other in state.flows):
            holds = (*flow.holds, missing[0])
            yield f"{name} locks {missing[0]}", _with(state, number, flow._replace(holds=holds))
    elif flow.read is None:
        yield f"{name} reads", _with(state, number, flow._replace(read=_free(state)))
    else:
        yield f"{name} takes", _taken(guards, state, number, dict(flow.read))


def _taken(guards: Guards, state: State, number: int, free: dict[str, int]) -> State:
    flow, slots = state.flows[number], dict(state.slots)
    earlier = state.line[: state.line.index(number)] if number in state.line else state.line
    kept = {resource for other in earlier for resource in WANTS[other]} if guards.turn else set()
    gets = [
        resource
        for resource in WANTS[number]
        if slots[resource] == number or (resource in free and resource not in kept)
    ]
    is_whole = len(gets) == len(WANTS[number])
    new = {resource for resource in gets if slots[resource] != number}
    if is_whole or not guards.whole:
        slots |= dict.fromkeys(gets, number)
    else:  # nor does it keep what it had when its step had failed
        slots = {r: NOBODY if user == number else user for r, user in slots.items()}
    if not is_whole:
        released = flow._replace(holder="nobody", holds=(), read=None)
        line = state.line if number in state.line else (*state.line, number)
        state = state._replace(slots=tuple(slots.items()), line=line)
        return _with(state, number, released)
    overtaken = any(new & set(WANTS[other]) for other in earlier)
    line = tuple(other for other in state.line if other != number)
    fault = "a flow that was overtaken" if overtaken else None
    state = state._replace(slots=tuple(slots.items()), line=line, fault=fault)
    works = flow._replace(status="running", holder="works", holds=(), read=None)
    return _with(state, number, works)


def _works(guards: Guards, state: State, number: int) -> Iterator[tuple[str, State]]:
    flow, name, left = state.flows[number], f"flow {number}", state.left
    released = flow._replace(holder="nobody")
    yield f"{name} ends", _with(state, number, released._replace(status="over"))
    if left.failures:
        fewer = state._replace(left=left._replace(failures=left.failures - 1))
        yield f"{name} fails", _with(fewer, number, released._replace(status="failed"))
    if left.deaths:
        fewer = state._replace(left=left._replace(deaths=left.deaths - 1))
        if not guards.kept:
            slots = tuple((r, NOBODY if user == number else user) for r, user in state.slots)
            fewer = fewer._replace(slots=slots)
        yield f"{name} dies", _with(fewer, number, released)
        yield f"{name} is stopped", _with(fewer, number, released._replace(goes_on=True))


def _free(state: State) -> tuple[tuple[str, int], ...]:
    """Return the slots that are free: they name no flow, or one whose step has an outcome."""
    return tuple(
        (resource, user)
        for resource, user in state.slots
        if user == NOBODY or state.flows[user].status in ("failed", "over")
    )


def _with(state: State, number: int, flow: Flow) -> State:
    flows = list(state.flows)
    flows[number] = flow
    return state._replace(flows=tuple(flows))

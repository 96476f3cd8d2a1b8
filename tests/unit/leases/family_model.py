"""An explicit-state model of a parent and its children: submitted, ended, called, cancelled.

`explore` visits every state that any interleaving of the transitions reaches within a bound, and
returns the shortest way to one that breaks an invariant. What an append does while it is in flight
is the business of `model.py`; here an append is one transition. Each stands for this code:

- "claims": `Leases.claim` of the parent; "reads": `Family.states`, one query.
- "submits": one append of `Family.submit`; the owner may be overtaken between two of them.
- "stores that it waits": `FlowRun._park`, a StepWaits with the fence; "gives back": a look that
  found nothing new, `Leases.give_back`; "finishes": StepFinished with the fence.
- "ends": a child's last append; "calls": `Leases.call` by who ended it, after the commit. Its
  process may die in between: then nobody calls.
- "a worker claims child": `load_claims`, which looks for the parent's cancellation.
- "asks": `FlowClient.cancel`, a signal; "cancels at once": the same, with a FlowCancelled.
- "cancels the children": `LeasedRun._end_step`, then "cancels" appends FlowCancelled.
- "time": `due_at` of the row passes, or a lease ends.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.unit.leases.search import Found, search

__all__ = ["Bound", "Found", "Guards", "explore"]

NOBODY = 0
OVER = ("ended", "cancelled")


class Guards(NamedTuple):
    """What keeps the invariants; a guard that is False was taken out."""

    called: bool = True
    """What releases a parent to wait makes it due now if it was called while it was held."""

    looks: bool = True
    """A parent that waits is due by itself after a while, since a call may be lost."""

    identity: bool = True
    """The id of a child follows from its item, so that a second submission is the same one."""

    parent: bool = True
    """Who claims a child looks whether its parent is cancelled, or asked to be."""

    asks: bool = True
    """A parent that may have children is not cancelled at once by who asks, but by its owner."""


class Bound(NamedTuple):
    """How much happens at most."""

    children: int = 2
    claims: int = 4
    crashes: int = 1
    cancels: int = 0


class Row(NamedTuple):
    """`due` is now, time, never, or lease (its end); `lease` is a token or NOBODY."""

    due: str
    lease: int = NOBODY
    called: bool = False


class Owner(NamedTuple):
    """A worker that has claimed the parent: its token, what it saw of each child, what it does."""

    token: int = NOBODY
    seen: tuple[str, ...] = ()
    does: str = "idle"


class State(NamedTuple):
    """All that there is; a child is absent, due, held, calling (ended, and not called), or over."""

    status: str
    row: Row | None
    children: tuple[str, ...]
    owners: tuple[Owner, ...]
    claims: int = 0
    crashes: int = 0
    cancels: int = 0
    is_asked: bool = False
    is_twice: bool = False


Step = tuple[str, State]


def explore(guards: Guards, bound: Bound) -> Found:
    """Visit all states breadth first, until one breaks an invariant."""
    start = State("pending", Row("now"), ("absent",) * bound.children, (Owner(), Owner()))
    return search(start, lambda state: _following(state, guards, bound), _wrong)


def _wrong(state: State) -> str | None:
    """Return which invariant a state breaks, in words."""
    if state.is_twice:
        return "a child that was submitted twice"
    is_quiet = all(owner.does == "idle" for owner in state.owners)
    all_over = all(child in OVER for child in state.children)
    if state.row == Row("never") and is_quiet and all_over:
        return "a lost wake-up"
    if state.status == "cancelled" and is_quiet and "held" in state.children:
        return "a child that runs on although its parent is cancelled"
    return None


def _following(state: State, guards: Guards, bound: Bound) -> Iterator[Step]:
    yield from _time(state)
    for number, owner in enumerate(state.owners):
        for name, following in _of_owner(state, number, owner, guards, bound):
            yield f"owner {number} {name}", following
    for item, child in enumerate(state.children):
        for name, following in _of_child(state, item, child, guards, bound):
            yield f"child {item} {name}", following
    if state.cancels < bound.cancels and state.row is not None:
        asked = state._replace(cancels=state.cancels + 1)
        if state.status == "pending" or not guards.asks:
            yield "somebody cancels at once", asked._replace(status="cancelled", row=None)
        else:
            yield "somebody asks", asked._replace(is_asked=True, row=_called(state.row))


def _time(state: State) -> Iterator[Step]:
    row = state.row
    if row is not None and row.due in ("time", "lease"):
        yield "time passes", state._replace(row=row._replace(due="now"))


def _called(row: Row) -> Row:
    """Return the row after a call, as `call_flow_runs` makes it."""
    return row._replace(called=True) if row.lease else Row("now")


def _released(row: Row, guards: Guards) -> Row:
    """Return the row of a parent that is released to wait."""
    if row.called and guards.called:
        return Row("now")
    return Row("time" if guards.looks else "never")


class _Turn(NamedTuple):
    """What an owner does next, in a state."""

    state: State
    number: int
    owner: Owner
    guards: Guards

    def then(self, state: State, does: str, **changes: tuple[str, ...] | int) -> State:
        """Return a state in which the owner does something else."""
        owners = list(state.owners)
        owners[self.number] = self.owner._replace(does=does, **changes)  # type: ignore[arg-type]
        return state._replace(owners=tuple(owners))

    def claim(self) -> State:
        token = self.state.claims + 1
        called = self.state.row is not None and self.state.row.called
        held = self.state._replace(row=Row("lease", token, called), claims=token)
        return self.then(held, "has claimed", token=token)

    def begin(self) -> Step:
        """Read the children, or cancel them if that was asked."""
        state = self.state
        if state.is_asked:
            alive = ("due", "held")
            children = tuple("cancelled" if c in alive else c for c in state.children)
            gone = state._replace(children=children)
            return "cancels the children", self.then(gone, "has cancelled")
        status = "started" if state.status == "pending" else state.status
        read = state._replace(status=status)
        return "reads", self.then(read, "has read", seen=state.children)

    def submit(self) -> Step:
        """Submit the next child; that carries no lease, so an owner without one does it as well."""
        state, seen = self.state, self.owner.seen
        item = seen.index("absent")
        seen = (*seen[:item], "due", *seen[item + 1 :])
        if state.children[item] == "absent":
            children = (*state.children[:item], "due", *state.children[item + 1 :])
            state = state._replace(children=children)
        elif not self.guards.identity:
            state = state._replace(is_twice=True)
        return f"submits child {item}", self.then(state, "has read", seen=seen)

    def decide(self, row: Row) -> Step:
        """Finish the step, or let it wait: appends and releases with the lease."""
        state = self.state
        if state.is_asked:  # the append conflicts with the signal, and the owner reads that
            return "hears that it is asked", self.then(state, "has claimed")
        if all(child in (*OVER, "calling") for child in self.owner.seen):
            return "finishes", self.then(state._replace(status="finished", row=None), "idle")
        name = "stores that it waits" if state.status == "started" else "gives back"
        released = state._replace(status="waiting", row=_released(row, self.guards))
        return name, self.then(released, "idle")


def _of_owner(
    state: State, number: int, owner: Owner, guards: Guards, bound: Bound
) -> Iterator[Step]:
    turn, row = _Turn(state, number, owner, guards), state.row
    if owner.does == "idle":
        if row is not None and row.due == "now" and state.claims < bound.claims:
            yield "claims", turn.claim()
        return
    if state.crashes < bound.crashes:
        yield "dies", turn.then(state._replace(crashes=state.crashes + 1), "idle")
    if owner.does == "has read" and "absent" in owner.seen:
        yield turn.submit()
    elif row is None or row.lease != owner.token:
        yield "finds its lease lost", turn.then(state, "idle")
    elif owner.does == "has claimed":
        yield turn.begin()
    elif owner.does == "has cancelled":
        yield "cancels", turn.then(state._replace(status="cancelled", row=None), "idle")
    else:
        yield turn.decide(row)


def _of_child(state: State, item: int, child: str, guards: Guards, bound: Bound) -> Iterator[Step]:
    def becomes(new: str, state: State = state) -> State:
        children = (*state.children[:item], new, *state.children[item + 1 :])
        return state._replace(children=children)

    match child:
        case "due":
            is_given_up = state.is_asked or state.status == "cancelled"
            if is_given_up and guards.parent:
                yield "is claimed, and cancelled with its parent", becomes("cancelled")
            else:
                yield "is claimed", becomes("held")
        case "held":
            yield "ends", becomes("calling")
        case "calling":
            row = None if state.row is None else _called(state.row)
            yield "calls its parent", becomes("ended", state._replace(row=row))
            if state.crashes < bound.crashes:
                dead = state._replace(crashes=state.crashes + 1)
                yield "ends, and its process dies before the call", becomes("ended", dead)
        case _:
            pass

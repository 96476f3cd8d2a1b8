"""An explicit-state model of a flow that programs run by themselves, beside a worker.

Two programs may be started for the flow at any time, and a worker serves its definition. `explore`
visits every state that any interleaving of the transitions reaches, as `model.explore` does. Each
transition stands for one statement of the library:

- "begins": the first append of `ProgramEventStore.of_program`: the events, and the row that is
  held, in one transaction. A second one finds the key of the first version taken.
- "takes": `take_flow_run`, for a program that goes on with a flow.
- "claims": `claim_flow_runs` of a worker.
- "stores": `append_events` with a lease. The events of a program with a retry or a wait keep its
  lease (`keeps`); what a worker appends is released by `change_flow_run`.
- "leaves": `leave_flow_run`, when a program ends in an orderly way.
- "dies": the process is killed; what it has sent is stored all the same.
- "is called": `call_flow_runs`, or a signal.
- "the lease ends", "the timer ends": time.

Letters of events: as in a trace.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.unit.leases.search import Found, search

__all__ = ["Guards", "explore"]

PROGRAMS, WORKER = (0, 1), 2
NOBODY = 0
EVENTS, TOKENS, DEATHS, CALLS = 5, 3, 1, 1
Step = tuple[str, "State"]


class Guards(NamedTuple):
    """What the statements do; a guard that is False was taken out."""

    held_at_once: bool = True
    """The append that begins the flow also takes the lease; otherwise it is taken afterwards."""

    keeps: bool = True
    """A program keeps its lease while a step waits or is to be tried again."""

    own_lease: bool = True
    """A program leaves the flow only if it is held by its own lease."""

    left_to_nobody: bool = True
    """The flow that a program has left is not due by itself, although it was called."""


class Row(NamedTuple):
    """`due` is now, until (a time), lease (its end) or never; `lease` is a token or NOBODY."""

    due: str
    lease: int = NOBODY
    called: bool = False


class Process(NamedTuple):
    """What a process does: idle, begun (without a lease yet), claimed, runs or rests."""

    does: str = "idle"
    token: int = NOBODY


class State(NamedTuple):
    """All that there is; `log` holds a letter and the token of its append for each event.

    `is_left` is whether the program that held the flow left it, and nothing happened since.
    """

    log: tuple[tuple[str, int], ...] = ()
    row: Row | None = None
    processes: tuple[Process, ...] = (Process(),) * 3
    tokens: int = 0
    deaths: int = 0
    calls: int = 0
    is_left: bool = False


def explore(guards: Guards) -> Found:
    """Visit all states breadth first, until one breaks an invariant."""
    return search(State(), lambda state: _steps(guards, state), _wrong)


def _wrong(state: State) -> str | None:
    tokens = [token for _, token in state.log]
    if tokens != sorted(tokens):
        return "an append of an older lease after one of a newer"
    letters = "".join(letter for letter, _ in state.log)
    row = state.row
    if row is None or letters.endswith("C"):
        is_over = not letters or letters.endswith("C")
        return None if is_over == (row is None) else "a row of a flow that is over, or none"
    newest = [state.processes[place] for place in PROGRAMS]
    if (
        row.lease == NOBODY
        and row.due != "never"
        and any(
            each.does == "begun" or (each.does == "rests" and each.token == state.tokens)
            for each in newest
        )
    ):
        return "a worker may claim a flow whose program lives"
    if row.due == "never" and not state.is_left and not letters.endswith("X"):
        return "a flow that nobody goes on with"
    is_due = state.is_left and row.due != "never"
    return "a worker may claim a flow that its program has left" if is_due else None


def _steps(guards: Guards, state: State) -> Iterator[Step]:
    for place in PROGRAMS:
        yield from _program(guards, state, place)
    yield from _worker(state)
    for place, process in enumerate(state.processes):
        if process.does != "idle" and state.deaths < DEATHS:
            yield f"{place} dies", _with(state, place, Process(), deaths=state.deaths + 1)
    row = state.row
    if row is not None and row.due in {"lease", "until"}:
        ends = "the lease ends" if row.due == "lease" else "the timer ends"
        yield ends, state._replace(row=row._replace(due="now"))
    if row is not None and state.calls < CALLS:
        called = row._replace(called=True) if row.lease else row._replace(due="now")
        yield "the flow is called", state._replace(row=called, calls=1, is_left=False)


def _program(guards: Guards, state: State, place: int) -> Iterator[Step]:
    process, row, token = state.processes[place], state.row, state.tokens + 1
    match process.does:
        case "idle" if not state.log:
            begun = Process("runs", token) if guards.held_at_once else Process("begun")
            row = Row("lease", token) if guards.held_at_once else Row("now")
            log = (("I", token), ("S", token))
            yield f"{place} begins", _with(state, place, begun, log=log, row=row, tokens=token)
        case "idle" | "begun" if row is not None and token <= TOKENS:
            if row.lease == NOBODY or row.due == "now":
                held = Process("claimed", token)
                yield (
                    f"{place} takes",
                    _with(
                        state,
                        place,
                        held,
                        row=Row("lease", token, row.called),
                        tokens=token,
                        is_left=False,
                    ),
                )
            elif process.does == "begun":
                yield f"{place} is refused", _with(state, place, Process())
        case "claimed":
            yield f"{place} reads", _with(state, place, Process("runs", process.token))
        case "runs" | "rests":
            yield from _leaves(guards, state, place)
            keeps = {"XR": guards.keeps, "W": guards.keeps, "S": True}
            for letters in ("S",) if process.does == "rests" else ("FC", "X", "XR", "W"):
                yield from _stores(state, place, letters, keeps=keeps.get(letters, False))
        case _:
            pass


def _leaves(guards: Guards, state: State, place: int) -> Iterator[Step]:
    process, row = state.processes[place], state.row
    is_own = row is not None and row.lease == process.token
    if row is not None and (is_own or not guards.own_lease):
        due = "now" if row.called and not guards.left_to_nobody else "never"
        yield f"{place} leaves", _with(state, place, Process(), row=Row(due), is_left=is_own)
    else:
        yield f"{place} leaves what it does not hold", _with(state, place, Process())


def _worker(state: State) -> Iterator[Step]:
    process, row, token = state.processes[WORKER], state.row, state.tokens + 1
    if process.does == "idle":
        if row is not None and row.due == "now" and token <= TOKENS:
            yield (
                "a worker claims",
                _with(
                    state,
                    WORKER,
                    Process("claimed", token),
                    row=Row("lease", token, row.called),
                    tokens=token,
                ),
            )
    elif process.does == "claimed":
        yield "a worker reads", _with(state, WORKER, Process("runs", process.token))
    else:
        for letters in ("SFC", "SX", "SW"):
            yield from _stores(state, WORKER, letters, keeps=False)


def _stores(state: State, place: int, letters: str, *, keeps: bool) -> Iterator[Step]:
    """Append with the process's lease; the fence refuses a lease that was lost."""
    process, row = state.processes[place], state.row
    if row is None or row.lease != process.token:
        yield f"{place}: StaleLease", _with(state, place, Process())
        return
    if len(state.log) + len(letters) > EVENTS:
        return
    log = state.log + tuple((letter, process.token) for letter in letters)
    last = letters[-1]
    if last == "C":
        yield f"{place} stores {letters}", _with(state, place, Process(), log=log, row=None)
    elif last == "X":
        after = row if keeps else Row("never")
        yield f"{place} stores {letters}", _with(state, place, Process(), log=log, row=after)
    elif last in "RW":
        rests = place in PROGRAMS
        after = row if keeps else Row("now" if row.called and last == "W" else "until")
        does = Process("rests", process.token) if rests else Process()
        yield f"{place} stores {letters}", _with(state, place, does, log=log, row=after)
    else:
        does = Process("runs", process.token)
        yield f"{place} stores {letters}", _with(state, place, does, log=log)


def _with(state: State, place: int, process: Process, **changes: object) -> State:
    processes = (*state.processes[:place], process, *state.processes[place + 1 :])
    return state._replace(processes=processes, **changes)  # type: ignore[arg-type]

"""An explicit-state model of one flow: its log, its row, workers, outsiders and a rebuild.

`explore` visits every state that any interleaving of the transitions reaches within a bound, and
returns the shortest way to one that breaks an invariant. Each transition stands for one statement
of the library, or for one part of it that another session can come in between:

- "claims": `claim_flow_runs` of migration 0012; with "the reply is lost", nobody knows the token.
- "takes": `take_flow_run`, the claim of a program that runs one flow, also before it is due.
- "renews": `renew_flow_runs`; a holder that learns that its flow was called reads the log.
- "stores": the INSERT of `append_events`, with its fence; the key (flow_id, version) is taken until
  the transaction ends, so an append at a version that is in flight waits.
- "changes the row": `append_events`, for a flow that ends and for one that is begun by its first
  event alone; else `change_flow_run`, called by it; the row is locked until the end.
- "commits": the end of the append's transaction. A worker that died in between stops nothing.
- "conflicts", "StaleLease": what `settle` finds out about an append that was left out.
- "gives back", "stops": `give_back_flow_run` and `release_flow_runs`.
- "is called": `call_flow_runs`, by a child of the flow; no event tells of it.
- "the row is lost", "rebuild ...": a table that was emptied, and `add_flow_runs` or
  `change_flow_run(..., is_rebuilt => true)`.
- "the lease ends", "the timer ends": time; `due_at` passes.

Letters of events: as in a trace, and T is a StepWaits with a time, Q the signal that cancels.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.unit.leases.search import Found, search

__all__ = ["Bound", "Found", "Guards", "explore"]

ENDS = ("C", "K")
NOBODY = 0


class Guards(NamedTuple):
    """What the statements check; a guard that is False was taken out."""

    fence: bool = True
    """An append with a lease is stored only if the flow is held by it."""

    called: bool = True
    """What releases a flow to wait makes it due now if it was called."""

    same_lease: bool = True
    """Appends of one flow share a statement only if they carry the same lease."""

    lock_before_rebuild: bool = True
    """A rebuild locks before it reads the events."""


class Bound(NamedTuple):
    """How much happens at most."""

    workers: int = 2
    claims: int = 3
    crashes: int = 1
    events: int = 6
    outsiders: tuple[str, ...] = ("G", "Q", "R")
    outcomes: tuple[str, ...] = ("FC", "X", "XR", "W", "T")
    calls: int = 0
    losses: int = 0
    rebuilds: int = 0
    takes: bool = False
    """A worker may claim the flow before it is due, as a program does that runs one flow."""


class Row(NamedTuple):
    """`due` is now, until (a time), lease (its end) or never; `lease` is a token or NOBODY."""

    due: str
    lease: int = NOBODY
    called: bool = False


class InFlight(NamedTuple):
    """An append that is stored and not committed; `row` is what it makes of the row, once locked.

    `row` is empty before the row is looked at, and has one entry afterwards.
    """

    who: int
    version: int
    letters: str
    token: int
    row: tuple["Row | None", ...] = ()


class Worker(NamedTuple):
    """A worker's token, the events that it has read, and what it does."""

    token: int = NOBODY
    log: tuple[tuple[str, int], ...] = ()
    does: str = "idle"


class State(NamedTuple):
    """All that there is; `log` holds a letter and the token of its append for each event."""

    log: tuple[tuple[str, int], ...]
    row: Row | None
    appends: frozenset[InFlight]
    workers: tuple[Worker, ...]
    outsiders: tuple[str, ...]
    claims: int = 0
    crashes: int = 0
    calls: int = 0
    is_called: bool = False
    losses: int = 0
    rebuilds: int = 0
    rebuild: tuple[str, ...] | None = None


Step = tuple[str, State]


def explore(guards: Guards, bound: Bound) -> Found:
    """Visit all states breadth first, until one breaks an invariant."""
    start = State(
        (("I", 0),), Row("now"), frozenset(), (Worker(),) * bound.workers, bound.outsiders
    )
    return search(start, _Model(guards, bound).steps, wrong)


# ---- what the events mean


def meaning(letters: str) -> tuple[str, bool]:
    """Return what a flow does after these events, and whether it wants a worker by itself."""
    does, wants = "pending", True
    for letter in letters:
        match letter:
            case "S":
                does, wants = "running", True
            case "R":
                does, wants = "pending", True
            case "X":
                does, wants = "failed", False
            case "W":
                does, wants = "waiting", False
            case "T":
                does, wants = "timer", False
            case "G":
                wants = wants or does in {"waiting", "timer"}
            case "Q":
                wants = wants or does not in ENDS
            case "C" | "K":
                does, wants = letter, False
            case _:
                pass
    return does, wants


def wrong(state: State) -> str | None:
    """Return which invariant a state breaks."""
    letters = "".join(letter for letter, _ in state.log)
    return _wrong_log(state, letters) or _wrong_row(state, letters)


def _wrong_log(state: State, letters: str) -> str | None:
    tokens = [token for _, token in state.log if token]
    end = min([letters.find(letter) for letter in ENDS if letter in letters], default=len(letters))
    if "-" in letters:
        return "a gap in the versions"
    if letters[end + 1 :].strip("GQ"):
        return "events after the end"
    if tokens != sorted(tokens):
        return "an append of an older lease after one of a newer"
    if _has_outcome_without_start(letters):
        return "an outcome without a start of its own"
    return None


def _wrong_row(state: State, letters: str) -> str | None:
    """Return what is wrong with the row, once no append and no rebuild is about to change it."""
    row = state.row
    does, wants = meaning(letters)
    if state.appends or state.rebuild or (state.losses and row is None):
        return None
    if does in ENDS:
        return None if row is None else "a row of a flow that is over"
    if row is None:
        return "no row of a flow that is not over"
    is_held = any(worker.does != "idle" and worker.token == row.lease for worker in state.workers)
    if row.due == "never" and not is_held and (wants or state.is_called):
        return "a lost wake-up"
    return None


def _has_outcome_without_start(letters: str) -> bool:
    is_running = False
    for letter in letters:
        if letter == "S":
            is_running = True
        elif letter in "FXWT":
            if not is_running:
                return True
            is_running = False
    return False


# ---- the transitions


class _Model:
    def __init__(self, guards: Guards, bound: Bound) -> None:
        self._guards = guards
        self._bound = bound

    def steps(self, state: State) -> Iterator[Step]:
        """Yield each state that one step leads to, with what happens."""
        yield from self._server(state)
        yield from self._time(state)
        for place, worker in enumerate(state.workers):
            yield from self._worker(state, place, worker)
        yield from self._outsiders(state)
        yield from self._rebuild(state)

    # the server goes on with what was sent to it

    def _server(self, state: State) -> Iterator[Step]:
        for append in state.appends:
            others = state.appends - {append}
            if append.row:
                yield f"{append.letters} commits", self._commit(state, append, others)
            elif not self._is_locked(state):
                row = self._changed(state.row, append)
                changed = append._replace(row=(row,))
                yield (
                    f"{append.letters} changes the row",
                    state._replace(appends=others | {changed}),
                )

    def _is_locked(self, state: State) -> bool:
        return state.rebuild == ("locked",) or any(append.row for append in state.appends)

    def _commit(self, state: State, append: InFlight, others: frozenset[InFlight]) -> State:
        log = state.log + tuple((letter, append.token) for letter in append.letters)
        # a row that the append found in place may have been claimed since, if it left it alone
        row = append.row[0] if _touches(append) else state.row
        after = state._replace(log=log, row=row, appends=others)
        if append.who < 0:
            return after
        worker = state.workers[append.who]
        if worker.token != append.token or worker.does == "idle":
            return after
        goes_on = append.letters[-1] == "S"
        return _with(after, append.who, Worker(worker.token, log, "runs") if goes_on else Worker())

    def _changed(self, row: Row | None, append: InFlight) -> Row | None:
        """Return the row after an append: `change_flow_run`."""
        for letter in append.letters:
            if row is None:
                return None
            match letter:
                case "C" | "K":
                    row = None
                case "X":
                    row = Row("never")
                case "R":
                    row = Row("until" if append.token else "now")
                case "W" | "T":
                    is_called = self._guards.called and row.called
                    row = Row("now" if is_called else {"W": "never", "T": "until"}[letter])
                case "G" | "Q" if not append.token:
                    row = _called(row)
                case _:
                    pass
        return row

    def _time(self, state: State) -> Iterator[Step]:
        row = state.row
        if row is not None and row.due in {"until", "lease"} and not self._is_locked(state):
            ends = "the timer ends" if row.due == "until" else "the lease ends"
            yield ends, state._replace(row=row._replace(due="now"))

    # workers

    def _worker(self, state: State, place: int, worker: Worker) -> Iterator[Step]:
        is_busy = any(append.who == place for append in state.appends)
        if worker.does == "idle":
            if not is_busy:
                yield from self._claim(state, place)
            return
        if state.crashes < self._bound.crashes:
            crashed = state._replace(crashes=state.crashes + 1)
            yield f"worker {place} dies", _with(crashed, place, Worker())
        yield from self._renew(state, place, worker)
        if is_busy:
            return
        if worker.does == "claimed":
            loaded = state._replace(is_called=False)
            read = Worker(worker.token, state.log, "looks")
            yield f"worker {place} reads the log", _with(loaded, place, read)
        elif worker.does == "looks":
            yield from self._look(state, place, worker)
        else:
            yield from self._give_back(state, place, worker, "now", "stops")
            for letters in self._bound.outcomes:
                yield from self._append(state, place, worker, letters)

    def _claim(self, state: State, place: int) -> Iterator[Step]:
        row = state.row
        if row is None or self._is_locked(state) or state.claims == self._bound.claims:
            return
        if row.due != "now":
            if self._bound.takes and row.lease == NOBODY:
                held, token = Row("lease", state.claims + 1, row.called), state.claims + 1
                taken = state._replace(row=held, claims=token)
                yield f"worker {place} takes", _with(taken, place, Worker(token, (), "claimed"))
            return
        token = state.claims + 1
        claimed = state._replace(row=Row("lease", token, row.called), claims=token)
        yield f"worker {place} claims", _with(claimed, place, Worker(token, (), "claimed"))
        if state.crashes < self._bound.crashes:
            label = f"worker {place} claims, the reply is lost"
            yield label, claimed._replace(crashes=state.crashes + 1)

    def _renew(self, state: State, place: int, worker: Worker) -> Iterator[Step]:
        row = state.row
        if row is None or row.lease != worker.token or self._is_locked(state):
            return
        if row.due == "now":
            yield f"worker {place} renews", state._replace(row=row._replace(due="lease"))
        letters = "".join(letter for letter, _ in state.log)
        if row.called and "Q" in letters and worker.does == "runs":
            read = Worker(worker.token, state.log, "looks")
            yield (
                f"worker {place} renews, and hears that it is to cancel",
                _with(state, place, read),
            )

    def _look(self, state: State, place: int, worker: Worker) -> Iterator[Step]:
        letters = "".join(letter for letter, _ in worker.log)
        does, wants = meaning(letters)
        if does in ENDS:
            yield f"worker {place} sees the end", _with(state, place, Worker())
        elif "Q" in letters:
            yield from self._append(state, place, worker, "K")
        elif wants or does == "timer":
            yield from self._append(state, place, worker, "S")
        else:
            yield from self._give_back(state, place, worker, "never", "gives back")

    def _give_back(
        self, state: State, place: int, worker: Worker, due: str, how: str
    ) -> Iterator[Step]:
        if self._is_locked(state):
            return
        row = state.row
        if row is not None and row.lease == worker.token:
            row = Row("now" if self._guards.called and row.called else due)
        yield f"worker {place} {how}", _with(state._replace(row=row), place, Worker())

    def _append(self, state: State, place: int, worker: Worker, letters: str) -> Iterator[Step]:
        """Send an append with the worker's lease, which expects the version that it has read."""
        if _is_taken(state, len(worker.log)):
            return  # it waits for the key
        who = f"worker {place}"
        is_stale = state.row is None or state.row.lease != worker.token
        is_mixed = not self._guards.same_lease and "G" in state.outsiders
        if is_mixed and is_stale and len(state.log) == len(worker.log):
            gap = state._replace(log=(*state.log, ("-", 0), ("G", 0)))
            yield f"{who} stores {letters} and, behind it, G without a lease", gap
        if is_stale and self._guards.fence:
            yield f"{who}: StaleLease", _with(state, place, Worker())
        elif len(state.log) != len(worker.log):
            fresh = "".join(letter for letter, _ in state.log[len(worker.log) :])
            does = worker.does if not fresh.strip("G") else "looks"
            read = Worker(worker.token, state.log, does)
            yield f"{who} conflicts, and reads {fresh}", _with(state, place, read)
        elif len(state.log) + len(letters) <= self._bound.events:
            append = InFlight(place, len(state.log), letters, worker.token)
            yield f"{who} stores {letters}", state._replace(appends=state.appends | {append})

    # others

    def _outsiders(self, state: State) -> Iterator[Step]:
        does, _ = meaning("".join(letter for letter, _ in state.log))
        for letter in dict.fromkeys(state.outsiders):
            if _is_taken(state, len(state.log)) or does in ENDS:
                continue
            if (letter == "R" and does != "failed") or len(state.log) >= self._bound.events:
                continue
            rest = list(state.outsiders)
            rest.remove(letter)
            append = InFlight(-1, len(state.log), letter, NOBODY)
            yield (
                f"somebody stores {letter}",
                state._replace(outsiders=tuple(rest), appends=state.appends | {append}),
            )
        if state.calls < self._bound.calls and state.row is not None and not self._is_locked(state):
            called = state._replace(calls=state.calls + 1, row=_called(state.row), is_called=True)
            yield "the flow is called", called

    def _rebuild(self, state: State) -> Iterator[Step]:
        is_free = state.row is not None and not state.rebuild and not self._is_locked(state)
        if is_free and state.losses < self._bound.losses:
            yield "the row is lost", state._replace(row=None, losses=state.losses + 1)
        letters = "".join(letter for letter, _ in state.log)
        if state.rebuild is None:
            if state.rebuilds == self._bound.rebuilds:
                return
            begun = state._replace(rebuilds=state.rebuilds + 1)
            if not self._guards.lock_before_rebuild:
                yield "rebuild reads", begun._replace(rebuild=("read", letters))
            elif not self._is_locked(state):
                yield "rebuild locks", begun._replace(rebuild=("locked",))
            return
        if self._guards.lock_before_rebuild:
            yield "rebuild reads and writes", _rebuilt(state, letters)
        elif not self._is_locked(state):
            yield "rebuild writes", _rebuilt(state, state.rebuild[1])


def _with(state: State, place: int, worker: Worker) -> State:
    workers = state.workers
    return state._replace(workers=(*workers[:place], worker, *workers[place + 1 :]))


def _called(row: Row) -> Row:
    return Row("now") if row.lease == NOBODY else row._replace(called=True)


def _touches(append: InFlight) -> bool:
    """Return whether an append changes, and so locks, the row, if there is one."""
    return bool(set(append.letters) & set("XRWTCK")) or (
        not append.token and bool(set(append.letters) & set("GQ"))
    )


def _is_taken(state: State, version: int) -> bool:
    return any(
        append.version <= version < append.version + len(append.letters) for append in state.appends
    )


def _rebuilt(state: State, letters: str) -> State:
    does, wants = meaning(letters)
    due = "now" if wants else {"timer": "until"}.get(does, "never")
    row = state.row
    if row is None:
        row = None if does in ENDS else Row(due)
    elif row.lease == NOBODY and ("now", "until", "never").index(due) < (
        "now",
        "until",
        "never",
    ).index(row.due):
        row = Row(due)
    return state._replace(row=row, rebuild=None)

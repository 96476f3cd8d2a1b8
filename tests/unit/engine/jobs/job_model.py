"""A model of one job: two workers, each of which may die or lose its lease at any point.

A submission that its worker has begun may reach the queue after the lease is over, and a job that
was accepted is listed later; but both happen before the time to settle is over: that is what the
time is for. The decisions are those of the library, by what it reads from the log.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from chem_persistence import FlowEvent
from chem_persistence.engine.jobs.history import has_settled, job_history
from tests.unit.engine.jobs.facts import events

__all__ = ["START", "Rules", "State", "steps", "two_jobs"]

MOST_EVENTS, MOST_CLAIMS = 10, 4


class Worker(NamedTuple):
    """`token` is its claim's; `phase` is idle, held, or submitting; `asked` is set by a reply."""

    token: int = 0
    phase: str = "idle"


class State(NamedTuple):
    log: str
    lease: int  # the token of the claim; 0: nobody's
    due: str  # now, or later: when the queue has settled
    called: bool
    workers: tuple[Worker, Worker]
    listed: int  # jobs that the queue lists
    unlisted: int  # jobs that it has accepted
    claims: int
    signals: int


START = State("I", 0, "now", False, (Worker(), Worker()), 0, 0, 0, 1)


class Rules(NamedTuple):
    """The library's, or those of a mutant."""

    settled: Callable[[Sequence[FlowEvent]], bool] = has_settled
    starts_that_submit: int = 1
    settles: bool = True


def steps(rules: Rules) -> Callable[[State], Iterator[tuple[str, State]]]:
    """Return what can happen next."""

    def following(state: State) -> Iterator[tuple[str, State]]:
        yield from _outside(state)
        for index, worker in enumerate(state.workers):
            yield from _of(state, index, worker, rules)

    return following


def two_jobs(state: State) -> str | None:
    return "two jobs" if state.listed + state.unlisted > 1 else None


def _outside(state: State) -> Iterator[tuple[str, State]]:
    if state.unlisted:
        yield "the job is listed", state._replace(listed=state.listed + 1, unlisted=0)
    late = any(each.phase == "submitting" and each.token != state.lease for each in state.workers)
    if state.due == "later" and not state.unlisted and not late:
        yield "the queue has settled", state._replace(due="now")
    if state.lease:
        yield "the lease ends", state._replace(lease=0, due="now")
    if state.signals and len(state.log) < MOST_EVENTS:
        spoken = state._replace(log=state.log + "g", signals=state.signals - 1)
        yield (
            "a signal",
            spoken._replace(called=True) if state.lease else spoken._replace(due="now"),
        )


def _of(state: State, index: int, worker: Worker, rules: Rules) -> Iterator[tuple[str, State]]:
    def now(changed: State, then: Worker) -> State:
        workers = list(changed.workers)
        workers[index] = then
        return changed._replace(workers=(workers[0], workers[1]))

    name = f"worker {index}"
    if worker.phase == "idle":
        is_open = "j" not in state.log  # once the job is known, it is only polled
        if is_open and not state.lease and state.due == "now" and state.claims < MOST_CLAIMS:
            token = state.claims + 1
            claimed = state._replace(lease=token, claims=token, called=False)
            yield f"{name} claims", now(claimed, Worker(token, "held"))
        return
    yield f"{name} dies", now(state, Worker())
    if worker.phase == "submitting":
        accepted = state._replace(unlisted=state.unlisted + 1)
        yield f"{name} submits", now(accepted, worker._replace(phase="j"))
        yield (
            f"{name} submits, and the reply is a failure",
            now(accepted, worker._replace(phase="e")),
        )
        yield f"{name} is refused", now(state, worker._replace(phase="e"))
    elif state.lease != worker.token:
        yield f"{name} has lost its lease", now(state, Worker())
    elif len(state.log) < MOST_EVENTS:
        for fact in worker.phase if worker.phase != "held" else _decided(state, rules):
            yield f"{name} appends {fact}", now(*_appended(state, worker, fact, rules))


def _decided(state: State, rules: Rules) -> str:
    """Return what a worker appends that has just claimed the flow, or has started its step."""
    last = state.log.rstrip("g")[-1]
    if last in "we":
        if not rules.settled(events(state.log)):
            return "w" if last == "w" else "e"
        return "j" if state.listed else "S"
    return "S"


def _appended(state: State, worker: Worker, fact: str, rules: Rules) -> tuple[State, Worker]:
    added = state._replace(log=state.log + fact)
    if fact == "S":
        if _starts(added.log) <= rules.starts_that_submit or not rules.settles:
            return added, worker._replace(phase="submitting")
        return added, worker._replace(phase="w")
    due = "now" if state.called else "later"
    return added._replace(lease=0, due=due, called=False), Worker()


@cache
def _starts(log: str) -> int:
    return job_history(events(log), 0).starts

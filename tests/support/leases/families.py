"""Flows that run other flows, whose steps a test holds, lets fail and counts."""

from collections import Counter
from typing import Any
from uuid import UUID

from chem_persistence import (
    Flow,
    FlowEvent,
    FlowParent,
    Gathered2,
    Many,
    Step,
    StepContext,
    flow,
)
from chem_persistence.store.leasing.children import child_id, parent_of
from tests.support.leases.desk import Desk
from tests.support.leases.staff import Act, Acts, Number

__all__ = [
    "Add",
    "Difference",
    "List",
    "Picky",
    "Sum",
    "children_of",
    "halved",
    "listed",
    "mapped",
]


class List(Step[Number, Many[Number]]):
    """The numbers below the one given."""

    id = "list"

    async def run(self, number: Number, _context: StepContext) -> Many[Number]:
        return Many(tuple(Number(n) for n in range(number.n)))


class Sum(Step[Many[Number], Number]):
    id = "sum"

    async def run(self, many: Many[Number], _context: StepContext) -> Number:
        return Number(sum(number.n for number in many.items))


class Add(Step[Number, Number]):
    """Adds to a number."""

    def __init__(self, more: int, id: str = "add") -> None:  # noqa: A002
        self.id = id
        self.version = f"adds {more}"
        self.more = more

    async def run(self, number: Number, _context: StepContext) -> Number:
        return Number(number.n + self.more)


class Difference(Step[Gathered2[Number, Number], Number]):
    id = "difference"

    async def run(self, both: Gathered2[Number, Number], _context: StepContext) -> Number:
        return Number(both.second.n - both.first.n)


class Picky(Step[Number, Number]):
    """Raises for some numbers, until the test empties `bad`; counts its runs."""

    id = "picky"

    def __init__(self, bad: set[int] | None = None) -> None:
        self.bad = set() if bad is None else bad
        self.runs: Counter[int] = Counter()

    async def run(self, number: Number, _context: StepContext) -> Number:
        self.runs[number.n] += 1
        if number.n in self.bad:
            raise ValueError(f"not {number.n}")
        return Number(10 * number.n)


def listed() -> Flow[Number, Many[Number]]:
    return flow("listed", List())


def mapped(step: Step[Number, Number], **options: Any) -> Flow[Number, Number]:
    """Return the flow that sums what a step makes of each number below the one given."""
    return listed().map(flow("item", step), **options).then(Sum())


def halved(acts: Acts) -> Flow[Number, Number]:
    """Return a flow of one step of `acts`."""
    return flow("half", Act(acts, "half"))


async def children_of(desk: Desk, parent: UUID, step_index: int, count: int) -> list[UUID]:
    """Return the ids of those children of a step that were submitted; check that they are its."""
    ids = [child_id(parent, step_index, item) for item in range(count)]
    there = []
    for item, flow_id in enumerate(ids):
        events: list[FlowEvent] = await desk.store.list(flow_id)
        if events:
            assert parent_of(events) == FlowParent(parent, step_index, item)
            there.append(flow_id)
    return there

"""Steps that run other flows take over a result as a whole, or their children take over theirs."""

from collections import Counter

from chem_persistence import Flow, FlowInitialized, Many, StepFinished, flow
from tests.contract.reuse.test_steps import Count, done, engine_of, origins, runs
from tests.support.leases.desk import Desk
from tests.support.leases.families import List, Sum, children_of
from tests.support.leases.staff import Number, chain, client_of, trace, working

__all__ = ["runs"]


class Listed(List):
    reuse = "any"


class Summed(Sum):
    reuse = "any"


def screen(
    runs: Counter[str], *versions: str, reuse: bool = False, at_once: int = 4
) -> Flow[Number, Number]:
    """Return a flow that maps steps of these versions over the numbers below the one given."""
    item = chain(*(Count(runs, f"item {at}", version) for at, version in enumerate(versions)))
    listed: Flow[Number, Many[Number]] = flow("screen", Listed())
    mapped = listed.map(item, at_once=at_once, reuse="any" if reuse else "never")
    return mapped.then(Summed())


async def test_a_map_that_asks_for_it_is_taken_over_without_its_children(
    desk: Desk, runs: Counter[str]
) -> None:
    whole = screen(runs, "1", reuse=True)
    first, second = await done(desk, whole, 5), await done(desk, whole, 5)
    assert await trace(desk, second) == "IFFFC"
    assert [origin and origin.flow_id for origin in await origins(desk, second)] == [first] * 3
    assert await children_of(desk, second, 1, 5) == []
    assert runs == {"item 0": 5}


async def test_children_are_completed_by_what_they_take_over_when_they_are_submitted(
    desk: Desk, runs: Counter[str]
) -> None:
    await done(desk, screen(runs, "1", "1"), 9)
    larger = await done(desk, screen(runs, "1", "1"), 12)  # a list that has grown
    # it waits unless its worker has run the three others before it looks again
    assert await trace(desk, larger) in ("ISFSWFSFC", "ISFSFSFC")
    children = await children_of(desk, larger, 1, 12)
    traces = [await trace(desk, child) for child in children]
    assert traces == ["IFFC"] * 9 + ["ISFSFC"] * 3
    assert runs == {"item 0": 12, "item 1": 12}
    again = await done(desk, screen(runs, "1", "1"), 12)
    assert await trace(desk, again) == "IFSFFC"  # without a wait: no child had to be run
    assert [await desk.row(child) for child in await children_of(desk, again, 1, 12)] == [None] * 12


async def test_with_another_last_step_the_children_run_that_alone(
    desk: Desk, runs: Counter[str]
) -> None:
    await done(desk, screen(runs, "1", "1", reuse=True), 5)
    changed = await done(desk, screen(runs, "1", "2", reuse=True), 5)
    traces = [await trace(desk, child) for child in await children_of(desk, changed, 1, 5)]
    assert traces == ["IFSFC"] * 5
    assert runs == {"item 0": 5, "item 1": 10}


async def test_children_inherit_that_nothing_is_taken_over(desk: Desk, runs: Counter[str]) -> None:
    whole = screen(runs, "1", reuse=True)
    await done(desk, whole, 3)
    second = await done(desk, whole, 3, reuse=False)
    children = await children_of(desk, second, 1, 3)
    assert [await trace(desk, child) for child in children] == ["ISFC"] * 3
    firsts = [(await desk.store.list(child, limit=1))[0] for child in children]
    assert [first.metadata for first in firsts] == [{"reuse": "never"}] * 3
    assert all(isinstance(first.kind, FlowInitialized) and first.kind.due for first in firsts)
    engine = engine_of(desk, whole)
    await engine.run_to_end(input=Number(3), reuse=False)
    assert runs == {"item 0": 9}


async def test_a_program_without_worker_completes_such_children_too(
    desk: Desk, runs: Counter[str]
) -> None:
    engine = engine_of(desk, screen(runs, "1", "1"))
    await engine.run_to_end(input=Number(4))
    second = await engine.run_to_end(input=Number(4))
    children = await children_of(desk, second, 1, 4)
    assert [await trace(desk, child) for child in children] == ["IFFC"] * 4
    assert runs == {"item 0": 4, "item 1": 4}


async def test_the_other_steps_with_children_take_over_as_well(
    desk: Desk, runs: Counter[str]
) -> None:
    one = chain(Count(runs, "one", reuse="never"))
    begin: Flow[Number, Number] = flow("all", Count(runs, "begin", reuse="never"))
    parent = (
        begin.call(one, id="call", reuse="any")
        .choose(lambda _: "one", {"one": one}, reuse="any")
        .repeat(one, id="loop", until=lambda number: number.n > 5, limit=9, reuse="any")
        .gather(one, one, reuse="any")
    )
    await done(desk, parent)
    runs.clear()
    third = await done(desk, parent)
    assert await trace(desk, third) == "ISFFFFFC"
    assert runs == {"begin": 1}


async def test_tolerated_failures_are_taken_over_with_the_result(
    desk: Desk, runs: Counter[str]
) -> None:
    item = chain(Count(runs, "item"))
    listed: Flow[Number, Many[Number]] = flow("screen", Negative())
    tolerant = listed.map(item, failures=1.0, reuse="any")
    client = client_of(desk)
    async with working(desk, [tolerant]):
        await client.result(tolerant, await client.submit(tolerant, Number(3)))
        flow_id = await client.submit(tolerant, Number(3))
        result = await client.result(tolerant, flow_id)
    assert (result.items, result.missing) == ((Number(1), Number(2)), (2,))
    finished = (await desk.store.list(flow_id))[-2].kind
    assert isinstance(finished, StepFinished)
    assert finished.reused_from
    assert runs == {"item": 3}


class Negative(Listed):
    """Two numbers, and one that fails."""

    id = "negative"

    async def run(self, number: Number, _context: object) -> Many[Number]:
        return Many((Number(0), Number(1), Number(-number.n)))

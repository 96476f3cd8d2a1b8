"""What a store finds of the results of earlier steps, the same in memory and in PostgreSQL."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from chem_persistence import (
    FlowCompleted,
    FlowEventKind,
    InvalidArgument,
    StepFinished,
    StepSignal,
    StepStarted,
)
from chem_persistence.domain.events import INVALIDATED, LibrarySignal, ResultOrigin
from chem_persistence.store.reuse.results import Result, TakenOver
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import NOW, Desk

ONE, TWO, OUT = "1" * 64, "2" * 64, "a" * 64
STARTED = StepStarted(0, "acquire")


def finished(
    fingerprint: str = ONE, *outputs: str, origin: ResultOrigin | None = None
) -> StepFinished:
    fact = StepFinished(0, "acquire", outputs or (OUT,), fingerprint)
    return fact if origin is None else StepFinished(0, "acquire", (OUT,), fingerprint, origin)


def invalidation(step_index: int = 0) -> LibrarySignal:
    return LibrarySignal(step_index, "acquire", INVALIDATED, {"reason": "wrong"})


async def flow_of(desk: Desk, *facts: FlowEventKind) -> UUID:
    return await desk.submit(NOW, *facts)


async def found(desk: Desk, fingerprint: str, most: int = 1) -> Sequence[Result]:
    results = await desk.store.find_results([fingerprint], most=most)
    return results.get(fingerprint, ())


async def test_the_oldest_result_is_found_by_its_fingerprint(every_desk: Desk) -> None:
    first = await flow_of(every_desk, STARTED, finished(ONE, OUT, "b" * 64))
    second = await flow_of(every_desk, STARTED, finished(), FlowCompleted("e" * 64))
    expected = [
        Result(ResultOrigin(first, 2), (OUT, "b" * 64)),
        Result(ResultOrigin(second, 2), (OUT,)),
    ]
    assert list(await found(every_desk, ONE)) == expected[:1]
    assert list(await found(every_desk, ONE, most=9)) == expected
    assert await found(every_desk, TWO) == ()
    assert await every_desk.store.find_results([]) == {}


async def test_many_fingerprints_are_looked_up_at_once(every_desk: Desk) -> None:
    flow_id = await flow_of(every_desk, finished(TWO), finished(ONE))
    results = await every_desk.store.find_results([ONE, "3" * 64, TWO])
    origins = {name: [each.origin.version for each in rows] for name, rows in results.items()}
    assert origins == {ONE: [2], TWO: [1]}
    assert results[ONE][0].origin.flow_id == flow_id


async def test_what_was_taken_over_is_no_result_but_its_origin_knows_it(every_desk: Desk) -> None:
    first = await flow_of(every_desk, STARTED, finished())
    origin = ResultOrigin(first, 2)
    copy = await flow_of(every_desk, finished(origin=origin))
    assert [each.origin for each in await found(every_desk, ONE, most=9)] == [origin]
    taken = TakenOver(flow_id=copy, version=1, step_id="acquire", origin=origin)
    assert await every_desk.store.taken_over(first) == [taken]
    assert await every_desk.store.taken_over(first, limit=0) == []
    assert await every_desk.store.taken_over(copy) == []


async def test_a_result_that_was_invalidated_is_not_found(every_desk: Desk) -> None:
    first = await flow_of(every_desk, STARTED, finished())
    second = await flow_of(every_desk, STARTED, finished())
    store = every_desk.store
    await store.append_kind(first, FlowCompleted("e" * 64))
    await store.append_kind(first, StepSignal(0, "acquire", "hello"))
    assert (await found(every_desk, ONE))[0].origin.flow_id == first
    await store.append_kind(first, invalidation())
    assert (await found(every_desk, ONE))[0].origin.flow_id == second
    await store.append_kind(second, invalidation(1))  # of another step
    assert (await found(every_desk, ONE))[0].origin.flow_id == second
    await store.append_kind(second, invalidation())
    assert await found(every_desk, ONE) == ()


async def test_the_result_of_a_transaction_is_found_when_it_is_committed(desk: Desk) -> None:
    flow_id = new_flow_id()
    async with desk.store.transaction() as transaction:
        await transaction.append_kinds(flow_id, [STARTED, finished()])
        assert await found(desk, ONE) == ()
    assert (await found(desk, ONE))[0].origin == ResultOrigin(flow_id, 1)


async def test_what_cannot_name_a_flow_is_refused(every_desk: Desk) -> None:
    with pytest.raises(InvalidArgument):
        await every_desk.store.taken_over(UUID(int=0))
    with pytest.raises(InvalidArgument):
        await every_desk.store.taken_over(new_flow_id(), limit=-1)
